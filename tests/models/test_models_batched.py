"""The law for the models of the papers: batched they are the loop, by every policy and executor, in few batches."""

import pytest
import torch
from tests.batching.view.same import RELATIVE, assert_observed, observe
from tests.models.made import CASES, drawn, made

import bale

SIZES = (1, 2, 7, 1, 4, 9, 3, 12)
CHAINS_AND_TREES = (
    "BiLSTMTagger", "CharBiLSTMTagger", "EncoderDecoder", "GreedyDecoder", "ChildSumTreeLSTM", "NaryTreeLSTM",
    "TreeGRU", "MVRNN",
)  # fmt: skip


@pytest.mark.parametrize("executor", ["planned", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_batched_is_the_loop(name, executor):
    model, samples = made(name), drawn(name, SIZES)
    policy = ""
    # one batched model for all policies, so that its cells are captured once
    batched = bale.batch(
        model,
        policy=lambda graph: bale.POLICIES[policy](graph),
        executor=executor,
        capture="eager",
        check="always",
    )
    for some in (samples, samples[:1], samples[4:], samples[::-1]):
        wanted = observe(lambda some=some: [model(sample) for sample in some], model, some)
        for policy in bale.POLICIES if executor == "planned" else ("depth", "auto"):
            got = observe(lambda some=some: batched(some), model, some)
            try:
                assert_observed(got, wanted, RELATIVE, RELATIVE)
            except AssertionError as error:
                error.add_note(f"policy {policy}, {len(some)} samples")
                raise
            assert batched.last.executor == executor
            assert batched.last.batches >= batched.last.bound
    rungs = {(line.name, line.rung, line.reasons) for line in bale.explain(batched, samples).types}
    if executor == "planned":
        assert {rung for _, rung, _ in rungs} <= {"planned", "gather"}, rungs


@pytest.mark.parametrize("name", CHAINS_AND_TREES)
def test_chains_and_trees_take_no_more_batches_than_they_must(name):
    batched = bale.batch(made(name), executor="reference", check="off", merge=False)
    with torch.no_grad():
        batched(drawn(name, range(1, 25)))
    assert batched.last.batches == batched.last.bound
    assert 4 * batched.last.batches < batched.last.nodes


@pytest.mark.parametrize("name", [name for name in CASES if name not in CHAINS_AND_TREES])
def test_the_others_take_few_batches(name):
    batched = bale.batch(made(name), executor="reference", check="off", merge=False)
    with torch.no_grad():
        batched(drawn(name, range(1, 25)))
    assert batched.last.batches <= 1.25 * batched.last.bound
    assert 4 * batched.last.batches < batched.last.nodes


def batches_of(name, samples):
    """How many batches ran the calls of each cell, by its path; calls that differ in constants count together."""
    counts = {}

    def policy(graph):
        schedule = bale.POLICIES["height"](graph)
        counts.clear()
        for kind in schedule.batch_type.tolist():
            path = graph.types[kind].name.split(" ")[0]
            counts[path] = counts.get(path, 0) + 1
        return schedule

    with torch.no_grad():
        bale.batch(made(name), policy=policy, executor="reference", check="off")(samples)
    return counts


@pytest.mark.parametrize("name", ["NaryTreeLSTM", "TreeGRU", "MVRNN"])
def test_a_level_of_all_trees_is_one_batch(name):
    trees = drawn(name, SIZES)
    leaf, inner = ("word", "phrase") if name == "MVRNN" else ("leaf", "inner")
    counts = batches_of(name, trees)
    assert counts[leaf] == counts["head"] == 1
    assert counts[inner] == max(tree.depth for tree in trees) - 1


def test_a_place_of_all_sentences_is_one_batch():
    counts = batches_of("BiLSTMTagger", drawn("BiLSTMTagger", SIZES))
    assert counts["embed"] == counts["head"] == 1
    for layer in range(2):
        assert counts[f"forwards.{layer}"] == counts[f"backwards.{layer}"] == max(SIZES)


def test_a_place_of_all_translations_is_one_batch():
    pairs = drawn("EncoderDecoder", SIZES)
    counts = batches_of("EncoderDecoder", pairs)
    assert counts["source_embed"] == counts["target_embed"] == counts["head"] == 1
    for layer in range(2):
        assert counts[f"encoder.{layer}"] == max(SIZES)
        assert counts[f"decoder.{layer}"] == max(len(target) for _, target in pairs) - 1


def test_all_positions_of_all_lattices_are_tagged_in_one_batch():
    for name in ("LatticeLSTM", "LatticeGRU"):
        assert batches_of(name, drawn(name, SIZES))["head"] == 1


def test_all_actions_of_all_parses_are_scored_together():
    # three batches and not one: h of an empty stack, of an empty history or of both is a constant
    assert batches_of("StackLSTM", drawn("StackLSTM", SIZES))["choose"] <= 4
