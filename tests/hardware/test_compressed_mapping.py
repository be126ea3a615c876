"""Do columns on a chip hold what ADC-aware pruning promises, before and after training, and does its converter do?"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.hardware.made import chip_of
from torch import Tensor, nn

from bale.compress import ADCAwareConfig, BlockCirculantConfig, bake_, column_bounds, compress_
from bale.compress.weights import coded_weights
from bale.hardware import Chip, put_on_chip, run_on_chip, simulate
from bale.hardware.bounds import lossless
from bale.hardware.encode import Block, encode
from bale.hardware.layers import Matrix
from bale.hardware.quantize import Range, _integers

ENCODINGS = st.sampled_from(["differential", "sign-magnitude"])


def blocks_of(weight: Tensor, groups: int, chip: Chip) -> tuple[Block, ...]:
    """A weight [outputs, inputs, ...] on a chip."""
    matrix = Matrix("drawn", "drawn", weight.detach().flatten(1).unflatten(0, (groups, -1)).transpose(1, 2))
    return encode(_integers(matrix, chip, Range(0, 1)).weight.numpy(), chip)


@given(st.data(), ENCODINGS, st.integers(2, 10), st.integers(1, 4), st.integers(1, 3), st.integers(0, 1 << 20))
def test_bounds_of_a_weight_are_those_of_the_chip(data, encoding, weight_bits, cell_bits, dac_bits, seed) -> None:
    torch.manual_seed(seed)
    groups, outputs, inputs = data.draw(st.tuples(st.sampled_from([1, 1, 2, 3]), st.integers(1, 4), st.integers(1, 12)))
    weight = torch.randn(groups * outputs, inputs, dtype=data.draw(st.sampled_from([torch.float32, torch.float64])))
    weight[torch.rand(weight.shape) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))] = 0
    rows = data.draw(st.integers(1, 14))
    widest = 2 * -(-weight_bits // cell_bits)
    chip = chip_of(
        rows=rows,
        columns=data.draw(st.integers(widest, 8 * widest)),
        cell_bits=cell_bits,
        weight_bits=weight_bits,
        dac_bits=dac_bits,
        encoding=encoding,
    )
    bounds = column_bounds(weight, rows=rows, weight_bits=weight_bits, cell_bits=cell_bits, dac_bits=dac_bits)
    on_chip = lossless(blocks_of(weight, groups, chip), chip)
    assert (bounds.a_priori, bounds.exact) == (on_chip.a_priori, on_chip.exact)
    assert (bounds.a_priori_bits, bounds.exact_bits) == (on_chip.a_priori_bits, on_chip.exact_bits)


class LastStep(nn.Module):
    """An LSTM's last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def convolutions() -> nn.Module:
    # Groups of six rows: two side by side along the diagonal of a crossbar of 16.
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, (1, 3), groups=4), nn.Flatten(), nn.Linear(96, 3)
    )


NETWORKS = {
    "linear": (lambda: nn.Sequential(nn.Linear(40, 9), nn.ReLU(), nn.Linear(9, 3)), (6, 40)),
    "convolutions": (convolutions, (6, 2, 3, 6)),
    "lstm": (LastStep, (6, 4, 5)),
}


def train(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    for _ in range(4):
        optimizer.zero_grad()
        (model(x) - 2 * torch.randn(len(x), 3)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("encoding", ["differential", "sign-magnitude"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_column_of_a_network_exceeds_the_cap_and_no_conversion_clips(name, encoding) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model, x = make(), torch.rand(shape)
    config = ADCAwareConfig(adc_bits=3, rows=16, weight_bits=6, cell_bits=2)
    chip = chip_of(rows=16, columns=48, cell_bits=2, weight_bits=6, adc_bits=3, encoding=encoding)
    chip = replace(chip, tiles=1000)
    plain = put_on_chip(model, chip, x)
    assert min(mapped.bounds.a_priori_bits for mapped in plain.placement.matrices.values()) > 3
    compress_(model, config)
    for _ in range(2):
        for mapped in put_on_chip(model, chip, x).placement.matrices.values():
            assert mapped.bounds.exact <= mapped.bounds.a_priori <= 2**config.adc_bits - 1
            for block in mapped.blocks:
                # A weight that is not 0 may have slices of 0: l holds for each, and for them together.
                assert int((block.cells != 0).sum(0).max()) <= block.nonzeros <= config.most == 2
                assert weights_of_columns(block) <= config.most
        run = run_on_chip(put_on_chip(model, chip, x), model, x, every_conversion=True)
        assert run.exact and run.clipped == 0 and run.output_error == 0
        assert not any(layer.stood_in for layer in run.layers)
        train(model, x)


def weights_of_columns(block: Block) -> int:
    """The most weights that are not 0 of one output's columns of one sign."""
    there: dict[tuple[int, bool], np.ndarray] = {}
    for cells, output, factor in zip(block.cells.T, block.output, block.factor, strict=True):
        key = (int(output), bool(factor > 0))
        there[key] = there.get(key, np.zeros(block.rows, bool)) | (cells != 0)
    return max(int(column.sum()) for column in there.values())


def test_one_bit_less_clips() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 12, bias=False))
    compress_(model, ADCAwareConfig(adc_bits=4, rows=16, weight_bits=3, cell_bits=2))
    x = torch.ones(1, 40)
    chip = chip_of(rows=16, columns=48, cell_bits=2, weight_bits=3, adc_bits=3, encoding="differential")
    run = simulate(model, replace(chip, tiles=1000), x, every_conversion=True).run
    assert run.clipped > 0 and not run.exact


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("config", [BlockCirculantConfig(2, "fft"), BlockCirculantConfig(2, "direct")])
def test_a_compressed_network_costs_and_computes_on_a_chip_what_the_plain_one_does(name, config) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model, x = make(), torch.rand(shape)
    compress_(model, config, lambda module, name: True)
    assert coded_weights(model)
    chip = replace(chip_of(rows=16, columns=48, encoding="differential"), tiles=1000)
    compressed = simulate(model, chip, x, every_conversion=True)
    baked = simulate(bake_(model), chip, x, every_conversion=True)
    for field in ("layers", "macs", "energy", "calls", "bottleneck_ns", "digital"):
        assert getattr(compressed.cost, field) == getattr(baked.cost, field), field
    assert compressed.run.exact and baked.run.exact
    for one, other in zip(compressed.run.layers, baked.run.layers, strict=True):
        assert (one.name, one.sums, one.converted.conversions) == (other.name, other.sums, other.converted.conversions)
