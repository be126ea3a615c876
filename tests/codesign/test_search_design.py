"""A design's worth depends on it alone, converters are the smallest that lose nothing, none is trained in vain."""

from dataclasses import replace

import pytest
import torch
from tests.codesign.search_made import small_problem

from bale.codesign.search import Budgets, Design, Structure, design, split
from bale.codesign.search.design import mapping_options, room_options, run_exactly
from bale.compress import ADCAwareConfig, BlockCirculantConfig, StructuredConfig, UniformQuantConfig
from bale.data import digits
from bale.errors import BaleError, CompressionError, DataError
from bale.hardware import Encoding, lossless, put_on_chip

SMALL = Structure(64, 64, 2, Encoding.SIGN_MAGNITUDE, 6, 6)
STACKED = (StructuredConfig(0.5), ADCAwareConfig(4, rows=64, weight_bits=6))


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    return small_problem(tmp_path_factory.mktemp("networks"))


def test_images_are_held_out_evenly_and_never_those_that_calibrate():
    train = digits("train", size=8)
    splits = split(train, again=100)
    assert len(splits.validation) == 287 and len(splits.dense) == 1437 - 287 and len(splits.again) == 100
    whole = torch.cat([splits.dense.images, splits.validation.images]).flatten(1)
    assert torch.equal(whole.sort(0).values, train.images.flatten(1).sort(0).values)
    assert torch.equal(splits.dense.images[:64], train.images[:64])
    held = torch.bincount(splits.validation.labels, minlength=10)
    assert held.min() >= 15  # of each class
    assert len(split(train, again=10**6).again) == len(splits.dense)
    with pytest.raises(DataError, match="has 70 images of training; a search needs 100"):
        split(train.take(70))


def test_a_file_that_is_at_fault_makes_no_design_impossible(problem, monkeypatch, tmp_path):
    elsewhere, one = replace(problem, folder=tmp_path / "networks"), Design((UniformQuantConfig(4),), SMALL)

    def full(model, path, *configs):
        raise CompressionError(f"{path}: cannot be written: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(design, "save_packed", full)
        with pytest.raises(BaleError, match="No space left on device"):
            elsewhere.evaluate(one)
    outcome = elsewhere.evaluate(one)
    assert outcome.complete
    elsewhere.packed(one.methods).write_bytes(b"damaged")
    with pytest.raises(BaleError, match="without this file the network is trained again"):
        elsewhere.evaluate(one)
    elsewhere.packed(one.methods).unlink()
    assert elsewhere.evaluate(one) == outcome


@pytest.mark.parametrize("methods", [(), (UniformQuantConfig(4),), (BlockCirculantConfig(4),), STACKED])
def test_whoever_evaluates_a_design_finds_the_same(problem, methods, tmp_path):
    one = Design(methods, SMALL)
    outcome = problem.evaluate(one)
    elsewhere = replace(problem, folder=tmp_path)
    elsewhere.evaluate(Design(methods, replace(SMALL, rows=128)))  # something else before
    assert elsewhere.evaluate(one) == outcome == problem.evaluate(one)
    assert outcome.drop == problem.accuracy - outcome.accuracy


def test_a_network_is_trained_once_for_all_chips(problem, monkeypatch):
    methods = (UniformQuantConfig(8),)
    first = problem.evaluate(Design(methods, SMALL))
    monkeypatch.setattr(design, "compress_and_train", None)
    other = problem.evaluate(Design(methods, replace(SMALL, cell_bits=1), room=4))
    assert other.complete and other.costs.crossbars > first.costs.crossbars and other.costs.latency < 1e3


def test_what_is_beyond_a_budget_is_not_trained_and_keeps_its_numbers(problem, monkeypatch, tmp_path):
    monkeypatch.setattr(design, "compress_and_train", None)
    tight = replace(problem, budgets=Budgets(energy=1e-9), folder=tmp_path)
    outcome = tight.evaluate(Design(STACKED, SMALL))
    assert not outcome.complete and outcome.refused == "beyond a budget before training"
    assert outcome.costs.energy > 1e-9 and not list(tmp_path.iterdir())


def test_what_cannot_be_is_told_and_not_raised(problem):
    big = Structure(256, 64, 4, Encoding.DIFFERENTIAL, 8, 8)
    outcome = problem.evaluate(Design((ADCAwareConfig(4, rows=256, cell_bits=4), StructuredConfig(0.5)), big))
    assert outcome.costs is None and outcome.refused


@pytest.mark.parametrize("encoding", list(Encoding))
def test_converters_have_the_fewest_bits_that_lose_nothing(problem, encoding):
    one = Design((), replace(SMALL, encoding=encoding))
    on_chip = problem.on_chip(one, problem.model)
    bits = {n: lossless(each.blocks, on_chip.chip).exact_bits for n, each in on_chip.placement.matrices.items()}
    assert on_chip.converters == bits and on_chip.chip.adc.bits == max(bits.values()) > 4
    run = run_exactly(on_chip, problem.model, problem.validation)
    assert run.exact and run.accuracy == run.accuracy_quantised


def test_adc_aware_designs_get_the_converters_that_they_were_pruned_for(problem):
    outcome = problem.evaluate(Design(STACKED, SMALL))
    assert outcome.costs.adc_bits == 4


@pytest.mark.parametrize("room", [1, 3])
@pytest.mark.parametrize("methods", [(), (BlockCirculantConfig(4),)])
def test_room_for_copies_is_what_simulate_takes(problem, room, methods):
    one = Design(methods, SMALL, room)
    model = problem.untrained(methods)
    on_chip = problem.on_chip(one, model)
    options = mapping_options(one) | room_options(one, on_chip)
    again = put_on_chip(model, on_chip.chip, problem.train[:64].pixels(), **options)
    assert again.placement.places == on_chip.placement.places and again.converters == on_chip.converters
    stored = [each.circulant for each in on_chip.placement.matrices.values() if each.circulant is not None]
    assert bool(stored) == bool(methods), "circulant blocks are stored once"
