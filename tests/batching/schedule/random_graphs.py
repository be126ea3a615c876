"""Random typed graphs for the tests of policies, drawn by hypothesis."""

from hypothesis import settings
from hypothesis import strategies as st

from bale.batching.graph import Graph

# The first example of a policy compiles it, which no deadline should hear of; equal runs draw equal graphs.
drawn = settings(deadline=None, derandomize=True, max_examples=100)


@st.composite
def graphs(draw, max_nodes=16, max_types=4, max_operands=3):
    """Any graph: empty, in pieces, with types of which it has no node, with operands that are read twice."""
    types = draw(st.lists(st.integers(0, max_types - 1), max_size=max_nodes))
    operands = [
        draw(st.lists(st.integers(0, node - 1), max_size=max_operands)) if node else [] for node in range(len(types))
    ]
    return Graph.of(types, operands)


def chain(types):
    """A graph in which every node reads the one before."""
    return Graph.of(types, [[node - 1] if node else [] for node in range(len(types))])


def side_by_side(*graphs):
    """One graph of several that do not touch, as a mini-batch is."""
    types, operands = [], []
    for graph in graphs:
        first = len(types)
        operands += [[first + int(operand) for operand in graph.operands(node)] for node in range(len(graph))]
        types += graph.type.tolist()
    return Graph.of(types, operands)
