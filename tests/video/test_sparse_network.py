"""Is a network that is computed in part the dense one: under a full mask, where the mask covers, and inside it?"""

from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bale.errors import VideoError
from bale.video.sparse.layer import INPUT, Layer
from bale.video.sparse.network import SparseConfig, SparseNetwork

leaky = partial(F.leaky_relu, negative_slope=0.1, inplace=True)


def small_flownet() -> list[Layer]:
    """FlowNet-S's shape, small: an encoder, a transposed way back, and joins of both; one value is in two joins."""
    torch.manual_seed(0)
    return [
        Layer("down1", (INPUT,), nn.Conv2d(4, 6, 5, 2, 2), leaky),
        Layer("down2", ("down1",), nn.Conv2d(6, 8, 3, 2, 1), leaky),
        Layer("down2_1", ("down2",), nn.Conv2d(8, 8, 3, 1, 1, groups=2), leaky),
        Layer("flow2", ("down2_1",), nn.Conv2d(8, 2, 3, 1, 1)),
        Layer("up1", ("down2_1",), nn.ConvTranspose2d(8, 5, 4, 2, 1), leaky),
        Layer("flow2up", ("flow2",), nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=False)),
        Layer("flow1", ("down1", "up1", "flow2up"), nn.Conv2d(13, 2, 3, 1, 1)),
        Layer("mixed", ("up1", "down1"), nn.Conv2d(11, 3, 3, 1, 2, dilation=2)),
        Layer("up0", ("down1", "up1", "flow2up"), nn.ConvTranspose2d(13, 2, 4, 2, 1)),
    ]


OUTPUTS = ("flow1", "mixed", "up0", "down2_1")


def dense(layers: list[Layer], x: torch.Tensor) -> dict[str, torch.Tensor]:
    values = {INPUT: x}
    with torch.no_grad():
        for layer in layers:
            made = layer.module(torch.cat([values[name] for name in layer.inputs], dim=1))
            values[layer.name] = made if layer.activation is None else layer.activation(made)
    return values


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)


def change(x: torch.Tensor, mask: np.ndarray, block: int, generator: torch.Generator) -> torch.Tensor:
    pixels = np.kron(mask, np.ones((block, block), bool))[: x.shape[2], : x.shape[3]]
    return x + torch.randn(x.shape, generator=generator) * torch.from_numpy(pixels)


@given(st.sampled_from([(16, 24), (32, 32), (20, 28)]), st.sampled_from([2, 8, 16]), st.sampled_from([2, 3, 8]),
       st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 99))  # fmt: skip
