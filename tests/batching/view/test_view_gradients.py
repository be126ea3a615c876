"""Gradients are the loop's in every way that autograd can be asked for them."""

import pytest
import torch
from same import assert_all_close, assert_close_gradient, assert_same, observe, weighted_sum
from small import WIDTH, Tree, UseList, UseModel, sequences, trees, vectors
from torch import nn

import bale


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


def gradients_of(model, run):
    model.zero_grad(set_to_none=True)
    run()
    return [p.grad for p in model.parameters()]


# Cut where the user cuts.

CUTS = {
    "detach": lambda m, x: m.cell(m.cell(x).detach()),
    "detach of one reader": lambda m, x: (lambda h: h.detach() * h)(m.cell(x)),
    "detach of everything": lambda m, x: m.cell(x).detach(),
    "detach of the sample": lambda m, x: m.cell(x.detach()),
    "detach_": lambda m, x: m.cell(m.cell(x).clone().detach_()),
    "data": lambda m, x: m.cell(x).data * m.cell(x),
    "straight through": lambda m, x: (lambda h: h + (h.round() - h).detach())(m.cell(x)),
    "a detached row": lambda m, x: m.cell(x)[0].detach() * m.cell(x),
    "requires_grad of what is cut": lambda m, x: (m.cell(x).detach().requires_grad, m.cell(x).requires_grad),
}


def no_grad_cell(m, x):
    with torch.no_grad():
        h = m.cell(x)
    return m.cell(h) + h


def no_grad_sum(m, x):
    h = m.cell(x)
    with torch.no_grad():
        norm = h.square().sum()
    return h / norm


def no_grad_stack(m, x):
    h = m.cell(x)
    with torch.no_grad():
        total = torch.stack([h, x, h]).sum(0)
    return total + h


def no_grad_whole_stack(m, x):
    h = m.cell(x)
    with torch.no_grad():
        values = torch.stack([h, x])
    return values, values.sum(0) * h


def no_grad_softmax(m, x):
    values = torch.stack([m.cell(x), x])
    with torch.no_grad():
        weights = values.softmax(0)
    return (weights * values).sum(0)


def stack_of_detached(m, x):
    h = m.cell(x)
    return torch.stack([h.detach(), h, x]).sum(0), torch.stack([h.detach(), h.detach()]).mean(0) * h


def sum_then_detach(m, x):
    h = m.cell(x)
    return m.cell(torch.stack([h, h, x]).sum(0).detach()) + h


def python_sum_under_no_grad(m, x):
    h = m.cell(x)
    with torch.no_grad():
        total = sum([h, x, h])
    return m.cell(total)


def enable_grad_inside_no_grad(m, x):
    with torch.no_grad():
        h = m.cell(x)
        with torch.enable_grad():
            h = m.cell(h)
        return h, m.cell(h)


def set_grad_enabled(m, x):
    with torch.set_grad_enabled(False):
        h = m.cell(x)
    return h * m.cell(x)


def index_under_no_grad(m, x):
    h = m.cell(x)
    with torch.no_grad():
        row = h[0]
        rest = h[1:]
    return row * h, rest.sum() * h


def iterate_under_no_grad(m, x):
    h = m.cell(x)
    with torch.no_grad():
        rows = list(h)
    return sum(rows) * h


def unpack_under_no_grad(m, x):
    values = torch.stack([m.cell(x), x])
    with torch.no_grad():
        a, b = values
    # a row taken under no_grad still says requires_grad, though no gradient comes through it: so add one that has some
    return a * x + b + values


def identity_under_no_grad(m, x):
    h = m.cell(x)
    with torch.no_grad():
        same = m.same(h)
    return same * 2


def decorated(m, x):
    @torch.no_grad()
    def inner(h):
        return m.cell(h)

    return inner(m.cell(x)) + m.cell(x)


CUTS |= {
    f.__name__: f
    for f in (
        no_grad_cell, no_grad_sum, no_grad_stack, no_grad_whole_stack, no_grad_softmax, stack_of_detached,
        sum_then_detach, python_sum_under_no_grad, enable_grad_inside_no_grad, set_grad_enabled, index_under_no_grad,
        iterate_under_no_grad, unpack_under_no_grad, identity_under_no_grad, decorated,
    )
}  # fmt: skip


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in CUTS.items()])
def test_gradients_are_cut_exactly_there(use):
    assert_same(UseModel(use, cell=linear(), same=nn.Identity()), vectors(4))


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in CUTS.items()])
def test_cuts_for_samples_without_gradients(use):
    assert_same(UseModel(use, cell=linear(), same=nn.Identity()), vectors(4, grad=False))


def test_a_cut_in_some_samples_only():
    def use(model, sample):
        k, x = sample
        h = model.cell(x)
        return model.cell(h.detach() if k % 2 else h)

    assert_same(UseModel(use, cell=linear()), list(enumerate(vectors(4))))


