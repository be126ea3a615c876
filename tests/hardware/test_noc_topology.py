"""Do routes go the shortest way, first along the row, over links that exist?"""

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.errors import BaleError
from bale.hardware import Mesh, isaac_ce, mesh_of, small_tiles

meshes = st.builds(Mesh, st.integers(1, 6), st.integers(1, 6), st.booleans())


def graph_of(mesh: Mesh) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(range(mesh.nodes))
    graph.add_edges_from((n, int(m)) for n, near in enumerate(mesh.neighbours()) for m in near if m >= 0)
    return graph


@given(meshes)
def test_hops_are_the_shortest_ways(mesh) -> None:
    shortest = dict(nx.all_pairs_shortest_path_length(graph_of(mesh)))
    hops = mesh.hop_matrix()
    assert hops.dtype == np.int64
    assert hops.tolist() == [[shortest[a][b] for b in range(mesh.nodes)] for a in range(mesh.nodes)]
    assert all(mesh.hops(a, b) == hops[a, b] for a in range(mesh.nodes) for b in range(mesh.nodes))


@given(meshes, st.data())
def test_a_route_follows_links_along_the_row_first(mesh, data) -> None:
    a, b = (data.draw(st.integers(0, mesh.nodes - 1)) for _ in range(2))
    route, links = mesh.route(a, b), mesh.links(a, b)
    assert (route[0], route[-1]) == (a, b) and len(links) == len(route) - 1 == mesh.hops(a, b)
    neighbours = mesh.neighbours()
    assert [int(neighbours[link // 4, link % 4]) for link in links] == list(route[1:])
    assert [link // 4 for link in links] == list(route[:-1])
    axes = [link % 4 // 2 for link in links]  # 0 along the row
    assert axes == sorted(axes)
    assert len({link % 4 for link in links}) <= 2  # no way back


def test_a_torus_takes_the_positive_direction_where_both_ways_are_as_long() -> None:
    assert Mesh(4, 1, torus=True).route(3, 1) == (3, 0, 1)
    assert Mesh(5, 1, torus=True).route(3, 1) == (3, 2, 1)
    assert Mesh(4, 1).route(3, 1) == (3, 2, 1)


@given(meshes, st.data())
def test_a_tree_reaches_every_destination_by_one_way(mesh, data) -> None:
    a = data.draw(st.integers(0, mesh.nodes - 1))
    to = data.draw(st.lists(st.integers(0, mesh.nodes - 1), min_size=1, max_size=8))
    neighbours = mesh.neighbours()
    tree = nx.DiGraph()
    tree.add_node(a)
    tree.add_edges_from((link // 4, int(neighbours[link // 4, link % 4])) for link in mesh.tree(a, to))
    assert nx.is_arborescence(tree) and set(to) <= set(tree)
    assert all(nx.shortest_path(tree, a, b) == list(mesh.route(a, b)) for b in to)
    assert all(tree.out_degree(node) or node in (a, *to) for node in tree)  # nothing leads nowhere


@given(st.integers(1, 6), st.integers(1, 6))
def test_a_snake_goes_from_neighbour_to_neighbour(columns, rows) -> None:
    mesh = Mesh(columns, rows)
    snake = mesh.snake()
    assert sorted(snake) == list(range(mesh.nodes))
    assert all(mesh.hops(a, b) == 1 for a, b in pairwise(snake))


def test_the_meshes_of_chips() -> None:
    assert mesh_of(small_tiles()) == Mesh(10, 10)
    assert mesh_of(isaac_ce(), torus=True) == Mesh(7, 6, torus=True)  # 168 tiles, 4 at a router
    with pytest.raises(BaleError, match="rows: a mesh has at least 1, got 0"):
        Mesh(3, 0)
