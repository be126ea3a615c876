"""Is a block-circulant layer the plain layer with the weight written out, whichever way its products are made?"""

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils import _pytree as pytree

from bale.compress import BlockCirculantConfig, bake_, compress_
from bale.compress.fourier import fft_pays
from bale.compress.layers import Compressed
from bale.compress.layout import BlockCirculant
from bale.compress.matrix import Shape
from bale.compress.weights import coded_weights

SEEDS = st.integers(0, 1 << 20)
BLOCKS = st.sampled_from([2, 3, 4, 5, 7, 8])


def everywhere(module: nn.Module, name: str) -> bool:
    return True


# What is compared with: the weight, number by number.


def places(layout: BlockCirculant) -> Tensor:
    """Which stored number stands at each place of the weight, by the rule W[t, s] = w[(t - s) mod k]."""
    shape, k = layout.shape, layout.block
    numbers = torch.arange(torch.Size(layout.values_shape).numel()).reshape(layout.values_shape)
    blocks = layout.blocks(numbers).tolist()  # [parts, block rows, block columns, taps, k]
    found = [
        blocks[part][output // k][source // k][tap][(output % k - source % k) % k]
        for part in range(shape.parts)
        for output in range(shape.outputs)
        for source in range(shape.inputs)
        for tap in range(shape.taps)
    ]
    return torch.tensor(found).reshape(shape.weight)


def written_out(layer: Compressed) -> dict[str, Tensor]:
    """The weights of a layer, made of its stored numbers."""
    weights = {}
    for weight in coded_weights(layer):
        layout = weight.code.layout
        if isinstance(layout, BlockCirculant):
            weights[weight.key] = weight.code.values.flatten()[places(layout)]
        else:
            weights[weight.key] = weight.code.values
    return weights


def check_law(plain: nn.Module, block: int, *inputs: Any) -> None:
    """By Fourier transforms = written out by the layer = written out here: values and all gradients."""
    for kernel in ("fft", "direct"):
        layer = deepcopy(plain)
        compress_(layer, BlockCirculantConfig(block, kernel), everywhere)
        assert isinstance(layer, Compressed)
        biases = {name: bias for name, bias in layer.named_parameters() if "codes" not in name}
        sources = [*layer.parameters(), *leaves(inputs)]
        got = layer(*inputs)
        want = functional_call(plain, written_out(layer) | biases, inputs)
        compare(got, want, sources)
        with torch.no_grad():
            baked = bake_(layer)(*inputs)
        for a, b in zip(leaves(baked), leaves(got), strict=True):
            torch.testing.assert_close(a, b.detach(), rtol=1e-10, atol=1e-10)


def leaves(result: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def compare(got: Any, want: Any, sources: list[Tensor]) -> None:
    gradients = []
    for result in (got, want):
        generator = torch.Generator().manual_seed(0)
        weights = [torch.randn(leaf.shape, dtype=leaf.dtype, generator=generator) for leaf in leaves(result)]
        total = sum((leaf * weight).sum() for leaf, weight in zip(leaves(result), weights, strict=True))
        assert isinstance(total, Tensor)
        gradients.append(torch.autograd.grad(total, sources, allow_unused=True, materialize_grads=True))
    for a, b in zip((*leaves(got), *gradients[0]), (*leaves(want), *gradients[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def size(block: int, draw: st.DrawFn) -> int:
    """Outputs or inputs that the block divides, or does not."""
    return draw(st.integers(block, 2 * block + 2))


# The law, layer by layer.


@given(st.data(), BLOCKS, SEEDS, st.lists(st.integers(0, 3), max_size=3), st.booleans())
def test_linear(data, block, seed, before, bias) -> None:
    torch.manual_seed(seed)
    inputs, outputs = size(block, data.draw), size(block, data.draw)
    check_law(nn.Linear(inputs, outputs, bias, dtype=torch.float64), block, random(*before, inputs))


@st.composite
def convolutions(draw: st.DrawFn, axes: int) -> tuple[nn.Module, int, Tensor]:
    block, groups = draw(st.sampled_from([2, 3, 4, 5])), draw(st.sampled_from([1, 1, 2]))
    torch.manual_seed(draw(SEEDS))
    several = st.tuples(*[st.integers(1, 3)] * axes)
    stride, dilation = draw(several), draw(st.tuples(*[st.integers(1, 2)] * axes))
    padding = draw(st.one_of(st.just("valid"), st.just("same"), st.tuples(*[st.integers(0, 2)] * axes)))
    layer = (nn.Conv1d, nn.Conv2d)[axes - 1](
        inputs := groups * size(block, draw),
        groups * size(block, draw),
        draw(several),
        stride=1 if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "zeros", "circular"])),
        dtype=torch.float64,
    )
    samples = draw(st.sampled_from([(), (1,), (2,)]))
    return layer, block, random(*samples, inputs, *draw(st.tuples(*[st.integers(5, 7)] * axes)))


# torch says so of kernels of even size, whose padding is not the same on both sides
EVEN = pytest.mark.filterwarnings("ignore:Using padding='same'")


@EVEN
@given(convolutions(1))
def test_conv1d(drawn) -> None:
    check_law(*drawn)


@EVEN
@given(convolutions(2))
def test_conv2d(drawn) -> None:
    check_law(*drawn)


@given(st.data(), st.sampled_from([nn.LSTMCell, nn.GRUCell]), BLOCKS, SEEDS, st.booleans())
def test_cells(data, kind, block, seed, bias) -> None:
    torch.manual_seed(seed)
    inputs, hidden = size(block, data.draw), size(block, data.draw)
    samples = data.draw(st.sampled_from([(), (1,), (3,)]))
    given = [random(*samples, inputs)]
    if data.draw(st.booleans()):
        state = random(*samples, hidden)
        given.append((state, random(*samples, hidden)) if kind is nn.LSTMCell else state)  # type: ignore[arg-type]
    check_law(kind(inputs, hidden, bias, dtype=torch.float64), block, *given)


def test_a_cell_may_have_one_weight_alone_that_is_circulant() -> None:
    torch.manual_seed(0)
    for kind in (nn.LSTMCell, nn.GRUCell):
        check_law(kind(3, 8, dtype=torch.float64), 4, random(2, 3))  # of 3 inputs there are no blocks


@given(st.data(), st.sampled_from([nn.LSTM, nn.GRU]), st.sampled_from([2, 3, 4]), SEEDS)
def test_recurrent_layers(data, kind, block, seed) -> None:
    torch.manual_seed(seed)
    inputs, hidden = size(block, data.draw), size(block, data.draw)
    layers, bias, batch_first, both = data.draw(st.tuples(st.integers(1, 2), *[st.booleans()] * 3))
    layer = kind(inputs, hidden, layers, bias, batch_first, bidirectional=both, dtype=torch.float64)
    form = data.draw(st.sampled_from(["one", "many", "states", "packed"]))
    if form == "one":
        return check_law(layer, block, random(3, inputs))
    x = random(*(2, 3) if batch_first else (3, 2), inputs)
    if form == "packed":
        return check_law(layer, block, pack_padded_sequence(x, torch.tensor([3, 1]), batch_first))
    first = random(layers * (1 + both), 2, hidden)
    states = (first, random(*first.shape)) if kind is nn.LSTM else first
    return check_law(layer, block, x, *([states] if form == "states" else []))


def test_a_large_prime_block_and_one_larger_than_what_is_left() -> None:
    torch.manual_seed(0)
    check_law(nn.Linear(40, 33, dtype=torch.float64), 31, random(4, 40))
    check_law(nn.Conv2d(14, 13, (1, 5), dtype=torch.float64), 13, random(2, 14, 1, 9))


def test_no_samples_at_all() -> None:
    check_law(nn.Linear(6, 5, dtype=torch.float64), 4, random(0, 6))
    check_law(nn.Conv2d(6, 5, 3, padding=1, dtype=torch.float64), 4, random(0, 6, 4, 4))


def test_a_convolution_reads_maps_in_any_order_of_memory() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 5, 3, padding=1, dtype=torch.float64)
    check_law(layer, 4, random(2, 6, 4, 4).detach().to(memory_format=torch.channels_last).requires_grad_())
    check_law(layer, 4, random(2, 4, 4, 6).permute(0, 3, 1, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_multiplied_directly(dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    compress_(layer, BlockCirculantConfig(4, "fft"), everywhere)
    x = torch.randn(3, 8)
    want = layer(x)
    torch.testing.assert_close(layer.to(dtype)(x.to(dtype)).float(), want, rtol=0.05, atol=0.05)


def test_under_autocast_half_inputs_are_taken() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 8), nn.Linear(8, 8))
    compress_(model, BlockCirculantConfig(4, "fft"), lambda module, name: name in ("1", "4"))
    x = torch.randn(2, 1, 6, 6)
    want = model(x)
    with torch.autocast("cpu"):
        torch.testing.assert_close(model(x).float(), want, rtol=0.05, atol=0.05)


# The projection.


@st.composite
def layouts(draw: st.DrawFn) -> BlockCirculant:
    parts = draw(st.sampled_from([1, 1, 2, 4]))
    kernel = draw(st.sampled_from([(), (3,), (1, 2)]))
    return BlockCirculant(
        Shape((parts * draw(st.integers(1, 7)), draw(st.integers(1, 7)), *kernel), parts), draw(st.integers(2, 5))
    )


@given(layouts(), SEEDS)
def test_the_projection_is_that_of_least_squares(layout, seed) -> None:
    weight = torch.randn(layout.weight_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    values = layout.project(weight)
    assert values.shape == layout.values_shape
    where = places(layout).flatten()
    basis = torch.zeros(where.numel(), values.numel(), dtype=torch.float64)
    basis[torch.arange(where.numel()), where] = 1
    # gelsd: of all solutions the shortest, 0 for numbers that stand in padding alone
    best = torch.linalg.lstsq(basis, weight.reshape(-1, 1), driver="gelsd").solution.flatten()
    torch.testing.assert_close(values.flatten(), best, rtol=1e-10, atol=1e-10)


@given(layouts(), SEEDS)
def test_what_is_circulant_stays_as_it_is(layout, seed) -> None:
    values = torch.randn(layout.values_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    weight = layout.expand(values)
    assert torch.equal(weight, values.flatten()[places(layout)])
    torch.testing.assert_close(layout.expand(layout.project(weight)), weight, rtol=1e-12, atol=1e-12)


@given(layouts())
def test_what_is_said_of_padding_and_of_multiply_accumulates(layout) -> None:
    shape, k = layout.shape, layout.block
    assert layout.padded == (shape.outputs % k > 0 or shape.inputs % k > 0)
    rows, columns = -(-shape.outputs // k), -(-shape.inputs // k)
    log = {2: 1, 3: 2, 4: 2, 5: 3}[k]
    products = 4 * (k // 2 + 1) * shape.parts * rows * columns * shape.taps  # complex: four each
    assert layout.fft_macs == products + (columns + shape.parts * rows) * k * log


def test_auto_takes_transforms_where_they_pay() -> None:
    for size, block, pays in ((512, 8, True), (512, 4, False), (64, 8, False)):
        assert fft_pays(BlockCirculant(Shape((size, size)), block)) == pays
        layer = nn.Linear(size, size)
        compress_(layer, BlockCirculantConfig(block))
        assert layer.code("weight").by_fourier() == pays  # type: ignore[operator]
