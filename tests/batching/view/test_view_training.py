"""A batched model in a training program: optimizers, copies, pickles, hooks, changed parameters."""

import copy
import io
import pickle

import pytest
import torch
from same import assert_all_close, assert_same, weighted_sum
from small import WIDTH, Tree, UseModel, trees, vectors
from torch import nn
from torch.nn.utils import prune

import bale

OPTIMIZERS = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "SGD with momentum and decay": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda ps: torch.optim.Adam(ps, lr=0.01),
    "AdamW fused": lambda ps: torch.optim.AdamW(ps, lr=0.01, foreach=True),
}


@pytest.mark.parametrize("make", [pytest.param(f, id=name) for name, f in OPTIMIZERS.items()])
def test_optimizer_steps_are_the_loops(make):
    plain = Tree()
    batched = bale.batch(copy.deepcopy(plain), check="always")
    for model, run in ((plain, lambda ss: [plain(s) for s in ss]), (batched, batched)):
        optimizer = make(model.parameters())
        for step in range(4):
            optimizer.zero_grad()
            torch.stack(run(trees()[: step + 2])).square().sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    assert_all_close(list(batched.parameters()), list(plain.parameters()))


def test_lbfgs_calls_the_model_within_a_step():
    plain = UseModel(lambda m, x: m.cell(x), cell=nn.Linear(WIDTH, WIDTH))
    batched = bale.batch(copy.deepcopy(plain))
    for model, run in ((plain, lambda ss: [plain(s) for s in ss]), (batched, batched)):
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

        def closure(optimizer=optimizer, run=run):
            optimizer.zero_grad()
            loss = torch.stack(run(vectors(4, grad=False))).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    assert_all_close(list(batched.parameters()), list(plain.parameters()), relative=1e-7)


def changed(change):
    model, samples = Tree(), trees()
    batched = bale.batch(model, check="always")
    batched(samples)
    change(model)
    parameters = list(model.parameters())
    outputs, loop = batched(samples), [model(s) for s in samples]
    assert_all_close(outputs, loop)
    assert_all_close(
        torch.autograd.grad(weighted_sum(outputs), parameters), torch.autograd.grad(weighted_sum(loop), parameters)
    )


def test_parameters_scaled_through_data_between_calls():
    changed(lambda model: [p.data.mul_(2) for p in model.parameters()])


def test_parameters_data_replaced_between_calls():
    def change(model):
        model.leaf.weight.data = torch.randn(WIDTH, WIDTH)

    changed(change)


def test_parameters_changed_without_grad_between_calls():
    def change(model):
        with torch.no_grad():
            model.inner.weight.fill_(0.1)
            nn.init.xavier_uniform_(model.leaf.weight)

    changed(change)


def test_a_parameter_replaced_between_calls():
    def change(model):
        model.leaf.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))

    changed(change)


def test_a_module_replaced_between_calls():
    def change(model):
        model.leaf = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())

    changed(change)


def test_a_module_that_changes_its_type_between_calls():
    def change(model):
        model.inner = nn.Bilinear(WIDTH, WIDTH, WIDTH)
        model.inner.forward = lambda x: nn.functional.bilinear(x, x, model.inner.weight, model.inner.bias)

    changed(change)


def test_a_bias_removed_between_calls():
    def change(model):
        model.leaf.bias = None

    changed(change)


def test_weights_tied_between_calls():
    def change(model):
        model.leaf.weight = model.inner.weight

    changed(change)


def test_changed_between_forward_and_backward_is_an_error_as_in_the_loop():
    model, samples = Tree(), trees()
    outputs = bale.batch(model)(samples)
    with torch.no_grad():
        model.inner.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.stack(outputs).sum().backward()


# Copies.


def test_deepcopy():
    model = Tree()
    batched = bale.batch(model, check="always")
    batched(trees())
    twin = copy.deepcopy(batched)
    assert twin.inner is not model
    assert next(twin.parameters()) is next(twin.inner.parameters())
    with torch.no_grad():
        for p in twin.parameters():
            p.mul_(2)
    assert_all_close(twin(trees()), [twin.inner(t) for t in trees()])
    assert_all_close(batched(trees()), [model(t) for t in trees()])
    torch.stack(twin(trees())).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert twin.eval().training is False
    assert batched.training is True


def test_a_deepcopy_of_a_program_that_holds_a_batched_model():
    outer = nn.ModuleDict({"encoder": bale.batch(Tree()), "head": nn.Linear(WIDTH, 2)})
    twin = copy.deepcopy(outer)
    twin.load_state_dict(outer.state_dict())
    assert_all_close(twin["encoder"](trees()), outer["encoder"](trees()))


