"""A type is known again by what a schedule depends on, and has a label that no other type of its network has."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import drawn

from bale.batching.graph import Mode, NodeType, Spec
from bale.batching.schedule.fingerprint import TypeKey, labels, short_label, type_keys

ROW = Spec((4,), torch.float32, torch.device("cpu"))
CELL = NodeType("cell (LSTMCell)", (Mode.ROW, Mode.MEAN, Mode.MEAN), (ROW, ROW, ROW), (ROW, ROW))


def fingerprint(node_type):
    return type_keys([node_type])[0].fingerprint


@pytest.mark.parametrize(
    "other",
    [
        replace(CELL, outputs=(replace(ROW, dtype=torch.float64),) * 2),
        replace(CELL, slot_specs=(replace(ROW, requires_grad=True),) * 3),
        replace(CELL, slot_specs=(replace(ROW, device=torch.device("meta")),) * 3),
    ],
    ids=["dtype", "gradient", "device"],
)
def test_what_no_schedule_depends_on_is_left_out(other):
    assert other != CELL and fingerprint(other) == fingerprint(CELL)


@pytest.mark.parametrize(
    "other",
    [
        replace(CELL, name="other (LSTMCell)"),
        replace(CELL, name="cell (GRUCell)"),
        replace(CELL, slots=(Mode.ROW, Mode.ROW, Mode.MEAN)),
        replace(CELL, slots=(Mode.ROW, Mode.MEAN), slot_specs=(ROW, ROW)),
        replace(CELL, slot_specs=(ROW, ROW, replace(ROW, shape=(5,)))),
        replace(CELL, slot_specs=(ROW, ROW, replace(ROW, ragged=True))),
        replace(CELL, outputs=(ROW,)),
        replace(CELL, outputs=(ROW, replace(ROW, shape=(4, 1)))),
    ],
    ids=["place", "class", "gathering", "operands", "shape", "ragged", "outputs", "shape of an output"],
)
def test_what_makes_another_type_counts(other):
    assert fingerprint(other) != fingerprint(CELL)


def test_equal_types_are_told_apart_by_their_order():
    double = replace(CELL, outputs=(replace(ROW, dtype=torch.float64),) * 2)
    first, second, third = type_keys([CELL, double, CELL])
    assert (second.fingerprint, third.fingerprint) == (f"{first.fingerprint}-2", f"{first.fingerprint}-3")
    assert type_keys([double, CELL, CELL]) == (first, second, third)


def test_keys_say_how_operands_are_gathered():
    assert type_keys([CELL])[0].reads == "row + mean x2"
    assert type_keys([NodeType("leaf")])[0].reads == ""


@drawn
@given(st.lists(st.tuples(st.sampled_from(["cell", "head"]), st.sampled_from(["", "row", "row x2"]))))
def test_labels_are_names_that_differ(types):
    keys = [TypeKey(name, str(k), reads) for k, (name, reads) in enumerate(types)]
    found = labels(keys)
    assert len(set(found)) == len(keys)
    for label, key in zip(found, keys, strict=True):
        assert label == key.name or label.startswith(f"{key.name} from {key.reads or 'constants'}")
        assert (label == key.name) == ([name for name, _ in types].count(key.name) == 1)


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("cell (LSTMCell) from row x2", "cell from row x2"),
        ("layers.0 (Linear)", "layers.0"),
        ("stack", "stack"),
        ("", ""),
    ],
)
def test_a_short_label_leaves_the_class_out(label, short):
    assert short_label(label) == short
