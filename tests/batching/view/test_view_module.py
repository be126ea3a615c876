"""A batched model is an nn.Module with the parameters and the state_dict keys of the per-sample one."""

import copy

import torch
from same import assert_all_close, assert_same
from small import WIDTH, Tree, UseModel, trees, vectors
from torch import nn

import bale


class Rich(nn.Module):
    """Parameters, buffers, submodules, extra state."""

    def __init__(self):
        super().__init__()
        self.h0 = nn.Parameter(torch.randn(WIDTH))
        self.tree = Tree()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("cache", torch.ones(1), persistent=False)
        self.version = 3

    def forward(self, tree):
        return self.tree(tree) * self.scale + self.h0 * self.cache

    def get_extra_state(self):
        return {"version": self.version}

    def set_extra_state(self, state):
        self.version = state["version"]


def test_parameters_and_buffers_are_the_same_objects_under_the_same_names():
    model = Rich()
    batched = bale.batch(model)
    assert isinstance(batched, nn.Module)
    for names in ("named_parameters", "named_buffers", "named_children"):
        got, wanted = dict(getattr(batched, names)()), dict(getattr(model, names)())
        assert list(got) == list(wanted)
        assert all(got[name] is wanted[name] for name in wanted)


def test_named_modules():
    model = Rich()
    batched = bale.batch(model)
    got, wanted = dict(batched.named_modules()), dict(model.named_modules())
    assert list(got) == list(wanted)
    assert got.pop("") is batched
    assert all(got[name] is wanted[name] for name in got)
    assert batched.get_submodule("tree.leaf") is model.tree.leaf
    assert batched.get_parameter("tree.leaf.weight") is model.tree.leaf.weight
    assert batched.get_buffer("scale") is model.scale


def test_inner_is_the_module_itself():
    model = Tree()
    assert bale.batch(model).inner is model


def test_attributes_of_the_model_are_reached():
    model = Rich()
    batched = bale.batch(model)
    assert batched.tree is model.tree
    assert batched.h0 is model.h0
    assert batched.scale is model.scale


def test_state_dict_keys_and_order():
    model = Rich()
    got, wanted = bale.batch(model).state_dict(), model.state_dict()
    assert list(got) == list(wanted)
    assert got["_extra_state"] == {"version": 3}
    assert all(got[key].data_ptr() == wanted[key].data_ptr() for key in wanted if key != "_extra_state")


def test_load_state_dict_both_ways():
    a, b = Rich(), Rich()
    a.version = 9
    batched = bale.batch(b)
    assert str(batched.load_state_dict(a.state_dict())) == "<All keys matched successfully>"
    assert b.version == 9
    assert_all_close(batched(trees()), [a(t) for t in trees()])
    c = Rich()
    c.load_state_dict(batched.state_dict())
    assert_all_close([c(t) for t in trees()], [a(t) for t in trees()])


def test_missing_keys_are_named_as_the_models():
    state = Tree().state_dict()
    del state["leaf.bias"]
    found = bale.batch(Tree()).load_state_dict(state, strict=False)
    assert found.missing_keys == ["leaf.bias"]


def test_load_state_dict_with_assign():
    batched, other = bale.batch(Tree()), Tree()
    batched.load_state_dict(other.state_dict(), assign=True)
    assert_all_close(batched(trees()), [other(t) for t in trees()])
    assert batched.leaf.weight is batched.inner.leaf.weight


def test_state_dict_hooks_of_the_model_run():
    model = Tree()
    model.register_state_dict_post_hook(lambda module, state, prefix, metadata: state.update({prefix + "more": 1}))
    assert "more" in bale.batch(model).state_dict()