@settings(max_examples=60)
def test_where_the_mask_covers_what_changed_the_result_is_the_dense_one(size, tile, block, above, seed):
    layers, draw, rng = small_flownet(), torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    config = SparseConfig(tile=tile, dense_above=above)
    stream = SparseNetwork(layers, OUTPUTS, config).start(size, 4, block)
    x = torch.randn(1, 4, *size, generator=draw)
    same(stream.run(x), dense(layers, x))
    for share in (0.0, 0.05, 0.3):
        mask = rng.random((-(-size[0] // block), -(-size[1] // block))) < share
        x = change(x, mask, block, draw)
        same(stream.run(x, changed=mask), dense(layers, x))


@pytest.mark.parametrize("grow", ["exact", "mask"])
@pytest.mark.parametrize("above", [0.0, 1.0])
def test_a_full_mask_is_the_dense_network(grow, above):
    layers, draw = small_flownet(), torch.Generator().manual_seed(0)
    config = SparseConfig(grow=grow, dilate=0, dense_above=above)
    stream = SparseNetwork(layers, OUTPUTS, config).start((32, 48), 4, 8)
    for _ in range(3):
        x = torch.randn(1, 4, 32, 48, generator=draw)
        same(stream.run(x, changed=np.ones((4, 6), bool)), dense(layers, x))
    # Tiles of transposed convolutions begin before the map, and are computed whole.
    assert stream.work.share == 1 if above == 0 else 1 < stream.work.share < 1.4


def test_inside_a_mask_that_is_not_grown_the_result_is_the_dense_one_and_outside_the_old_one():
    layers, draw = small_flownet()[:1] + [Layer("next", ("down1",), nn.Conv2d(6, 3, 3, 1, 1))], torch.Generator()
    stream = SparseNetwork(layers, ("next",), SparseConfig(8, "mask", 0, dense_above=1.0)).start((64, 64), 4, 8)
    x = torch.randn(1, 4, 64, 64, generator=draw.manual_seed(0))
    before = stream.run(x)["next"]
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    x = change(x, mask, 8, draw)
    after, expected = stream.run(x, changed=mask)["next"], dense(layers, x)["next"]
    under = torch.zeros(32, 32, dtype=torch.bool)
    under[8:24, 8:24] = True
    assert torch.equal(after[..., ~under], before[..., ~under])
    # A cell of "next" reads 1 cell of "down1" to each side, of which those beyond the mask are stale.
    torch.testing.assert_close(after[..., 9:23, 9:23], expected[..., 9:23, 9:23])
    assert not torch.allclose(after[..., 8, 8:24], expected[..., 8, 8:24])


def test_a_mask_that_is_not_grown_computes_as_much_of_every_layer():
    encoder, config = small_flownet()[:4], SparseConfig(4, "mask", 0, dense_above=1.0)
    stream = SparseNetwork(encoder, ("flow2",), config).start((64, 64), 4, 16)
    stream.run(torch.zeros(1, 4, 64, 64))
    mask = np.zeros((4, 4), bool)
    mask[1, 1:3] = True
    stream.run(torch.zeros(1, 4, 64, 64), changed=mask)
    assert stream.work.share == 1 / 8


def test_coarse_layers_may_be_computed_always():
    encoder, draw = small_flownet()[:4], torch.Generator().manual_seed(0)
    config = SparseConfig(4, "mask", 0, dense_from=4, dense_above=1.0)
    stream = SparseNetwork(encoder, ("flow2",), config).start((64, 64), 4, 16)
    x = torch.randn(1, 4, 64, 64, generator=draw)
    stream.run(x)
    mask = np.zeros((4, 4), bool)
    mask[:, 1:3] = True
    x[..., 20:44] += 1  # "down1" sees two pixels further than it makes: all that changes of it is under the mask
    same(stream.run(x, changed=mask), dense(encoder, x))
    fine, coarse = stream.steps[0].macs, sum(step.macs for step in stream.steps[1:])
    assert stream.work.computed == fine // 2 + coarse


def test_an_empty_mask_computes_nothing_and_a_dilated_one_its_neighbours():
    encoder, x = small_flownet()[:4], torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    stream = SparseNetwork(encoder, ("flow2",), SparseConfig(16, "mask", 1, dense_above=1.0)).start((64, 64), 4, 16)
    first = stream.run(x)
    empty = np.zeros((4, 4), bool)
    again = stream.run(x + 1, changed=empty)
    assert stream.work.computed == 0
    assert torch.equal(again["flow2"], first["flow2"])
    empty[0, 0] = True
    stream.run(x, changed=empty)
    assert stream.work.share == 1 / 4


def test_work_counts_what_the_layers_multiply():
    stream = SparseNetwork(small_flownet(), OUTPUTS).start((32, 48), 4)
    stream.run(torch.zeros(1, 4, 32, 48))
    # down1, down2, down2_1 in two groups, flow2; transposed: up1, flow2up; flow1, mixed; transposed: up0
    half, quarter = 16 * 24, 8 * 12
    expected = half * 4 * 6 * 25 + quarter * (6 * 8 + 4 * 8 + 8 * 2) * 9 + quarter * (8 * 5 + 2 * 2) * 16
    expected += half * (13 * 2 + 11 * 3) * 9 + half * 13 * 2 * 16
    assert stream.work.computed == stream.work.dense == expected


def test_a_part_of_the_input_may_stay_as_it_was():
    layers, draw = small_flownet(), torch.Generator().manual_seed(0)
    stream = SparseNetwork(layers, OUTPUTS).start((32, 32), 4)
    new, old = torch.randn(1, 2, 32, 32, generator=draw), torch.randn(1, 2, 32, 32, generator=draw)
    with pytest.raises(VideoError, match="this stream is for"):
        stream.run(new, None)  # there is nothing before
    stream.run(new, old)
    new = torch.randn(1, 2, 32, 32, generator=draw)
    same(stream.run(new, None), dense(layers, torch.cat([new, old], dim=1)))
    same(stream.run(None, old), dense(layers, torch.cat([new, old], dim=1)))


def test_results_are_not_overwritten_by_the_next_call():
    stream = SparseNetwork(small_flownet(), OUTPUTS).start((32, 32), 4)
    first = stream.run(torch.zeros(1, 4, 32, 32))["flow1"]
    kept = first.clone()
    stream.run(torch.ones(1, 4, 32, 32))
    assert torch.equal(first, kept)


def test_masks_may_be_smaller_than_the_input_and_go_on_as_at_their_edges():
    layers, draw = small_flownet(), torch.Generator().manual_seed(0)
    config = SparseConfig(tile=2, dense_above=1.0)
    stream = SparseNetwork(layers, OUTPUTS, config).start((64, 64), 4, 8)
    x = torch.randn(1, 4, 64, 64, generator=draw)
    stream.run(x)
    mask = np.zeros((7, 8), bool)
    mask[6, 1] = True
    x[..., 48:, 8:16] += 1  # the last row of blocks repeats the one above
    same(stream.run(x, changed=mask), dense(layers, x))
    assert stream.work.share < 1


@pytest.mark.parametrize(
    "parts", [[(1, 3, 32, 32)], [(1, 4, 32, 30)], [(2, 4, 32, 32)], [(1, 4, 32, 32), (1, 1, 32, 32)]]
)
def test_an_input_of_another_size_is_refused(parts):
    stream = SparseNetwork(small_flownet(), OUTPUTS).start((32, 32), 4)
    with pytest.raises(VideoError, match=r"this stream is for \[1, 4, 32, 32\]"):
        stream.run(*[torch.zeros(shape) for shape in parts])


def test_networks_that_cannot_run_are_refused():
    layers = small_flownet()
    with pytest.raises(VideoError, match="layer down2: nothing before it makes down1"):
        SparseNetwork(layers[1:], OUTPUTS)
    with pytest.raises(VideoError, match="layer down1: two values of this name"):
        SparseNetwork(layers + layers[:1], OUTPUTS)
    with pytest.raises(VideoError, match="outputs flow9: expected names of layers"):
        SparseNetwork(layers, ("flow9",))
    with pytest.raises(VideoError, match=r"layer down1: its strides \(1, 2\) differ"):
        SparseNetwork([Layer("down1", (INPUT,), nn.Conv2d(4, 6, 5, (1, 2), 2))], ("down1",))
    with pytest.raises(VideoError, match="layer down1: it is given 3 channels of"):
        SparseNetwork(layers, OUTPUTS).start((32, 32), 3)
    with pytest.raises(VideoError, match=r"layer flow1: it is given 13 channels of .* multiples of its stride"):
        SparseNetwork(layers, OUTPUTS).start((30, 32), 4)
    with pytest.raises(VideoError, match="layer a: nothing is left of its input"):
        SparseNetwork([Layer("a", (INPUT,), nn.Conv2d(4, 4, 5))], ("a",)).start((4, 9), 4)


@pytest.mark.parametrize(
    "wrong", [{"tile": 0}, {"grow": "all"}, {"dilate": -1}, {"dense_above": 1.5}, {"dense_from": 0}]
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(VideoError, match=next(iter(wrong))):
        SparseConfig(**wrong)


def test_blocks_need_not_be_whole_cells():
    layers, draw = small_flownet(), torch.Generator().manual_seed(0)
    stream = SparseNetwork(layers, OUTPUTS, SparseConfig(dense_above=1.0)).start((32, 32), 4, Fraction(16, 3))
    x = torch.randn(1, 4, 32, 32, generator=draw)
    stream.run(x)
    mask = np.zeros((6, 6), bool)
    mask[2, 3] = True
    x[..., 10:16, 16:22] += 1  # 10.7 to 16 down, 16 to 21.3 across
    same(stream.run(x, changed=mask), dense(layers, x))


def test_after_a_call_that_failed_on_its_way_everything_is_computed_again():
    failing = []

    def sometimes(values: torch.Tensor) -> torch.Tensor:
        if failing:
            raise MemoryError(failing.pop())
        return values

    torch.manual_seed(0)
    layers = [
        Layer("first", (INPUT,), nn.Conv2d(4, 3, 3, 1, 1), leaky),
        Layer("second", ("first",), nn.Conv2d(3, 2, 3, 1, 1), sometimes),
    ]
    stream = SparseNetwork(layers, ("second",)).start((16, 16), 4, 8)
    stream.run(torch.randn(1, 4, 16, 16))
    x = torch.randn(1, 4, 16, 16)
    failing.append("too large")
    with pytest.raises(MemoryError):
        stream.run(x)
    same(stream.run(x, changed=np.zeros((2, 2), bool)), dense(layers, x))


def test_a_stream_keeps_the_weights_with_which_it_began():
    layers = small_flownet()
    stream = SparseNetwork(layers, OUTPUTS).start((16, 16), 4, 8)
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    before = stream.run(x)
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.module.parameters():
                parameter.zero_()
    after = stream.run(x)
    assert all(torch.equal(after[name], before[name]) and before[name].any() for name in OUTPUTS)
