"""Do crossbars that hold each circulant block once compute the layer's integers, and is their cost counted right?"""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.hardware.made import chip_of, chips, inputs
from torch import nn

from bale.compress import ADCAwareConfig, BlockCirculantConfig, bake_, compress_
from bale.errors import MappingError
from bale.hardware import (
    CirculantMapping,
    CrossbarMatrix,
    Encoding,
    Event,
    Load,
    OnChip,
    cost,
    cost_on_chip,
    isaac_ce,
    matrix_traffic,
    put_on_chip,
    run_on_chip,
    small_tiles,
)
from bale.hardware.bounds import lossless
from bale.hardware.circulant import Circulant
from bale.hardware.encode import encode
from bale.hardware.events import inputs_read, spread
from bale.hardware.extent import extents
from bale.hardware.mapping import Mapped
from bale.hardware.noc.matrix_traffic import tile_flows
from bale.hardware.reach import kept_weights, reach
from bale.hardware.replicate import allocate
from bale.hardware.vector import vector_cycles
from bale.models import VGG8, LeNet5, LSTMClassifier


@st.composite
def circulants(draw: st.DrawFn, most: int = 6) -> Circulant:
    """Any matrix of circulant blocks no higher than `most`, often padded."""
    block = draw(st.integers(2, max(2, most)))
    parts = draw(st.sampled_from([1, 1, 4]))
    return Circulant(
        groups=draw(st.sampled_from([1, 1, 2, 3])),
        inputs=draw(st.integers(1, 2 * block + 1)),
        taps=draw(st.sampled_from([1, 1, 3])),
        outputs=parts * draw(st.integers(1, block + 2)),
        parts=parts,
        block=block,
        how=CirculantMapping(block),
        duplicates=draw(st.integers(1, block)),
    )