class Outer(nn.Module):
    """A bigger program: a batched encoder inside, a plain head on all outputs at once."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, samples):
        return self.head(torch.stack(self.encoder(samples)))


class Looping(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, samples):
        return [self.inner(s) for s in samples]


def test_nested_in_a_bigger_module():
    torch.manual_seed(0)
    model = Tree()
    outer = Outer(bale.batch(model))
    assert list(outer.state_dict()) == [
        *(f"encoder.{key}" for key in model.state_dict()), "head.weight", "head.bias"
    ]  # fmt: skip
    assert len(list(outer.parameters())) == 6
    loop = Outer(Looping(model))
    loop.head = outer.head
    assert_all_close(outer(trees()), loop(trees()))
    got = torch.autograd.grad(outer(trees()).square().sum(), list(outer.parameters()))
    wanted = torch.autograd.grad(loop(trees()).square().sum(), list(outer.parameters()))
    assert_all_close(got, wanted)


def test_a_bigger_module_moves_it_along():
    outer = Outer(bale.batch(Tree()))
    outer.float().eval()
    assert outer.encoder.inner.leaf.weight.dtype is torch.float32
    assert not outer.encoder.inner.leaf.training
    outer.requires_grad_(False)
    assert not outer.encoder.inner.leaf.weight.requires_grad


def test_loading_a_bigger_modules_state():
    plain = Outer(Tree())  # the same keys, since a batched model has those of its inner one
    outer = Outer(bale.batch(Tree()))
    outer.load_state_dict(plain.state_dict())
    assert_all_close(outer.encoder(trees()), [plain.encoder(t) for t in trees()])


def test_two_batched_models_of_one_module():
    model = Tree()
    a, b = bale.batch(model), bale.batch(model, policy="depth")
    assert_all_close(a(trees()), b(trees()))
    loss = torch.stack(a(trees())).sum() + torch.stack(b(trees())).sum()
    got = torch.autograd.grad(loss, model.leaf.weight)
    wanted = torch.autograd.grad(2 * torch.stack([model(t) for t in trees()]).sum(), model.leaf.weight)
    assert_all_close(got, wanted)


def test_apply_reaches_every_module_once():
    names = []
    bale.batch(Tree()).apply(lambda module: names.append(type(module).__name__))
    assert sorted(names) == ["Batched", "Linear", "Linear"]


def test_zero_grad_and_requires_grad():
    model = Tree()
    batched = bale.batch(model)
    torch.stack(batched(trees())).sum().backward()
    batched.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    batched.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())


def test_a_parameter_added_later_is_seen_by_both():
    model = UseModel(lambda m, x: m.cell(x) * m.late if hasattr(m, "late") else m.cell(x), cell=nn.Linear(3, 3))
    batched = bale.batch(model)
    batched(vectors(2))
    model.late = nn.Parameter(torch.randn(WIDTH))
    assert "late" in batched.state_dict()
    assert_same(model, vectors(2))
    assert_all_close(batched(vectors(2)), [model(x) for x in vectors(2)])


def test_a_parameter_registered_on_the_batched_model_is_the_inner_models():
    model = Tree()
    batched = bale.batch(model)
    batched.register_parameter("extra", nn.Parameter(torch.ones(1)))
    assert model.extra is batched.extra


def test_repr_shows_the_model():
    text = repr(bale.batch(Tree(), policy="depth"))
    assert "leaf" in text
    assert "depth" in text


# A batched model inside a traced forward joins the trace.


def test_a_batched_model_inside_a_traced_forward():
    inner = bale.batch(Tree())

    class Sentences(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = inner
            self.out = nn.Linear(WIDTH, 2)

        def forward(self, trees):
            return self.out(torch.stack(self.words(trees)).sum(0))

    ts = trees()
    samples = [ts[:2], ts[2:], ts[1:4]]
    outer = Sentences()
    wanted = [outer.out(torch.stack([inner.inner(t) for t in sample]).sum(0)) for sample in samples]
    batched = bale.batch(outer, check="always")
    assert_all_close(batched(samples), wanted)
    parameters = list(outer.parameters())
    got = torch.autograd.grad(torch.stack(batched(samples)).sum(), parameters)
    assert_all_close(got, torch.autograd.grad(torch.stack(wanted).sum(), parameters))
    alone = bale.batch(inner.inner)
    alone(ts)
    assert batched.last.batches <= alone.last.batches + 2


def test_a_stacked_batched_model_inside_a_traced_forward():
    inner = bale.batch(Tree(), stacked=True)
    outer = UseModel(lambda m, sample: m.words(sample).mean(0), words=inner)
    samples = [trees()[:2], trees()[2:]]
    wanted = [torch.stack([inner.inner(t) for t in sample]).mean(0) for sample in samples]
    assert_all_close(bale.batch(outer)(samples), wanted)


def test_a_batched_model_from_outside_the_tree_of_modules():
    inner = bale.batch(Tree())
    outer = UseModel(lambda m, sample: m.out(torch.stack(inner(sample)).sum(0)), out=nn.Linear(WIDTH, 2))
    samples = [trees()[:2], trees()[2:]]
    wanted = [outer.out(torch.stack([inner.inner(t) for t in sample]).sum(0)) for sample in samples]
    assert_all_close(bale.batch(outer)(samples), wanted)


def test_copies_are_independent():
    model = Tree()
    twin = copy.deepcopy(bale.batch(model))
    with torch.no_grad():
        model.leaf.weight.zero_()
    assert twin.leaf.weight.any()