def test_a_deepcopy_keeps_the_cells_that_were_asked_for():
    model = Tree()
    twin = copy.deepcopy(bale.batch(model, cells=[model.leaf], check="always"))
    assert_all_close(twin(trees()), [model(t) for t in trees()])


def test_pickle():
    batched = bale.batch(Tree(), policy="agenda", check="always")
    wanted = batched(trees())
    twin = pickle.loads(pickle.dumps(batched))
    assert_all_close(twin(trees()), wanted)
    assert twin.last.policy == "agenda"
    assert next(twin.parameters()) is next(twin.inner.parameters())


def test_torch_save_and_load():
    batched, file = bale.batch(Tree()), io.BytesIO()
    torch.save(batched, file)
    file.seek(0)
    assert_all_close(torch.load(file, weights_only=False)(trees()), batched(trees()))


def test_outputs_can_be_pickled_and_copied():
    outputs = bale.batch(Tree())(trees())
    with torch.no_grad():
        assert_all_close(pickle.loads(pickle.dumps([out.detach() for out in outputs])), [o.detach() for o in outputs])


# Hooks.


def test_forward_hooks_on_the_outer_module_see_all_samples():
    batched, seen = bale.batch(Tree()), []
    pre = batched.register_forward_pre_hook(lambda module, args: seen.append((module, args)))
    post = batched.register_forward_hook(lambda module, args, outputs: [out * 2 for out in outputs])
    samples = trees()
    outputs = batched(samples)
    assert len(seen) == 1
    assert seen[0][0] is batched
    assert seen[0][1][0] is samples
    pre.remove()
    post.remove()
    assert_all_close(outputs, [2 * out for out in batched(samples)])


def test_forward_hooks_on_the_per_sample_module_see_each_sample():
    model, seen = Tree(), []
    handle = model.register_forward_hook(lambda module, args, out: seen.append(len(seen)) or out * 2)
    got = bale.batch(model)(vectors(3))
    assert len(seen) == 3
    handle.remove()
    assert_all_close(got, [2 * model(x) for x in vectors(3)])


def test_forward_hooks_on_a_cell_are_the_loops():
    model, calls = Tree(), []
    model.leaf.register_forward_hook(lambda module, args, out: calls.append(1) or out * 3)
    model.leaf.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    samples = trees()
    wanted = [model(s) for s in samples]
    count = len(calls)
    assert_all_close(bale.batch(model)(samples), wanted)
    assert len(calls) == 2 * count


def test_a_hook_added_between_calls():
    model = Tree()
    batched = bale.batch(model)
    batched(trees())
    handle = model.leaf.register_forward_hook(lambda module, args, out: out * 3)
    assert_all_close(batched(trees()), [model(t) for t in trees()])
    handle.remove()
    assert_all_close(batched(trees()), [model(t) for t in trees()])


def test_global_forward_hooks():
    model, samples, names = Tree(), trees(), []
    handle = nn.modules.module.register_module_forward_hook(lambda m, a, out: names.append(type(m).__name__))
    try:
        got = bale.batch(model)(samples)
    finally:
        handle.remove()
    assert_all_close(got, [model(s) for s in samples])


def test_full_backward_hooks_on_the_outer_module():
    batched, seen = bale.batch(UseModel(lambda m, x: m.cell(x), cell=nn.Linear(WIDTH, WIDTH)), stacked=True), []
    handle = batched.register_full_backward_hook(lambda module, into, out: seen.append(out[0].shape))
    with pytest.warns(UserWarning, match="Full backward hook"):  # its input is a list of samples, not a tensor
        batched(vectors(4)).sum().backward()
    handle.remove()
    assert seen == [torch.Size([4, WIDTH])]


# Samplers of the training program.


def test_a_scheduler_of_learning_rates_and_ema_weights():
    batched = bale.batch(Tree())
    average = torch.optim.swa_utils.AveragedModel(batched)
    average.update_parameters(batched)
    assert_all_close(average(trees()), batched(trees()))


def test_parametrize_removed_between_calls():
    model = Tree()
    batched = bale.batch(model, check="always")
    nn.utils.parametrizations.weight_norm(model.leaf)
    assert_all_close(batched(trees()), [model(t) for t in trees()])
    nn.utils.parametrize.remove_parametrizations(model.leaf, "weight")
    assert_all_close(batched(trees()), [model(t) for t in trees()])


def test_pruned_weights():
    model = Tree()
    prune.l1_unstructured(model.leaf, "weight", amount=0.5)
    assert_same(model, trees())
