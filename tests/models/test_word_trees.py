"""The models of trees with words at their leaves compute what their formulas say, one matrix and one product each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.made import CLASSES, EMBED, HIDDEN, WORDS

from bale.data import Tree
from bale.models import MVRNN, NaryTreeLSTM, TreeGRU, TwoTypeTreeLSTM, post_order

few = settings(max_examples=30, deadline=None)


def trees(arity=2, unary=False):
    kind = st.integers(0, 1)
    return st.recursive(
        st.builds(Tree, st.integers(0, WORDS - 1)),
        lambda below: st.builds(Tree, kind, st.lists(below, min_size=1 if unary else arity, max_size=arity).map(tuple)),
        max_leaves=10,
    )


def build(kind, **sizes):
    torch.manual_seed(0)
    return kind(**{"vocabulary": WORDS, "classes": CLASSES, "hidden": HIDDEN, **sizes}).double()


def weights_of(model):
    return {name: value.detach() for name, value in model.state_dict().items()}


def rows(gate):
    """The rows of a gate among those that lie one below the other."""
    return slice(gate * HIDDEN, (gate + 1) * HIDDEN)


def of_all_nodes(tree, state):
    """state(node) of every node in post-order, by recursion."""
    return [value for child in tree.children for value in of_all_nodes(child, state)] + [state(tree)]


def assert_heads_of(model, tree, hidden_state):
    """The model's logits are its head's on hidden_state(node), of the root or of every node."""
    weights = weights_of(model)
    model.every_node = False
    expected = weights["head.weight"] @ hidden_state(tree) + weights["head.bias"]
    torch.testing.assert_close(model(tree), expected, rtol=1e-12, atol=1e-13)
    model.every_node = True
    states = torch.stack(of_all_nodes(tree, hidden_state))
    torch.testing.assert_close(model(tree), states @ weights["head.weight"].T + weights["head.bias"])


def tree_gru_state(weights, node, arity):
    if not node.children:
        x = weights["leaf.embed.weight"][node.kind]
        z, u = (weights["leaf.gates.weight"][rows(g)] @ x + weights["leaf.gates.bias"][rows(g)] for g in range(2))
        return (1 - torch.sigmoid(z)) * torch.tanh(u)
    children = [tree_gru_state(weights, child, arity) for child in node.children]
    r, z = (weights["inner.gates.bias"][rows(g)] for g in range(2))
    u = weights["inner.candidate.bias"]
    for k, h in enumerate(children):  # a missing child adds nothing
        r = r + weights["inner.gates.weight"][rows(0), rows(k)] @ h
        z = z + weights["inner.gates.weight"][rows(1), rows(k)] @ h
    for k, h in enumerate(children):
        u = u + weights["inner.candidate.weight"][:, rows(k)] @ (torch.sigmoid(r) * h)
    kept = sum(children) / arity
    return torch.sigmoid(z) * kept + (1 - torch.sigmoid(z)) * torch.tanh(u)


@few
@given(st.integers(1, 4).flatmap(lambda arity: st.tuples(st.just(arity), trees(arity, unary=True))))
def test_tree_gru_is_the_formula(drawn):
    arity, tree = drawn
    model = build(TreeGRU, embed=EMBED, arity=arity)
    weights = weights_of(model)
    assert_heads_of(model, tree, lambda node: tree_gru_state(weights, node, arity))


def matrix_and_vector(weights, node):
    if not node.children:
        matrix = weights["word.matrices.weight"][node.kind].reshape(HIDDEN, HIDDEN)
        return weights["word.vectors.weight"][node.kind], matrix
    (a, matrix_a), (b, matrix_b) = (matrix_and_vector(weights, child) for child in node.children)
    left, right = weights["phrase.vector.weight"][:, :HIDDEN], weights["phrase.vector.weight"][:, HIDDEN:]
    p = torch.tanh(left @ (matrix_b @ a) + right @ (matrix_a @ b) + weights["phrase.vector.bias"])
    left, right = weights["phrase.matrix.weight"][:, :HIDDEN], weights["phrase.matrix.weight"][:, HIDDEN:]
    return p, left @ matrix_a + right @ matrix_b


@few
@given(trees())
def test_mv_rnn_is_the_papers(tree):
    model = build(MVRNN)
    weights = weights_of(model)
    assert_heads_of(model, tree, lambda node: matrix_and_vector(weights, node)[0])


def test_a_words_matrix_is_nearly_the_identity_at_first():
    matrices = weights_of(build(MVRNN))["word.matrices.weight"].view(WORDS, HIDDEN, HIDDEN)
    noise = matrices - torch.eye(HIDDEN)
    assert 0 < noise.abs().max() < 0.1


def two_type_state(weights, node):
    """h, c of a node."""
    if not node.children:
        x = weights["leaf.embed.weight"][node.kind]
        i, o, u = (weights["leaf.gates.weight"][rows(g)] @ x + weights["leaf.gates.bias"][rows(g)] for g in range(3))
        c = torch.sigmoid(i) * torch.tanh(u)
        return torch.sigmoid(o) * torch.tanh(c), c
    (h_left, c_left), (h_right, c_right) = (two_type_state(weights, child) for child in node.children)
    U, b = weights[f"inner.{node.kind}.gates.weight"], weights[f"inner.{node.kind}.gates.bias"]
    i, o, u, f_left, f_right = (
        U[rows(gate), :HIDDEN] @ h_left + U[rows(gate), HIDDEN:] @ h_right + b[rows(gate)] for gate in range(5)
    )
    c = torch.sigmoid(i) * torch.tanh(u) + torch.sigmoid(f_left) * c_left + torch.sigmoid(f_right) * c_right
    return torch.sigmoid(o) * torch.tanh(c), c


@few
@given(trees())
def test_two_type_tree_lstm_is_the_formula(tree):
    model = build(TwoTypeTreeLSTM, embed=EMBED)
    weights = weights_of(model)
    assert_heads_of(model, tree, lambda node: two_type_state(weights, node)[0])


@few
@given(trees(arity=3, unary=True))
def test_every_node_of_nary_is_the_root_of_its_own_tree(tree):
    model, root_alone = (build(NaryTreeLSTM, arity=3, every_node=every_node) for every_node in (True, False))
    torch.testing.assert_close(model(tree), torch.stack([root_alone(node) for node in post_order(tree)]))


def test_the_kind_of_an_inner_node_chooses_its_cell():
    model = build(TwoTypeTreeLSTM)
    leaves = (Tree(1), Tree(2))
    assert not torch.allclose(model(Tree(0, leaves)), model(Tree(1, leaves)))
    model.inner[1].load_state_dict(model.inner[0].state_dict())
    assert torch.equal(model(Tree(0, leaves)), model(Tree(1, leaves)))


@pytest.mark.parametrize("kind", [TreeGRU, MVRNN, TwoTypeTreeLSTM])
def test_the_order_of_children_counts(kind):
    model = build(kind)
    assert not torch.allclose(model(Tree(0, (Tree(1), Tree(2)))), model(Tree(0, (Tree(2), Tree(1)))))


@pytest.mark.parametrize("kind", [TreeGRU, MVRNN, TwoTypeTreeLSTM])
def test_depth_is_no_problem(kind):
    model, tree = build(kind), Tree(1)
    for _ in range(3_000):
        tree = Tree(1, (tree, Tree(2)))
    assert torch.isfinite(model(tree)).all()


@pytest.mark.parametrize("kind", [TreeGRU, MVRNN, TwoTypeTreeLSTM])
def test_a_word_without_a_vector_is_an_error(kind):
    with pytest.raises(IndexError):
        build(kind)(Tree(0, (Tree(WORDS), Tree(1))))


@pytest.mark.parametrize(("kind", "name"), [(MVRNN, "an MVRNN"), (TwoTypeTreeLSTM, "a TwoTypeTreeLSTM")])
@pytest.mark.parametrize("children", [1, 3])
def test_what_is_not_binary_is_an_error(kind, name, children):
    with pytest.raises(ValueError, match=f"{children} children and {name} takes two: binarise"):
        build(kind)(Tree(0, (Tree(1),) * children))


def test_a_node_of_too_many_children_is_an_error():
    with pytest.raises(ValueError, match=r"3 children .* TreeGRU weights for 2: .* arity=3"):
        build(TreeGRU)(Tree(0, (Tree(1), Tree(2), Tree(3))))


@pytest.mark.parametrize("kind", [-1, 2])
def test_a_node_without_a_cell_is_an_error(kind):
    with pytest.raises(ValueError, match=f"of kind {kind}, and there are cells for the kinds 0 and 1"):
        build(TwoTypeTreeLSTM)(Tree(kind, (Tree(1), Tree(2))))