def weight_of(circulant: Circulant, most: int, seed: int) -> np.ndarray:
    """Integers [groups, inputs x taps, outputs], written out by the definition: W[t, s] = w[(t - s) mod k]."""
    c, k = circulant, circulant.block
    each = c.outputs // c.parts
    rng = np.random.default_rng(seed)
    w = rng.integers(-most, most, (c.groups, c.parts, each // k + 1, c.inputs // k + 1, c.taps, k), endpoint=True)
    weight = np.zeros((c.groups, c.inputs * c.taps, c.outputs), np.int64)
    for g, s, tap, o in product(range(c.groups), range(c.inputs), range(c.taps), range(c.outputs)):
        part, place = divmod(o, each)
        weight[g, s * c.taps + tap, o] = w[g, part, place // k, s // k, tap, (place % k - s % k) % k]
    return weight


@given(circulants(), st.integers(0, 1 << 20))
def test_what_is_stored_is_the_matrix(circulant, seed) -> None:
    """Every weight stands where its input drives it in the rotation that makes its output, and nothing else does."""
    weight = weight_of(circulant, 9, seed)
    stored, driven = circulant.stored(weight), circulant.driven()
    rotation, column = circulant.made()
    assert stored.shape == (circulant.groups, circulant.rows, circulant.columns)
    found = np.zeros((circulant.groups * circulant.outputs, circulant.groups * circulant.inputs * circulant.taps))
    for output, (number, at) in enumerate(zip(rotation, column, strict=True)):
        group, own = divmod(at, circulant.columns)
        rows = driven[number].reshape(circulant.groups, -1)[group]
        there = rows >= 0
        np.add.at(found[output], rows[there], stored[group, there, own])
    want = np.zeros_like(found)
    for group in range(circulant.groups):
        outputs = slice(group * circulant.outputs, (group + 1) * circulant.outputs)
        rows = slice(group * weight.shape[1], (group + 1) * weight.shape[1])
        want[outputs, rows] = weight[group].T
    assert np.array_equal(found, want)


@given(circulants(), st.integers(0, 1 << 20), st.data())
def test_one_number_that_differs_is_found(circulant, seed, data) -> None:
    weight = weight_of(circulant, 9, seed)
    assert circulant.numbers(weight) is not None
    at = tuple(data.draw(st.integers(0, size - 1)) for size in weight.shape)
    weight[at] += 1
    # Alone on its diagonal it is a block's number, and may be any.
    again = circulant.numbers(weight)
    assert again is None or np.count_nonzero(circulant.numbers(weight - weight_of(circulant, 9, seed))) == 1


@given(st.data(), chips(), st.booleans(), st.integers(0, 1 << 20))
def test_every_conversion_gives_the_layers_integers(data, chip, signed, seed) -> None:
    chip = replace(chip, crossbar=replace(chip.crossbar, rows=max(2, chip.crossbar.rows)))
    circulant = data.draw(circulants(most=min(6, chip.crossbar.rows)))
    weight = weight_of(circulant, 2 ** (chip.weight_bits - 1) - 1, seed)
    vectors = data.draw(inputs(chip, circulant.groups * weight.shape[1], signed))
    blocks = encode(circulant.stored(weight), chip, block_rows=circulant.piece_rows(chip))
    assert all(block.rows // block.groups % circulant.block == 0 for block in blocks), "a piece cuts a block"
    crossbars = CrossbarMatrix.program("drawn", blocks, chip, signed, circulant=circulant)
    want = [
        part @ weight[group] for group, part in enumerate(np.split(vectors.astype(np.int64), circulant.groups, axis=1))
    ]
    assert np.array_equal(crossbars.multiply(torch.from_numpy(vectors)).numpy(), np.concatenate(want, axis=1))


def baked(model: nn.Module, block: int, **options) -> nn.Module:
    torch.manual_seed(0)
    compress_(model, BlockCirculantConfig(block, **options))
    bake_(model)
    return model.eval()


@pytest.mark.parametrize("encoding", [str(encoding) for encoding in Encoding])
@pytest.mark.parametrize("duplicates", [None, 1, 3, 4])
def test_a_network_is_exact_image_by_image(encoding, duplicates) -> None:
    chip = replace(
        isaac_ce(), weight_bits=6, input_bits=5, encoding=Encoding(encoding), flip=encoding == "offset", name="drawn"
    )
    chip = replace(chip, adc=replace(chip.adc, bits=10))
    images = torch.rand(3, 1, 28, 28)
    for model, data in ((baked(LeNet5(), 4), images), (baked(LSTMClassifier(hidden=12), 4), images[:, 0])):
        on_chip = put_on_chip(model, chip, data, circulant=CirculantMapping(4, duplicates))
        assert sum(mapped.circulant is not None for mapped in on_chip.placement.matrices.values()) >= 2
        run = run_on_chip(on_chip, model, data, every_conversion=True)
        assert run.exact and run.output_error == 0 and run.agreement == 1
        report = cost_on_chip(on_chip, model, data)
        events = report.ledger.total(Event.CONVERSION) * len(data)
        assert events == sum(layer.converted.conversions for layer in run.layers)


def test_padded_blocks_share_a_scale() -> None:
    """The row that a padded block does not show would else be rounded otherwise."""
    model = baked(nn.Sequential(nn.Linear(13, 11)), 4)
    on_chip = put_on_chip(model, "small_tiles", torch.randn(20, 13), circulant=4)
    (matrix,) = on_chip.integers.values()
    assert all(len(set(matrix.weight_scale[low : low + 4].tolist())) == 1 for low in (0, 4, 8))
    assert run_on_chip(on_chip, model, torch.randn(5, 13), every_conversion=True).exact


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_type_are_found(kind) -> None:
    model = baked(nn.Sequential(nn.Linear(12, 8)).to(kind), 4)
    data = torch.rand(5, 12, dtype=kind)
    on_chip = put_on_chip(model, "small_tiles", data, circulant=4)
    assert on_chip.placement.matrices["0"].circulant is not None
    assert run_on_chip(on_chip, model, data, every_conversion=True).exact


# What it costs.


def wide(**how) -> OnChip:
    """A layer of 1024 x 1024, blocks of 8, on ISAAC: 8 crossbars wide where dense it is 64."""
    model = baked(nn.Sequential(nn.Linear(1024, 1024)), 8)
    return put_on_chip(model, "isaac_ce", torch.rand(2, 1024), copy=False, circulant=CirculantMapping(8, 1, **how))


def read(on_chip: OnChip) -> float:
    (mapped,) = on_chip.placement.matrices.values()
    return inputs_read(mapped, spread(on_chip.placement, mapped))


def test_reads_of_inputs_are_those_of_the_design() -> None:
    naive, slices = wide(reuse_slices=False, share_inputs=False), wide(share_inputs=False)
    assert read(naive) == 65_536 and read(slices) == 8_192 and read(wide()) == 1_024
    assert read(wide(reuse_slices=False)) == 8_192
    (mapped,) = naive.placement.matrices.values()
    assert mapped.crossbars == 64 and mapped.fetches(naive.chip) == 8


def test_compact_duplicated_and_dense_convert_drive_and_read_the_same() -> None:
    """At 1024 x 1024; the least of each in a small layer, where columns stay idle, is another matter."""
    model = baked(nn.Sequential(nn.Linear(1024, 1024)), 8)
    data = torch.rand(2, 1024)
    reports = [cost(model, "isaac_ce", data, copy=False)]
    reports += [
        cost(model, "isaac_ce", data, copy=False, circulant=CirculantMapping(8, duplicates)) for duplicates in (1, 2, 8)
    ]
    for event in (Event.CONVERSION, Event.ROW_DRIVE, Event.CELL_READ, Event.INPUT_REGISTER):
        assert len({report.ledger.total(event) for report in reports}) == 1, event
    assert [report.crossbars for report in reports] == [512, 64, 128, 512]
    assert [report.bottleneck_ns for report in reports] == [1600, 8 * 1600, 4 * 1600, 1600]
    assert [report.latency_ns for report in reports] == [2200, 8 * 1600 + 600, 4 * 1600 + 600, 2200]


def test_duplicates_fill_a_crossbar_and_then_what_the_budget_has() -> None:
    layers = [nn.Conv2d(1, 8, 1), nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(16, 128), nn.Linear(128, 10)]
    model, data = baked(nn.Sequential(*layers), 8), torch.rand(2, 1, 3, 3)

    def duplicates(**options) -> list[int]:
        on_chip = put_on_chip(model, "isaac_ce", data, circulant=8, **options)
        found = (mapped.circulant for mapped in on_chip.placement.matrices.values())
        return [circulant.duplicates for circulant in found if circulant is not None]

    assert duplicates(copy=False) == [8, 1]  # p = 2 and 16; a weight has 8 columns, a crossbar 128
    assert duplicates() == [8, 8], "crossbars are left, and copies of a matrix that is used once are of no use"


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.booleans(), st.integers(1, 4))
def test_a_vectors_cycles_are_those_of_its_stages(digits, rotations, fetch, again, pipelined, vectors) -> None:
    """Followed stage by stage: each works on one thing at a time, in order."""
    free = dict.fromkeys(("fetch", "crossbar", "conversion", "shift-add", "output", "activation", "write"), 0)
    written, starts = 0, []
    for vector in range(vectors):
        for rotation in range(rotations):
            begin = free["fetch"] if pipelined else max(free["fetch"], written)
            if pipelined and rotation == 0 and vector:
                # The next vector's inputs arrive as the last rotation of the one before begins, not earlier: one
                # register. In a steady stream they are there in time.
                begin = max(begin, starts[-1])
            fetched = begin + (fetch if rotation == 0 else again)
            free["fetch"] = fetched
            first = None
            for _ in range(digits):
                at = max(fetched, free["crossbar"])
                first = at if first is None else first
                for stage in list(free)[1:]:
                    at = max(at, free[stage]) + 1
                    free[stage] = at
            # The register may turn, or take other inputs, once their digits have begun to be driven.
            free["fetch"] = max(free["fetch"], first)
            starts.append(first)
            written = free["write"]
        if vector == 0:
            assert written == vector_cycles(digits, rotations, fetch=fetch, again=again, pipelined=pipelined).through
    assert (
        written
        == (vectors - 1) * vector_cycles(digits, rotations, fetch=fetch, again=again, pipelined=pipelined).occupied
        + vector_cycles(digits, rotations, fetch=fetch, again=again, pipelined=pipelined).through
    )


@st.composite
def ways(draw: st.DrawFn) -> list[list[Load]]:
    """Matrices that are laid in several ways: more crossbars, fewer cycles."""
    made = []
    for index in range(draw(st.integers(1, 3))):
        positions = draw(st.integers(1, 6))
        most = draw(st.sampled_from([1, positions]))
        size, cycles = draw(st.integers(1, 3)), draw(st.integers(1, 8))
        each = [Load(str(index), size * many, positions, -(-cycles // many), most) for many in (1, 2, 4)]
        made.append(each[: draw(st.integers(1, 3))])
    return made


@given(ways(), st.integers(0, 20))
def test_no_other_ways_and_copies_are_faster(made, more) -> None:
    budget = sum(loads[0].cost(1) for loads in made) + more
    chosen = allocate(made, budget)

    def spent(taken):
        return sum(loads[way].cost(copies) for loads, (way, copies) in zip(made, taken, strict=True))

    def slowest(taken):
        return max(loads[way].time(copies) for loads, (way, copies) in zip(made, taken, strict=True))

    every = [[(w, n) for w, load in enumerate(loads) for n in range(1, load.most + 1)] for loads in made]
    affordable = [taken for taken in product(*every) if spent(taken) <= budget]
    assert spent(chosen) <= budget
    assert slowest(chosen) == min(map(slowest, affordable))
    assert spent(chosen) == min(spent(taken) for taken in affordable if slowest(taken) == slowest(chosen))


# Where it lies.


@given(circulants(), st.integers(0, 1 << 20), st.data())
def test_extents_are_where_weights_stand(circulant, seed, data) -> None:
    chip = chip_of(
        rows=data.draw(st.integers(circulant.block, 20)), columns=data.draw(st.integers(3, 12)), crossbars_per_ima=1
    )
    weight = weight_of(circulant, 31, seed)
    blocks = encode(circulant.stored(weight), chip, block_rows=circulant.piece_rows(chip))
    driven, (rotation, column) = circulant.driven(), circulant.made()
    want: dict[tuple[int, int], int] = {}  # the crossbar of each output and row, by following what drives it
    first = 0
    for block in blocks:
        rows = range(block.first_row, block.first_row + block.rows)
        for at, crossbar in zip(block.output + block.first_output, block.crossbar, strict=True):
            for output in np.flatnonzero(column == at):
                group = output // circulant.outputs
                for row in driven[rotation[output], rows]:
                    if row >= 0 and row // (circulant.inputs * circulant.taps) == group:
                        assert want.setdefault((int(output), int(row)), first + int(crossbar)) == first + crossbar
        first += block.crossbars
    mapped = Mapped("drawn", blocks, lossless(blocks, chip), len(column), False, circulant)
    found: dict[tuple[int, int], int] = {}
    for extent in extents(mapped):
        assert (np.diff(extent.crossbar) >= 0).all() and (np.diff(extent.rows) > 0).all()
        for output, crossbar in zip(extent.outputs.tolist(), extent.crossbar.tolist(), strict=True):
            assert not any((output, row) in found for row in extent.rows.tolist())
            found.update({(output, row): crossbar for row in extent.rows.tolist()})
    assert found == want


def test_traffic_of_stored_blocks_is_what_events_count() -> None:
    model = baked(VGG8(width=8), 8)
    on_chip = put_on_chip(model, small_tiles(), torch.rand(2, 1, 28, 28), copy=False, circulant=8)
    dense = put_on_chip(model, small_tiles(), torch.rand(2, 1, 28, 28), copy=False)
    assert on_chip.placement.tiles < dense.placement.tiles
    traffic = matrix_traffic(on_chip)
    for name, matrix in on_chip.network.matrices.items():
        kept = kept_weights(matrix, on_chip.integers[name].weight.numpy())
        found = reach(on_chip.placement, matrix, kept)
        tiles = found.first + found.needed.shape[1]
        assert np.array_equal(traffic[name].needed(tiles, kept)[:, found.first :], found.needed)
    assert tile_flows(traffic).sum() < tile_flows(matrix_traffic(dense)).sum()


# With ADC-aware pruning.


def test_columns_of_stored_blocks_need_the_bits_that_the_rule_gives() -> None:
    torch.manual_seed(0)
    model = LeNet5()
    compress_(model, BlockCirculantConfig(4))
    report = compress_(model, ADCAwareConfig(adc_bits=5, rows=64))
    bits = {weight.name: weight.facts["adc_bits"] for weight in report.weights}
    bake_(model)
    for duplicates in (1, 2, 3, 4):
        on_chip = put_on_chip(
            model, small_tiles(), torch.rand(2, 1, 28, 28), copy=False, circulant=CirculantMapping(4, duplicates)
        )
        for name, mapped in on_chip.placement.matrices.items():
            assert mapped.bounds.a_priori_bits == bits[name] <= 5, name
    written_out = put_on_chip(model, small_tiles(), torch.rand(2, 1, 28, 28), copy=False)
    assert max(mapped.bounds.a_priori_bits for mapped in written_out.placement.matrices.values()) > 5


# Errors.


@pytest.mark.parametrize(
    ("circulant", "message"),
    [
        (
            4,
            r"circulant: no matrix is of circulant blocks of 4; compress the network with BlockCirculantConfig",
        ),
        ({"0": 4}, r"circulant: 0: its blocks of 4 x 4 are not circulant; compress it with BlockCirculantConfig"),
        ({"fc9": 4}, r"circulant: fc9: is no matrix; there are 0"),
        ({"0": 256}, r"circulant: 0: blocks of 256 are higher than a crossbar of isaac_ce, 128"),
    ],
)
def test_what_cannot_be_stored_once_is_named(circulant, message) -> None:
    torch.manual_seed(0)
    how = CirculantMapping(circulant) if isinstance(circulant, dict) else circulant
    with pytest.raises(MappingError, match=message):
        put_on_chip(nn.Sequential(nn.Linear(8, 8)), "isaac_ce", torch.rand(2, 8), circulant=how)


def test_blocks_and_duplicates_of_no_size_are_refused() -> None:
    with pytest.raises(MappingError, match="circulant: block: must be at least 2, got 1"):
        CirculantMapping(1)
    with pytest.raises(MappingError, match="circulant: fc1: must be at least 2, got 0"):
        CirculantMapping({"fc1": 0})
    with pytest.raises(MappingError, match="circulant: duplicates: must be at least 1, got 0"):
        CirculantMapping(4, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"circulant": 4.0}, r"circulant: block: must be a whole number, got 4\.0"),
        ({"circulant": "4"}, r"circulant: block: must be a whole number, got '4'"),
        ({"circulant": {"0": 4.0}}, r"circulant: 0: must be a whole number, got 4\.0"),
    ],
)
def test_blocks_that_are_no_number_are_refused(given, message) -> None:
    with pytest.raises(MappingError, match=message):
        put_on_chip(nn.Sequential(nn.Linear(8, 8)), "isaac_ce", torch.rand(2, 8), **given)
    with pytest.raises(MappingError, match=r"circulant: duplicates: must be a whole number, got 2\.0"):
        CirculantMapping(4, 2.0)


def test_blocks_are_not_stored_once_where_that_takes_more_crossbars() -> None:
    """12 inputs in blocks of 8 are padded to 16, and 16 outputs lie in one crossbar as they are."""
    layers = [nn.Conv2d(1, 12, 1), nn.Conv2d(12, 16, 3), nn.Flatten(), nn.Linear(16, 10)]
    model, data = baked(nn.Sequential(*layers), 8), torch.rand(2, 1, 3, 3)
    chip = replace(isaac_ce(), weight_bits=8, input_bits=8)
    found = put_on_chip(model, chip, data, copy=False, circulant=8).placement
    assert found.matrices["1"].circulant is None and found.matrices["1"].crossbars == 1
    for how in (CirculantMapping({"1": 8}), CirculantMapping(8, 1)):
        named = put_on_chip(model, chip, data, copy=False, circulant=how).placement
        assert named.matrices["1"].circulant is not None and named.matrices["1"].crossbars == 2
