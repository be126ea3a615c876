"""Is every event counted once, and does its energy add up?"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.hardware.made import chip_of
from torch import nn

from bale.errors import BaleError
from bale.hardware import Event, Ledger, cost, encode, isaac_ce, put_on_chip, simulate, small_tiles
from bale.hardware.bitserial import Digits
from bale.hardware.cost import cost_on_chip
from bale.hardware.events import routers, spread
from bale.hardware.reach import reach
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
    digital = energy.by_layer()["(digital)"] + energy.by_layer()["(in and out)"]
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
    to = np.array([0, 1, 4, 8, 12, 16, 20, 35])
    assert routers(chip, np.zeros(8, int), to).tolist() == [0, 1, 2, 3, 4, 3, 2, 5]


@pytest.mark.parametrize("copies", [1, 3])
def test_the_spread_of_a_matrix_by_hand(copies) -> None:
    chip = chip_of(rows=4, columns=4, weight_bits=4, crossbars_per_ima=2, imas_per_tile=2, tiles=50)
    layer, data = nn.Linear(10, 5), torch.rand(1, 3, 10)
    on_chip = put_on_chip(layer, chip, data, crossbars=9 * copies)
    (mapped,), (placed,) = on_chip.placement.matrices.values(), on_chip.placement.places.values()
    assert mapped.crossbars == 9 and placed.copies == copies  # 3 row blocks of 4, 4, 2; crossbars of 2, 2, 1 outputs
    rows, outputs = (4, 4, 2), (2, 2, 1)
    read = made = routed = 0.0
    finished = dict.fromkeys(range(50), 0.0)
    for copy in range(copies):
        at = [(9 * copy + index, index // 3, index % 3) for index in range(9)]
        read += sum(rows[block] for _, block in {(index // 4, block) for index, block, _ in at})
        made += sum(outputs[column] for _, column in {(index // 2, column) for index, _, column in at})
        for column in range(3):
            tiles = {index // 4 for index, _, mine in at if mine == column}
            passed = routers(chip, np.array(sorted(tiles)), np.array([max(tiles)] * len(tiles)))
            routed += outputs[column] * passed.sum()
            finished[max(tiles)] += outputs[column] / (5 * copies)
    found = spread(on_chip.placement, mapped)
    assert found.rows_by_tile == pytest.approx(read / copies)
    assert found.sums_of_imas == pytest.approx(made / copies)
    (matrix,) = on_chip.network.matrices.values()
    of = reach(on_chip.placement, matrix, np.ones((5, 10), bool))
    assert routers(chip, *of.sums.T).sum() == pytest.approx(routed)
    in_tile = {(index // 4, index % 9 // 3) for index in range(9 * copies)}  # row blocks of each tile
    assert of.needed.tolist() == [[(t, row // 4) in in_tile for t in of.tiles] for row in range(10)]
    shares = dict(zip(of.tiles.tolist(), (of.finished.sum(0) / 5).tolist(), strict=True))
    assert {tile: share for tile, share in shares.items() if share} == pytest.approx(
        {tile: share for tile, share in finished.items() if share}
    )
    none = reach(on_chip.placement, matrix, np.zeros((5, 10), bool))
    assert not len(none.sums) and not none.needed.any()


def test_the_spread_of_a_matrix_that_is_larger_than_the_chip() -> None:
    """Parts that follow one another are parts of sums in unlike IMAs: 5 row blocks of 4 crossbars on 8 crossbars."""
    chip = chip_of(rows=16, columns=6, tiles=2, imas_per_tile=2, crossbars_per_ima=2)  # two outputs a crossbar
    on_chip = put_on_chip(nn.Linear(80, 8), chip, torch.rand(2, 80), multiplex=True)
    (mapped,) = on_chip.placement.matrices.values()
    assert mapped.crossbars == 20 and on_chip.placement.places["Linear"].parts == 3
    found = spread(on_chip.placement, mapped)
    assert (found.rows_by_tile, found.sums_of_imas) == (80, 5 * 8)


def test_traffic_between_layers_by_hand() -> None:
    """Three tiles, one layer each, one router a tile: a residual's both inputs travel; what enters and leaves, once."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.a(x)
            return self.c(x + self.b(x))

    chip = replace(small_tiles(), tiles=9)
    report = cost(Residual(), chip, torch.rand(1, 4))
    bits = {name: times * 256 for (name, event), times in report.ledger.counts.items() if event is Event.ROUTER}
    assert bits == {"a": 0, "b": 4 * 8 * 2, "c": 4 * 8 * (2 + 3)}  # a to b: one hop, two routers
    assert report.ledger.counts["(in and out)", Event.OFF_CHIP] == (4 + 2) * 8


def test_an_activation_goes_to_no_more_copies_than_windows_hold_it() -> None:
    chip = replace(isaac_ce(), weight_bits=8, tiles_per_router=1, crossbars_per_ima=1, imas_per_tile=1, tiles=64)
    chip = replace(chip, adc=replace(chip.adc, per_ima=1))
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 2, stride=2))  # each number in one window
    report = cost(model, chip, torch.rand(1, 1, 8, 8), crossbars=17)
    first, second = (layer.copies for layer in report.layers)
    assert (first, second) == (13, 4)
    on_chip = put_on_chip(model, chip, torch.rand(1, 1, 8, 8), crossbars=17)
    to = np.array(on_chip.placement.tiles_of("1"))
    passed = np.mean([routers(chip, np.array(tile), to).mean() for tile in on_chip.placement.tiles_of("0")])
    assert report.ledger.counts["1", Event.ROUTER] * 256 == pytest.approx(64 * 16 * passed)


def test_what_is_counted_is_what_runs() -> None:
    """Conversions of the ledger are those of the functional simulation, whatever the network does."""

    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.conv(x.flatten(0, 1)).mean((2, 3))).unflatten(0, x.shape[:2]).mean(1)

    class Series(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 4, batch_first=True, bidirectional=True), nn.Linear(8, 2)

        def forward(self, x):
            out = self.head(self.lstm(x.flatten(0, 1))[0])
            return out.mean(1).unflatten(0, x.shape[:2]).mean(1)

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRUCell(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = x.new_zeros(len(x), 4)
            for step in x.unbind(1):
                h = self.cell(step, h)
            return self.head(h)

    image, chip = torch.rand(3, 1, 28, 28), replace(isaac_ce(), weight_bits=6, input_bits=4)
    for model, data in (
        (LeNet5(), image),
        (ResNet20(width=4), image),
        (LSTMClassifier(hidden=8), image),
        (Frames(), torch.rand(3, 5, 1, 6, 6)),
        (Series(), torch.rand(3, 7, 4, 3)),
        (Loop(), torch.rand(3, 6, 3)),
    ):
        simulation = simulate(model, chip, data, every_conversion=True)
        for layer in simulation.run.layers:
            assert layer.converted.conversions == 3 * simulation.cost.ledger.counts[layer.name, Event.CONVERSION]
