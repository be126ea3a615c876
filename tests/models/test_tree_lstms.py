"""The TreeLSTMs compute what the paper writes, equation by equation, on any tree."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bale.data import Tree, parse_ptb, ptb_samples, ptb_vocabulary, random_functions, random_ptb
from bale.models import ChildSumTreeLSTM, NaryTreeLSTM, post_order

KINDS, CLASSES, HIDDEN, EMBED = 7, 4, 5, 3
few = settings(max_examples=40, deadline=None)


def trees(max_arity):
    kind = st.integers(0, KINDS - 1)
    return st.recursive(
        st.builds(Tree, kind),
        lambda below: st.builds(Tree, kind, st.lists(below, min_size=1, max_size=max_arity).map(tuple)),
        max_leaves=10,
    )


def child_sum(seed=0, **sizes):
    torch.manual_seed(seed)
    return ChildSumTreeLSTM(**{"kinds": KINDS, "classes": CLASSES, "hidden": HIDDEN, "embed": EMBED, **sizes}).double()


def nary(arity=2, seed=0, **sizes):
    torch.manual_seed(seed)
    sizes = {"vocabulary": KINDS, "classes": CLASSES, "hidden": HIDDEN, "embed": EMBED, "arity": arity, **sizes}
    return NaryTreeLSTM(**sizes).double()


def arrays(model):
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def child_sum_of_the_paper(weights, tree):
    """Equations 2-8 of Tai et al., with one matrix and one product each; returns h, c of the root."""
    W = {"f": weights["forget.gate.weight"][:, :EMBED]}
    U = {"f": weights["forget.gate.weight"][:, EMBED:]}
    b = {"f": weights["forget.gate.bias"]}
    for position, gate in enumerate("iou"):
        rows = slice(position * HIDDEN, (position + 1) * HIDDEN)
        W[gate] = weights["node.gates.weight"][rows, :EMBED]
        U[gate] = weights["node.gates.weight"][rows, EMBED:]
        b[gate] = weights["node.gates.bias"][rows]

    def state(node):
        x = weights["embed.weight"][node.kind]
        children = [state(child) for child in node.children]
        h_sum = np.zeros(HIDDEN)  # (2)
        for h, _ in children:
            h_sum += h
        i = sigmoid(np.einsum("he,e->h", W["i"], x) + np.einsum("hk,k->h", U["i"], h_sum) + b["i"])  # (3)
        o = sigmoid(np.einsum("he,e->h", W["o"], x) + np.einsum("hk,k->h", U["o"], h_sum) + b["o"])  # (5)
        u = np.tanh(np.einsum("he,e->h", W["u"], x) + np.einsum("hk,k->h", U["u"], h_sum) + b["u"])  # (6)
        c = i * u  # (7)
        for h_k, c_k in children:
            f_k = sigmoid(np.einsum("he,e->h", W["f"], x) + np.einsum("hk,k->h", U["f"], h_k) + b["f"])  # (4)
            c = c + f_k * c_k
        return o * np.tanh(c), c  # (8)

    return state(tree)


def nary_of_the_paper(weights, tree, arity):
    """Equations 9-14 of Tai et al., with one matrix and one product each; returns h, c of the root."""
    gates = ["i", "o", "u", *range(arity)]  # a number l is the forget gate of child l
    rows = {gate: slice(position * HIDDEN, (position + 1) * HIDDEN) for position, gate in enumerate(gates)}

    def inner(gate, h_children):
        total = weights["inner.gates.bias"][rows[gate]].copy()
        for k, h_k in enumerate(h_children):  # a missing child adds nothing
            U = weights["inner.gates.weight"][rows[gate], k * HIDDEN : (k + 1) * HIDDEN]
            total += np.einsum("hk,k->h", U, h_k)
        return total

    def state(node):
        if not node.children:
            x = weights["leaf.embed.weight"][node.kind]
            i, o, u = (weights["leaf.gates.weight"][rows[g]] @ x + weights["leaf.gates.bias"][rows[g]] for g in "iou")
            c = sigmoid(i) * np.tanh(u)
            return sigmoid(o) * np.tanh(c), c
        children = [state(child) for child in node.children]
        h_children = [h for h, _ in children]
        c = sigmoid(inner("i", h_children)) * np.tanh(inner("u", h_children))  # (9), (12), (13)
        for position, (_, c_l) in enumerate(children):
            c = c + sigmoid(inner(position, h_children)) * c_l  # (10), (13)
        return sigmoid(inner("o", h_children)) * np.tanh(c), c  # (11), (14)

    return state(tree)


@few
@given(trees(max_arity=5))
def test_child_sum_is_the_papers(tree):
    model = child_sum()
    weights = arrays(model)
    h, _ = child_sum_of_the_paper(weights, tree)
    np.testing.assert_allclose(
        model(tree).detach(), weights["head.weight"] @ h + weights["head.bias"], rtol=1e-12, atol=1e-15
    )


@few
@given(st.integers(1, 4).flatmap(lambda arity: st.tuples(st.just(arity), trees(arity))))
def test_nary_is_the_papers(drawn):
    arity, tree = drawn
    model = nary(arity)
    weights = arrays(model)
    h, _ = nary_of_the_paper(weights, tree, arity)
    np.testing.assert_allclose(
        model(tree).detach(), weights["head.weight"] @ h + weights["head.bias"], rtol=1e-12, atol=1e-15
    )


@few
@given(trees(max_arity=5), st.randoms(use_true_random=False))
def test_the_order_of_children_does_not_count_for_child_sum(tree, shuffler):
    def shuffled(node):
        children = [shuffled(child) for child in node.children]
        shuffler.shuffle(children)
        return Tree(node.kind, tuple(children))

    model = child_sum()
    torch.testing.assert_close(model(shuffled(tree)), model(tree))


def test_the_order_of_children_counts_for_nary():
    model = nary()
    assert not torch.allclose(model(Tree(0, (Tree(1), Tree(2)))), model(Tree(0, (Tree(2), Tree(1)))))


def test_every_kind_and_every_shape_counts():
    made = [Tree(0), Tree(1), Tree(0, (Tree(0),)), Tree(0, (Tree(1),)), Tree(0, (Tree(0), Tree(0)))]
    model = child_sum()
    logits = torch.stack([model(tree) for tree in made])
    assert torch.unique(logits.detach().round(decimals=9), dim=0).shape[0] == len(made)


def test_the_kind_of_an_inner_node_is_not_read_by_nary():
    model = nary()
    assert torch.equal(model(Tree(0, (Tree(1), Tree(2)))), model(Tree(6_000, (Tree(1), Tree(2)))))


@pytest.mark.parametrize("make", [child_sum, nary])
def test_depth_is_no_problem(make):
    model, tree = make(), Tree(1)
    for _ in range(3_000):
        tree = Tree(2, (tree,))
    logits = model(tree)
    logits.sum().backward()
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("make", [child_sum, nary])
def test_gradients_reach_every_parameter(make):
    model = make()
    model(Tree(0, (Tree(1, (Tree(2), Tree(3))), Tree(4)))).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("make", [child_sum, nary])
def test_gradients_are_those_of_finite_differences(make):
    model, tree = make(), Tree(0, (Tree(1, (Tree(2), Tree(3))), Tree(4)))
    names, values = zip(*model.named_parameters(), strict=True)

    def logits(*parameters):
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (tree,))

    assert torch.autograd.gradcheck(logits, values)


@pytest.mark.parametrize("make", [child_sum, nary])
def test_the_seed_decides(make):
    tree = Tree(0, (Tree(1), Tree(2)))
    assert torch.equal(make(seed=1)(tree), make(seed=1)(tree))
    assert not torch.equal(make(seed=1)(tree), make(seed=2)(tree))


@pytest.mark.parametrize("make", [child_sum, nary])
def test_copies_compute_the_same(make):
    model, tree = make(), Tree(0, (Tree(1), Tree(2, (Tree(3),))))
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(tree), model(tree))
    other = make(seed=5)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(tree), model(tree))


@pytest.mark.parametrize("make", [child_sum, nary])
def test_state_dict_holds_the_parameters_alone(make):
    model = make()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("make", [child_sum, nary])
def test_forward_follows_the_models_dtype_and_device(make):
    tree = Tree(0, (Tree(1), Tree(2, (Tree(3),))))
    model = make()
    assert model(tree).dtype == torch.float64
    assert model.float()(tree).dtype == torch.float32
    assert model.to("meta")(tree).device.type == "meta"


@pytest.mark.parametrize("make", [child_sum, nary])
def test_embed_is_as_wide_as_hidden_unless_told(make):
    model = make(embed=None)
    widths = {module.embedding_dim for module in model.modules() if isinstance(module, nn.Embedding)}
    assert widths == {HIDDEN}
    assert model(Tree(0, (Tree(1), Tree(2)))).shape == (CLASSES,)


@pytest.mark.parametrize("make", [child_sum, nary])
def test_a_kind_without_a_vector_is_an_error(make):
    with pytest.raises(IndexError):
        make()(Tree(0, (Tree(KINDS),)))


def test_a_node_of_too_many_children_is_an_error():
    with pytest.raises(ValueError, match=r"3 children .* weights for 2: .* arity=3"):
        nary()(Tree(0, (Tree(1), Tree(2), Tree(3))))


@pytest.mark.parametrize("make", [child_sum, nary])
def test_every_submodule_call_takes_tensors_alone(make):
    def check(module, args, kwargs):
        assert args and not kwargs
        assert all(isinstance(argument, torch.Tensor) for argument in args)

    model = make()
    for module in list(model.modules())[1:]:
        module.register_forward_pre_hook(check, with_kwargs=True)
    model(Tree(0, (Tree(1), Tree(2, (Tree(3),)))))


def test_any_object_with_a_kind_and_children_is_a_tree():
    class Node:
        def __init__(self, kind, *children):
            self.kind, self.children = kind, children

    model = child_sum()
    assert torch.equal(model(Node(0, Node(1), Node(2))), model(Tree(0, (Tree(1), Tree(2)))))


@given(trees(max_arity=4))
def test_post_order_is_that_of_the_recursion(tree):
    def visit(node):
        return [below for child in node.children for below in visit(child)] + [node]

    assert [id(node) for node in post_order(tree)] == [id(node) for node in visit(tree)]


def test_nary_runs_on_trees_that_were_read():
    read = [parse_ptb("(3 (2 (2 unary)) (4 (3 and) (2 binary)))"), *random_ptb(3, seed=1)]
    vocabulary = ptb_vocabulary(read)
    model = nary(vocabulary=len(vocabulary), classes=5)
    for tree, _ in ptb_samples(read, vocabulary):
        assert model(tree).shape == (5,)


@pytest.mark.parametrize("name", ["functions", "ptb"])
def test_made_labels_can_be_learnt(name):
    if name == "functions":
        samples = random_functions(24, seed=2, kinds=KINDS, classes=3, max_nodes=20)
        model = child_sum(classes=3, hidden=16).float()
    else:
        made = random_ptb(24, seed=2, words=10, classes=3, leaves=5)
        vocabulary = ptb_vocabulary(made)
        samples = ptb_samples(made, vocabulary)
        model = nary(vocabulary=len(vocabulary), classes=3, hidden=16).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    labels = torch.tensor([label for _, label in samples])
    losses = []
    for _ in range(25):
        loss = nn.functional.cross_entropy(torch.stack([model(tree) for tree, _ in samples]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