def test_truncated_backpropagation_through_time():
    def use(model, xs):
        h = torch.zeros(WIDTH)
        for k, x in enumerate(xs):
            h = torch.tanh(model.cell(h) + x)
            if k % 2:
                h = h.detach()
        return h

    assert_same(UseModel(use, cell=linear()), sequences((2, 5, 3)))


def test_detach_inside_a_cell():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            with torch.no_grad():
                scale = self.linear(x).norm()
            return self.linear(x) / scale + x.detach()

    assert_same(UseModel(lambda m, x: m.cell(x), cell=Cell()), vectors(3))


# What has gradients and what has none.


def test_some_samples_with_gradients_of_their_own_and_some_without():
    assert_same(Tree(), [*vectors(2), *vectors(2, grad=False), (*vectors(1), *vectors(1, grad=False))])


def test_a_parameter_that_nothing_uses_has_no_gradient():
    model = UseModel(lambda m, x: m.cell(x), cell=linear(), spare=linear())
    torch.stack(bale.batch(model)(vectors(3))).sum().backward()
    assert model.spare.weight.grad is None
    assert model.cell.weight.grad is not None


def test_a_part_that_these_samples_do_not_reach_has_no_gradient():
    model = Tree()
    torch.stack(bale.batch(model)(vectors(3))).sum().backward()
    assert model.inner.weight.grad is None


@pytest.mark.parametrize("frozen", ["weight", "bias", "both"])
def test_frozen_parameters(frozen):
    model = Tree()
    model.leaf.weight.requires_grad_(frozen == "bias")
    model.leaf.bias.requires_grad_(frozen == "weight")
    assert_same(model, trees())


def test_everything_frozen():
    model = Tree().requires_grad_(False)
    outputs = bale.batch(model)(vectors(3, grad=False))
    assert not any(out.requires_grad for out in outputs)
    assert_same(model, trees())


def test_freezing_between_calls():
    model = Tree()
    batched = bale.batch(model, check="always")
    for frozen in (False, True, False):
        model.leaf.requires_grad_(not frozen)
        got = observe(lambda: batched(trees()), model, trees())
        wanted = observe(lambda: [model(t) for t in trees()], model, trees())
        assert got.gradients.keys() == wanted.gradients.keys()
        for name, want in wanted.gradients.items():
            assert_close_gradient(got.gradients[name], want, what=name)


def test_only_one_output_goes_backward():
    model, samples = Tree(), trees()
    loop = gradients_of(model, lambda: model(samples[2]).sum().backward())
    got = gradients_of(model, lambda: bale.batch(model)(samples)[2].sum().backward())
    assert_all_close(got, loop)


def test_outputs_go_backward_one_after_another():
    model, samples = Tree(), trees()

    def run(outputs):
        for out in outputs:
            out.sum().backward(retain_graph=True)

    loop = gradients_of(model, lambda: run([model(s) for s in samples]))
    got = gradients_of(model, lambda: run(bale.batch(model)(samples)))
    assert_all_close(got, loop)


def test_gradients_accumulate():
    model, samples = Tree(), trees()

    def run(forward):
        for _ in range(2):
            torch.stack(forward(samples)).square().sum().backward()

    loop = gradients_of(model, lambda: run(lambda ss: [model(s) for s in ss]))
    assert_all_close(gradients_of(model, lambda: run(bale.batch(model))), loop)


def test_retain_graph():
    model, samples = Tree(), trees()

    def run(outputs):
        loss = torch.stack(outputs).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()

    loop = gradients_of(model, lambda: run([model(s) for s in samples]))
    assert_all_close(gradients_of(model, lambda: run(bale.batch(model)(samples))), loop)


def test_backward_twice_without_retain_graph_is_refused():
    loss = torch.stack(bale.batch(Tree())(trees())).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_forwards_and_then_their_backwards(order):
    model, samples = Tree(), trees()

    def run(forward):
        losses = [torch.stack(forward(samples[:3])).exp().sum(), torch.stack(forward(samples[1:])).square().sum()]
        for k in order:
            losses[k].backward()

    loop = gradients_of(model, lambda: run(lambda ss: [model(s) for s in ss]))
    assert_all_close(gradients_of(model, lambda: run(bale.batch(model))), loop)


def test_an_output_goes_into_the_next_call():
    model, batched = Tree(), None

    def run(forward):
        first = forward(trees())
        torch.stack(forward([(out, out) for out in first])).sum().backward()

    loop = gradients_of(model, lambda: run(lambda ss: [model(s) for s in ss]))
    batched = bale.batch(model)
    assert_all_close(gradients_of(model, lambda: run(batched)), loop)


def test_gradients_for_the_tensors_of_a_sample():
    samples = sequences()
    leaves = [x for xs in samples for x in xs]
    model = UseList(lambda hs, xs: torch.stack(hs).max(0).values)
    got = torch.autograd.grad(weighted_sum(bale.batch(model)(samples)), leaves)
    assert_all_close(got, torch.autograd.grad(weighted_sum([model(s) for s in samples]), leaves))


