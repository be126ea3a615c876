"""Is every event counted once, and does its energy add up?"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.hardware.made import chip_of
from torch import nn

from bale.errors import BaleError
from bale.hardware import Event, Ledger, cost, encode, isaac_ce, put_on_chip
from bale.hardware.bitserial import Digits
from bale.hardware.cost import cost_on_chip
from bale.hardware.events import routers, spread
from bale.models import LeNet5, LSTMClassifier, ResNet20


def test_an_event_counted_twice_is_an_error() -> None:
    ledger = Ledger()
    ledger.count("fc", Event.CONVERSION, 3)
    ledger.count("fc", Event.HOLD, 3)
    ledger.count("other", Event.CONVERSION, 4)
    assert ledger.total(Event.CONVERSION) == 7
    with pytest.raises(BaleError, match="fc: the event conversion would be counted twice"):
        ledger.count("fc", Event.CONVERSION, 3)


@pytest.mark.parametrize("model", [LeNet5(), ResNet20(width=4), LSTMClassifier(hidden=20)])
@pytest.mark.parametrize("chip", ["isaac_ce", "small_tiles"])
def test_components_add_up_to_the_total(model, chip) -> None:
    report = cost(model, chip, torch.rand(2, 1, 28, 28))
    energy = report.energy
    assert sum(energy.by_unit().values()) == pytest.approx(energy.total_pj)
    assert sum(energy.by_layer().values()) == pytest.approx(energy.total_pj)
    units = {unit.event: unit.energy_pj for unit in report.chip.all_units if unit.event is not None}
    assert energy.total_pj == pytest.approx(sum(report.ledger.total(event) * units[event] for event in units))
    assert energy.unpaid == ()
    digital = energy.by_layer()["digital"]
    assert sum(layer.energy_pj for layer in report.layers) + digital == pytest.approx(energy.total_pj)
    assert sum(report.fixed_pj.values()) == pytest.approx(report.power_w * 1e3 * report.interval_ns)


def test_counts_of_a_convolution_by_hand() -> None:
    chip = chip_of(rows=16, columns=16, weight_bits=4, input_bits=4)  # 2 columns a weight, 8 weights a crossbar
    conv = nn.Conv2d(2, 9, 3)  # 18 rows: blocks of 16 and 2; 9 outputs: crossbars of 8 and 1
    report = cost(nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2)), chip, torch.rand(1, 2, 6, 6), copy=False)
    (layer,) = report.layers
    assert (layer.rows, layer.outputs, layer.positions, layer.crossbars) == (18, 9, 16, 4)

    def times(event):
        return report.ledger.total(event)

    conversions = 16 * 4 * (9 * 2) * 2  # positions, digits, columns, row blocks
    assert times(Event.CONVERSION) == times(Event.HOLD) == times(Event.SHIFT_ADD) == conversions
    assert times(Event.ROW_DRIVE) == 16 * 4 * (16 + 2) * 2  # rows, in two crossbars each
    assert times(Event.CELL_READ) == 16 * 4 * 18 * 18
    assert times(Event.INPUT_REGISTER) == 16 * 4 * 18 * 2
    assert times(Event.EDRAM) == pytest.approx(16 * (18 * 4 + 9 * 4) / 256)
    sums = 4 + 4 + 4  # bits of inputs, weights, and of 16 rows: all sums of one IMA, once each
    assert times(Event.BUS) == 16 * (18 * 4 + 9 * sums + 9 * 4)
    assert times(Event.TILE_SHIFT_ADD) == 0
    assert times(Event.ROUTER) == 0
    assert times(Event.OFF_CHIP) == 72 * 4 + 36 * 4
    assert times(Event.ACTIVATION) == 16 * 9 and times(Event.POOL) == 16 * 9


def test_copies_share_the_work_and_change_no_count_of_crossbars() -> None:
    chip = replace(isaac_ce(), weight_bits=8)
    image = torch.rand(1, 1, 28, 28)
    one, many = (cost(LeNet5(), chip, image, copy=copy) for copy in (False, True))
    assert many.crossbars > one.crossbars and many.interval_ns < one.interval_ns
    for event in (Event.CONVERSION, Event.ROW_DRIVE, Event.CELL_READ, Event.SHIFT_ADD, Event.ACTIVATION):
        assert one.ledger.total(event) == many.ledger.total(event)


def test_a_conducting_cell_pays_for_its_level_and_its_inputs() -> None:
    """V^2 G t of every cell, digit and vector, in plain loops."""
    chip = chip_of(rows=16, columns=16, weight_bits=4, input_bits=3, dac_bits=2, encoding="differential")
    chip = replace(chip, cell=replace(chip.cell, read="conductance"))
    torch.manual_seed(0)
    model, data = nn.Linear(20, 3), torch.rand(5, 20)
    on_chip = put_on_chip(model, chip, data)
    report = cost_on_chip(on_chip, model, data, samples=5)
    (matrix,) = on_chip.integers.values()
    digits = Digits.of(3, 2, signed=False).of_inputs(matrix.inputs(data)[0]).numpy()  # [digits, vectors, rows]
    cell, joule = chip.cell, 0.0
    for block in encode(matrix.weight.numpy(), chip):
        low = 1 / cell.off_ohm
        siemens = low + (1 / cell.on_ohm - low) * block.cells / 3
        volts = cell.read_volt * digits[:, :, block.first_row : block.first_row + block.rows] / 3
        joule += float((volts**2 @ siemens).sum()) * cell.pulse_ns * 1e-9
    assert report.energy.by_unit()["crossbars"] == pytest.approx(joule * 1e12 / 5)


def test_writes_are_paid_by_all_images_of_a_turn() -> None:
    chip = chip_of(rows=16, columns=16, weight_bits=4, crossbars_per_ima=1, imas_per_tile=1, tiles=1)
    model = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 8))
    on_chip = put_on_chip(model, chip, torch.rand(1, 16), multiplex=True)
    for images in (1, 10):
        report = cost_on_chip(on_chip, model, torch.rand(1, 16), images=images)
        assert report.ledger.total(Event.CELL_WRITE) == pytest.approx((16 * 16 + 8 * 16) / images)
        paid = report.energy.by_unit()["cell writes"]
        assert paid == pytest.approx((16 * 16 + 8 * 16) / images * chip.cell.write_pj)


def test_events_that_no_unit_pays_for_are_named() -> None:
    chip = isaac_ce()
    chip = replace(chip, units=tuple(unit for unit in chip.units if unit.event is not Event.POOL))
    assert cost(LeNet5(), chip, torch.rand(1, 1, 28, 28)).energy.unpaid == (Event.POOL,)


def test_routers_on_the_way() -> None:
    chip = replace(isaac_ce(), tiles=36)  # 9 routers of four tiles, 3 x 3, in snake order
    assert routers(chip, 0, np.array([0, 1, 4, 8, 12, 16, 20, 35])).tolist() == [0, 1, 2, 3, 4, 3, 2, 5]


def test_the_spread_of_a_matrix_by_hand() -> None:
    chip = chip_of(rows=4, columns=4, weight_bits=4, crossbars_per_ima=2, imas_per_tile=2, tiles=50)
    on_chip = put_on_chip(nn.Linear(10, 5), chip, torch.rand(1, 10), copy=False)
    (mapped,) = on_chip.placement.matrices.values()
    assert mapped.crossbars == 9  # 3 row blocks of 4, 4, 2; crossbars of 2, 2, 1 outputs
    at = [(index, index // 3, index % 3) for index in range(9)]
    rows, outputs = (4, 4, 2), (2, 2, 1)
    by_tile = {(index // 4, block) for index, block, _ in at}
    imas = {(index // 2, column) for index, _, column in at}
    tiles = {(index // 4, column) for index, _, column in at}
    found = spread(on_chip.placement, mapped)
    assert found.rows_by_tile == sum(rows[block] for _, block in by_tile)
    assert found.sums_of_imas == sum(outputs[column] for _, column in imas)
    assert found.sums_of_tiles == sum(outputs[column] for _, column in tiles)
