"""A graph is a value; what is no graph in order is refused when it is made."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import Dag
from bale.errors import DataError


@st.composite
def dags(draw):
    nodes = draw(st.integers(1, 10))
    kinds = draw(st.lists(st.integers(0, 5), min_size=nodes, max_size=nodes))
    operands = [tuple(draw(st.lists(st.integers(0, node - 1), max_size=3))) if node else () for node in range(nodes)]
    return Dag(tuple(kinds), tuple(operands))


@given(dags())
def test_copies_are_equal(dag):
    for copied in (pickle.loads(pickle.dumps(dag)), copy.deepcopy(dag)):
        assert copied == dag and hash(copied) == hash(dag)


@given(dags())
def test_inputs_read_nothing_and_sinks_are_not_read(dag):
    nodes = range(len(dag.kinds))
    assert dag.inputs == tuple(node for node in nodes if dag.operands[node] == ())
    assert dag.sinks == tuple(node for node in nodes if not any(node in operands for operands in dag.operands))
    assert dag.inputs and dag.sinks


@pytest.mark.parametrize(
    ("kinds", "operands", "problem"),
    [
        ((), (), "a graph has nodes, each with a kind and operands: got 0 kinds and operands for 0"),
        ((1, 2), ((),), "a graph has nodes, each with a kind and operands: got 2 kinds and operands for 1"),
        ((1, -2), ((), ()), "node 1: a kind is a number from 0, got -2"),
        ((1,), ((0,),), "node 0: an operand is an earlier node, from 0, got 0"),
        ((1, 1), ((), (0, -1)), "node 1: an operand is an earlier node, from 0, got -1"),
        ((1, 1, 1), ((), (2,), ()), "node 1: an operand is an earlier node, from 0, got 2"),
    ],
)
def test_what_is_no_graph_is_refused(kinds, operands, problem):
    with pytest.raises(DataError) as error:
        Dag(kinds, operands)
    assert str(error.value) == problem