def test_a_sample_that_is_itself_computed():
    model, base = Tree(), torch.randn(WIDTH, requires_grad=True)
    samples = [base * 2, base.exp(), (base[:3], base + 1)]
    got = torch.autograd.grad(weighted_sum(bale.batch(model)(samples)), base, retain_graph=True)
    assert_all_close(got, torch.autograd.grad(weighted_sum([model(s) for s in samples]), base))


# Second derivatives.


def smooth(samples=None):
    def use(model, xs):
        h = model.h0
        for x in xs:
            h = torch.tanh(model.cell(h) * x)
        return torch.stack([h, *xs]).softmax(0).sum(1), h.square().sum()

    return UseModel(use, cell=linear(), h0=nn.Parameter(torch.randn(WIDTH)))


@pytest.mark.parametrize("policy", list(bale.POLICIES))
def test_create_graph(policy):
    model, samples = smooth(), sequences()
    sources = [*model.parameters(), *(x for xs in samples for x in xs)]

    def second(outputs):
        first = torch.autograd.grad(weighted_sum(outputs), sources, create_graph=True, allow_unused=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first if g is not None), sources, allow_unused=True)

    got = second(bale.batch(model, policy=policy)(samples))
    for out, want in zip(got, second([model(s) for s in samples]), strict=True):
        assert_close_gradient(out, want)


def test_gradcheck_and_gradgradcheck():
    model = smooth()
    batched = bale.batch(model)
    xs = vectors(3)

    def run(*xs):
        return tuple(out for _, out in batched([xs[:2], xs[2:]]))

    assert torch.autograd.gradcheck(run, xs)
    assert torch.autograd.gradgradcheck(run, xs)


def test_a_gradient_penalty_trains_as_the_loop():
    model, samples = Tree(), vectors(3)

    def run(forward):
        out = torch.stack(forward(samples)).sum()
        penalty = torch.autograd.grad(out, samples, create_graph=True)
        (out + sum(g.norm() for g in penalty)).backward(inputs=list(model.leaf.parameters()))

    loop = gradients_of(model.leaf, lambda: run(lambda ss: [model(s) for s in ss]))
    assert_all_close(gradients_of(model.leaf, lambda: run(bale.batch(model))), loop)


# The world around: hooks, in-place, kept outputs.


def test_hooks_on_parameters_see_the_loops_gradient():
    model, samples, seen = Tree(), trees(), []
    handle = model.leaf.weight.register_hook(lambda g: seen.append(g.clone()) or g * 2)
    loop = gradients_of(model, lambda: torch.stack([model(s) for s in samples]).sum().backward())
    got = gradients_of(model, lambda: torch.stack(bale.batch(model)(samples)).sum().backward())
    handle.remove()
    assert_all_close(got, loop)
    assert_all_close(seen[1], seen[0])


def test_hooks_on_outputs():
    model, samples = Tree(), trees()

    def run(outputs):
        outputs[1].register_hook(lambda g: g * 3)
        torch.stack(outputs).sum().backward()

    loop = gradients_of(model, lambda: run([model(s) for s in samples]))
    assert_all_close(gradients_of(model, lambda: run(bale.batch(model)(samples))), loop)


def test_outputs_modified_in_place():
    model, samples = UseModel(lambda m, tree: m.tree(tree) * 2, tree=Tree()), trees()

    def run(outputs):
        outputs[0].mul_(3)
        outputs[1] += outputs[0]
        outputs[2][0] = 0
        outputs[3].zero_()
        torch.stack(outputs).square().sum().backward()
        return [out.detach().clone() for out in outputs]

    results = []
    loop = gradients_of(model, lambda: results.append(run([model(s) for s in samples])))
    got = gradients_of(model, lambda: results.append(run(bale.batch(model)(samples))))
    assert_all_close(got, loop)
    assert_all_close(results[1], results[0])


def test_outputs_kept_across_steps_do_not_change():
    model, batched = Tree(), None
    batched = bale.batch(model)
    kept, copies = [], []
    for k in range(3):
        outputs = batched([x * (k + 1) for x in vectors(3)])
        kept += outputs
        copies += [out.detach().clone() for out in outputs]
        torch.stack(outputs).sum().backward()
        with torch.no_grad():
            for p in model.leaf.parameters():
                p -= 0.1 * p.grad
    assert_all_close(kept, copies)


def test_an_output_that_is_written_to_leaves_the_others_alone():
    x = vectors(1)[0]
    outputs = bale.batch(UseModel(lambda m, s: m.cell(s), cell=linear()))([x, x, x])
    before = outputs[1].detach().clone()
    with torch.no_grad():
        outputs[0].fill_(7)
    assert torch.equal(outputs[1], before)
    assert outputs[0].is_contiguous()


def test_an_output_is_no_view_of_anything():
    for out in bale.batch(Tree())(trees()):
        assert out._base is None
        assert out.untyped_storage().nbytes() == out.numel() * out.element_size()
