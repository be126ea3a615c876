"""Is a compacted network the same as the original whose removed outputs nobody reads?"""

import pickle
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune

from bale.compress.compact import remove_outputs_, resize_
from bale.compress.consumers import Consumer, Group, find_groups
from bale.compress.structured import prune_, scores
from bale.errors import BaleError
from bale.models.lenet5 import LeNet5
from bale.models.resnet20 import ResNet20
from bale.models.vgg8 import VGG8

# Networks to draw.


class TwoReaders(nn.Module):
    """Two convolutions that read the same maps; their results are added."""

    def __init__(self, inputs: int, outputs: int, axes: int) -> None:
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d)[axes - 1]
        self.a, self.b = kind(inputs, outputs, 1), kind(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x).relu()


class Flat(nn.Module):
    """Flattens in one of the ways that people write."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "view":
            return torch.tanh(x).view(x.size(0), -1)
        if self.way == "reshape":
            return x.reshape((x.shape[0], -1))
        return x.flatten(1) if self.way == "method" else torch.flatten(x, start_dim=1)


class Mean2d(nn.Module):
    """The mean of each map of two axes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.mean(x, dim=(-1, 2))


class Functions(nn.Module):
    """What is channel-wise, as functions and methods."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        x = 1 - functional.leaky_relu(x) * 2
        pool = functional.max_pool1d if self.axes == 1 else functional.max_pool2d
        return functional.gelu(pool(x, 3, stride=1, padding=1)).clamp(-2, 2) + 0.5


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A network of convolutions, norms, pools, a flatten and full layers in float64, and a batch for it."""
    axes = draw(st.sampled_from([1, 2]))
    conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[axes - 1]
    pools = ((nn.MaxPool1d, nn.AvgPool1d), (nn.MaxPool2d, nn.AvgPool2d))[axes - 1]
    between = [nn.ReLU(), nn.Tanh(), nn.GELU(), nn.PReLU(), nn.Dropout(0.5), nn.Identity(), Functions(axes)]
    torch.manual_seed(draw(st.integers(0, 1 << 20)))
    channels, size, layers = draw(st.integers(1, 3)), 8, list[nn.Module]()
    x = torch.randn(4, channels, *[size] * axes, dtype=torch.float64)
    for _ in range(draw(st.integers(1, 3))):
        outputs = draw(st.integers(1, 5))
        mode = draw(st.sampled_from(["zeros", "circular"]))
        layers.append(conv(channels, outputs, 3, padding=1, bias=draw(st.booleans()), padding_mode=mode))
        channels = outputs
        if draw(st.booleans()):
            layers.append(norm(channels, affine=draw(st.booleans()), track_running_stats=draw(st.booleans())))
        layers.append(draw(st.sampled_from(between)))
        if draw(st.booleans()):
            layers += [conv(channels, channels, 3, padding=1, groups=channels, bias=draw(st.booleans())), nn.ReLU()]
        if draw(st.booleans()):
            layers.append(draw(st.sampled_from(pools))(2))
            size //= 2
        if size > 2 and draw(st.booleans()):
            layers.append(TwoReaders(channels, 2, axes))
            channels = 2
            layers.append(conv(channels, channels, 1))
    if axes == 2 and draw(st.booleans()):
        layers.append(Mean2d())
        features = channels
    else:
        layers.append(draw(st.sampled_from([nn.Flatten(), *map(Flat, ("view", "reshape", "method", "function"))])))
        features = channels * size**axes
    if draw(st.booleans()):
        layers.append(nn.BatchNorm1d(features))
    for _ in range(draw(st.integers(0, 2))):
        hidden = draw(st.integers(1, 6))
        layers += [nn.Linear(features, hidden, bias=draw(st.booleans())), nn.SiLU()]
        if draw(st.booleans()):
            layers.append(nn.BatchNorm1d(hidden))
        features = hidden
    return varied(nn.Sequential(*layers, nn.Linear(features, 3))), x


def varied(model: nn.Module) -> nn.Module:
    """`model` in float64, with batch norms as after some training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                if tensor is not None:
                    nn.init.normal_(tensor)
            if module.running_var is not None:
                nn.init.uniform_(module.running_var, 0.5, 2)
    return model.double()


def drawn_keeps(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """Some outputs for every group, at least one."""
    generator = torch.Generator().manual_seed(seed)
    keeps = {}
    for name in find_groups(model).groups:
        outputs = model.get_submodule(name).weight.shape[0]
        kept = torch.rand(outputs, generator=generator) < 0.6
        kept[torch.randint(outputs, (), generator=generator)] = True
        keeps[name] = kept.nonzero().flatten()
    return keeps


# The law.


def check_law(model: nn.Module, x: Tensor, keeps: dict[str, Tensor], train: bool) -> None:
    """Compacted = original whose consumers' columns of the removed outputs are zero, in value and gradient."""
    compacted, zeroed = deepcopy(model), deepcopy(model)
    groups = find_groups(model).groups
    assert set(groups) == set(keeps)
    stays = {key: torch.ones_like(tensor, dtype=torch.bool) for key, tensor in model.state_dict().items()}
    for name, group in groups.items():
        gone = torch.ones(model.get_submodule(name).weight.shape[0], dtype=torch.bool)
        gone[keeps[name]] = False
        for module in (name, *group.followers):
            for tensor in ("weight", "bias", "running_mean", "running_var"):
                if (mask := stays.get(f"{module}.{tensor}")) is not None:
                    mask[gone.repeat_interleave(len(mask) // len(gone))] = False
        for consumer in group.consumers:
            columns = gone.repeat_interleave(consumer.positions)
            stays[f"{consumer.name}.weight"][:, columns] = False
            with torch.no_grad():
                zeroed.get_submodule(consumer.name).weight[:, columns] = 0
        remove_outputs_(compacted, group, keeps[name])
    results = []
    for either in (compacted, zeroed):
        either.train(train)
        for module in either.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        results.append(either(x))
        results[-1].square().sum().backward()
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)
    originals, survivors = zeroed.state_dict(keep_vars=True), compacted.state_dict(keep_vars=True)
    assert list(originals) == list(survivors)
    for key, survivor in survivors.items():
        original, mask = originals[key], stays[key]
        torch.testing.assert_close(survivor.detach().flatten(), original.detach()[mask], rtol=1e-10, atol=1e-10)
        if survivor.requires_grad:
            torch.testing.assert_close(survivor.grad.flatten(), original.grad[mask], rtol=1e-8, atol=1e-9)


@given(networks(), st.integers(0, 1 << 20), st.booleans())
def test_compacted_is_the_original_with_unread_outputs(drawn: tuple[nn.Module, Tensor], seed: int, train: bool) -> None:
    model, x = drawn
    check_law(model, x, drawn_keeps(model, seed), train)


@pytest.mark.parametrize("depthwise", [False, True])
def test_norms_and_depthwise_convolutions_follow(depthwise: bool) -> None:
    middle = [nn.Conv2d(4, 4, 3, groups=4)] if depthwise else []
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), *middle, Functions(2), Mean2d(), nn.Linear(4, 2))
    structure = find_groups(model)
    followers = ("1", "2") if depthwise else ("1",)
    last = str(len(model) - 1)
    assert structure.groups == {"0": Group("0", followers, (Consumer(last),))}
    assert structure.unprunable[last] == "its outputs are the network's results"


NETWORKS = [
    pytest.param(lambda: LeNet5(), id="LeNet5"),
    pytest.param(lambda: VGG8(width=4), id="VGG8"),
    pytest.param(lambda: ResNet20(width=2), id="ResNet20"),
]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("make", NETWORKS)
def test_the_law_holds_for_the_networks_of_the_papers(make: Callable[[], nn.Module], train: bool) -> None:
    torch.manual_seed(0)
    model = varied(make())
    check_law(model, torch.randn(4, 1, 28, 28).double(), drawn_keeps(model, 1), train)


def test_of_a_residual_network_the_inner_convolutions_of_blocks_are_prunable() -> None:
    structure = find_groups(ResNet20(width=2))
    assert list(structure.groups) == [f"stage{i}.{j}.conv1" for i in (1, 2, 3) for j in (0, 1, 2)]
    group = structure.groups["stage2.0.conv1"]
    assert group == Group("stage2.0.conv1", ("stage2.0.norm1",), (Consumer("stage2.0.conv2"),))
    assert structure.unprunable["stage1.0.conv2"] == (
        "its outputs are added to those of stage1.0.shortcut in stage1.0.add"
    )
    assert structure.unprunable["conv"] == "its outputs are added to those of stage1.0.norm2 in stage1.0.add"
    assert structure.unprunable["fc"] == "its outputs are the network's results"


def test_a_flattened_channel_is_its_positions() -> None:
    assert find_groups(LeNet5()).groups["conv2"] == Group("conv2", (), (Consumer("fc1", 25),))


# Sizes, hooks, copies, files.


@pytest.mark.parametrize("make", NETWORKS)
def test_a_fresh_twin_takes_the_compacted_tensors(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = make(), torch.randn(2, 1, 28, 28)
    parameters = sum(p.numel() for p in model.parameters())
    prune_(model, 0.5)
    assert sum(p.numel() for p in model.parameters()) < 0.6 * parameters
    fresh = make()
    resize_(fresh, model.state_dict())
    fresh.load_state_dict(model.state_dict())
    assert str(fresh) == str(model)
    for twin in (fresh, deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin.eval()(x), model.eval()(x), rtol=0, atol=0)


@given(networks(), st.integers(0, 1 << 20))
def test_any_compacted_network_loads_into_a_fresh_twin(drawn: tuple[nn.Module, Tensor], seed: int) -> None:
    model, _ = drawn
    fresh, keeps = deepcopy(model), drawn_keeps(model, seed)
    for name, group in find_groups(model).groups.items():
        remove_outputs_(model, group, keeps[name])
    resize_(fresh, model.state_dict())
    fresh.load_state_dict(model.state_dict())
    assert str(fresh) == str(model)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), model.parameters(), strict=True))


def test_modules_hooks_dtypes_and_frozen_parameters_stay() -> None:
    model = VGG8(width=4).to(torch.bfloat16)
    model.head[0].weight.requires_grad_(False)
    before, seen = dict(model.named_modules()), []
    model.features[3].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    prune_(model, 0.5)
    assert all(module is before[name] for name, module in model.named_modules())
    model(torch.zeros(2, 1, 28, 28, dtype=torch.bfloat16))
    assert seen == [2]
    assert not model.head[0].weight.requires_grad and model.head[2].weight.requires_grad
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert (model.features[0].out_channels, model.features[1].num_features) == (2, 2)
    assert (model.features[3].in_channels, model.head[0].in_features, model.head[0].out_features) == (2, 72, 16)


def test_a_compacted_network_can_be_compacted_again_and_trains() -> None:
    torch.manual_seed(0)
    model, x = VGG8(width=4), torch.randn(4, 1, 28, 28)
    prune_(model, 0.5)
    prune_(model, 0.5)
    assert model.features[0].out_channels == 1
    fresh = VGG8(width=4)
    resize_(fresh, model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(x).square().sum().backward()
    optimizer.step()
    fresh.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    "key, change, expected",
    [
        ("conv1.weight", lambda t: None, "conv1.weight: is missing"),
        ("conv3.weight", lambda t: torch.zeros(2), "conv3.weight: is saved, but the model has no such tensor"),
        ("conv1.weight", lambda t: t[..., :3], r"conv1.weight: is saved with shape \[6, 1, 5, 3\]"),
        ("conv1.weight", lambda t: t.flatten(1), r"conv1.weight: is saved with shape \[6, 25\]"),
        ("conv1.weight", lambda t: torch.zeros(7, 1, 5, 5), r"the model's layer has 6 outputs"),
        ("conv1.weight", lambda t: t[:4], r"conv1.bias: is saved with shape \[6\].* it would be \[4\]"),
        ("fc1.weight", lambda t: t[:, :399], r"fc1.weight: is saved with shape \[120, 399\]"),
        ("fc3.weight", lambda t: t[:5], "fc3 cannot have fewer outputs: its outputs are the network's results"),
    ],
)
def test_tensors_that_fewer_outputs_do_not_explain_are_refused(
    key: str, change: Callable[[Tensor], Tensor | None], expected: str
) -> None:
    state = LeNet5().state_dict()
    changed = change(state.pop(key, torch.empty(0)))
    if changed is not None:
        state[key] = changed
    model = LeNet5()
    before = str(model)
    with pytest.raises(BaleError, match=expected):
        resize_(model, state)
    assert str(model) == before


@pytest.mark.parametrize("keep", [[], [1, 0], [0, 0], [-1, 2], [0, 6]])
def test_outputs_to_keep_must_be_rising_indices(keep: list[int]) -> None:
    model = LeNet5()
    with pytest.raises(BaleError, match="conv1: keep must be rising int64 indices of its 6 outputs"):
        remove_outputs_(model, find_groups(model).groups["conv1"], torch.tensor(keep, dtype=torch.int64))
    assert model.conv1.out_channels == 6


# What cannot be pruned, and why.


class Forward(nn.Module):
    """Modules by name and a forward that is given."""

    def __init__(self, forward: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class Halved(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def linear(reader: nn.Module | None = None, **more: nn.Module) -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 4), "b": reader or nn.Linear(4, 2), **more}


def conv(reader: nn.Module | None = None, **more: nn.Module) -> dict[str, nn.Module]:
    return {"a": nn.Conv2d(1, 4, 3), "b": reader or nn.Linear(4, 2), **more}


def tied() -> dict[str, nn.Module]:
    modules = linear(nn.Linear(4, 3), c=nn.Linear(3, 4))
    modules["c"].weight = modules["a"].weight
    return modules


def parametrized() -> nn.Module:
    layer = nn.Linear(3, 4)
    parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


@pytest.mark.parametrize(
    "modules, forward, reason",
    [
        (linear(), lambda m, x: m.b(m.a(x)) + m.a(x).sum(), "is called twice"),
        (linear(), lambda m, x: m.b(m.a(m.a(m.a(x)))), "is called 3 times"),
        (linear(), lambda m, x: m.b(x), "is not called as a module by the network's forward"),
        (linear(), lambda m, x: m.a(x), "its outputs are the network's results"),
        (linear(), lambda m, x: (m.b(x), m.a(x).relu())[0], "its outputs are read by no layer"),
        (linear(nn.Linear(4, 4)), lambda m, x: m.b(m.b(m.a(x))), "its outputs are read by b, which is called twice"),
        (linear(), lambda m, x: m.b(m.a(x) + x), "its outputs are added to the input x"),
        (linear(), lambda m, x: m.b(m.a(x) * m.b.bias), "its outputs are multiplied by the tensor b.bias"),
        (
            linear(),
            lambda m, x: m.b(m.a(x)) @ m.b.weight,
            "its outputs are read by b, which has parameters that a forward reads by itself, not by calling the module",
        ),
        (
            linear(c=nn.Linear(3, 4)),
            lambda m, x: m.b(torch.cat([m.a(x), m.c(x)])),
            "its outputs are concatenated with those of c",
        ),
        (linear(), lambda m, x: m.b(m.a(x) @ x.relu()), "its outputs are read by matmul together with those of relu"),
        (linear(), lambda m, x: m.b(x - m.a(x)), "its outputs are read by sub together with the input x"),
        (linear(), lambda m, x: m.b(m.a(x)[:, :2]), "its outputs are indexed"),
        (
            linear(),
            lambda m, x: m.b(m.a(x).softmax(-1)),
            "its outputs are read by softmax, which is not known to keep them apart",
        ),
        (
            linear(),
            lambda m, x: m.b(functional.pad(m.a(x), (1, 1))),
            "its outputs are read by pad, which is not known to keep them apart",
        ),
        (linear(), lambda m, x: m.b(m.a(x).view(-1, 4)), "its outputs are reshaped to a size that is fixed"),
        (
            linear(nn.Linear(4, 2), c=nn.LayerNorm(4)),
            lambda m, x: m.b(m.c(m.a(x))),
            "its outputs are read by c (LayerNorm), which is not known to keep them apart",
        ),
        (
            linear(nn.LSTM(4, 2)),
            lambda m, x: m.b(m.a(x))[0],
            "its outputs are read by b (LSTM), which is not known to keep them apart",
        ),
        (
            linear(c=nn.AvgPool1d(1)),
            lambda m, x: m.b(m.c(m.a(x))),
            "its outputs are read by c (AvgPool1d), which is not known to keep them apart",
        ),
        (
            linear(c=nn.PReLU(4)),
            lambda m, x: m.b(m.c(m.a(x))),
            "its outputs are read by c (PReLU), which is not known to keep them apart",
        ),
        (
            linear(nn.Linear(8, 2)),
            lambda m, x: m.b(m.a(x).flatten(1)),
            "its outputs are read by b as 8 inputs, which is not their number",
        ),
        (
            linear(),
            lambda m, x: m.b(functional.max_pool1d(m.a(x), 1)),
            "its outputs are read by max_pool1d, which is not known to keep them apart",
        ),
        (linear(nn.Conv1d(4, 2, 1)), lambda m, x: m.b(m.a(x)), "its outputs are read by b along another axis"),
        (
            conv(),
            lambda m, x: m.b(m.a(x)),
            "its outputs are read by b along another axis, without a flatten between them",
        ),
        (conv(nn.Conv1d(4, 2, 1)), lambda m, x: m.b(m.a(x)), "its outputs are read by b along another axis"),
        (
            conv(nn.Conv2d(4, 2, 1, groups=2)),
            lambda m, x: m.b(m.a(x)),
            "its outputs are read by b, a convolution of 2 groups, not one a channel",
        ),
        (
            conv(nn.Conv2d(4, 8, 1, groups=4)),
            lambda m, x: m.b(m.a(x)),
            "its outputs are read by b, a convolution of 4 groups, not one a channel",
        ),
        (
            conv(c=nn.GroupNorm(2, 4)),
            lambda m, x: m.b(m.c(m.a(x)).mean((2, 3))),
            "its outputs are read by c (GroupNorm), which is not known to keep them apart",
        ),
        (
            conv(),
            lambda m, x: m.b(m.a(x).mean(1)),
            "its outputs are read by mean, which is not known to keep them apart",
        ),
        (
            conv(),
            lambda m, x: m.b(m.a(x).flatten()),
            "its outputs are read by flatten, which is not known to keep them apart",
        ),
        (
            {"a": nn.Conv2d(2, 2, 1, groups=2), "b": nn.Conv2d(2, 1, 1)},
            lambda m, x: m.b(m.a(x)),
            "is a convolution of 2 groups: it shrinks only with the layer before it",
        ),
        (tied(), lambda m, x: m.b(m.a(x)) + m.c(x), "shares its parameters with another module"),
        ({**linear(), "a": nn.LazyLinear(4)}, lambda m, x: m.b(m.a(x)), "is a LazyLinear, not a plain Linear"),
        ({**linear(), "a": Halved(3, 4)}, lambda m, x: m.b(m.a(x)), "is a Halved, not a plain Linear"),
        (
            {**linear(), "a": parametrized()},
            lambda m, x: m.b(m.a(x)),
            "is a ParametrizedLinear, not a plain Linear",
        ),
        (
            {**linear(), "a": prune.l1_unstructured(nn.Linear(3, 4), "weight", 2)},
            lambda m, x: m.b(m.a(x)),
            "has a weight that is computed from other parameters, as by weight_norm or torch.nn.utils.prune",
        ),
    ],
)
def test_what_cannot_be_pruned_says_why(
    modules: dict[str, nn.Module], forward: Callable[..., Tensor], reason: str
) -> None:
    assert find_groups(Forward(forward, **modules)).unprunable["a"] == reason


def read_by_two(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y) + m.c(y.relu())


def number_read(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y / y.shape[1])


def whole_shape_read(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(torch.zeros_like(x).expand(y.shape) + 1)


def size_read(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y) / y.size(1)


def height_read(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    return (m.b(y) / y.shape[-1] / y.size(2)).to(y.dtype)


def other_samples(m: nn.Module, x: Tensor) -> Tensor:
    # Frames of a film: a sample's inputs are those of several runs of the convolution.
    return m.b(m.a(x.flatten(0, 1)).view(x.size(0), -1))


def same_samples(m: nn.Module, x: Tensor) -> Tensor:
    n = x.size(0)
    return m.b(functional.relu(m.a(x)).view(n, -1))


@pytest.mark.parametrize("modules", [linear(), conv(nn.Conv2d(4, 2, 1))])
def test_a_number_of_outputs_that_is_read_must_stay(modules: dict[str, nn.Module]) -> None:
    for forward in (number_read, whole_shape_read, size_read):
        reason = find_groups(Forward(forward, **modules)).unprunable["a"]
        assert reason == "the number of its outputs is read by the forward"


def test_heights_and_types_that_are_read_do_no_harm() -> None:
    model = varied(Forward(height_read, **conv(nn.Conv2d(4, 2, 1))))
    check_law(model, torch.randn(2, 1, 6, 6).double(), {"a": torch.tensor([1, 3])}, train=True)


def test_a_mean_that_keeps_its_axes_is_still_maps() -> None:
    model = varied(Forward(lambda m, x: m.b(m.a(x).mean((-2, 3), keepdim=True)), **conv(nn.Conv2d(4, 2, 1))))
    check_law(model, torch.randn(2, 1, 6, 6).double(), {"a": torch.tensor([1, 3])}, train=True)


def test_a_layer_whose_forward_was_replaced_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].forward = lambda x: x
    structure = find_groups(model)
    assert structure.groups == {}
    assert structure.unprunable["0"] == "its outputs are read by 1, which has a forward of its own"


def test_a_view_flattens_only_with_the_number_of_its_own_samples() -> None:
    for modules in (conv(), linear()):
        assert find_groups(Forward(same_samples, **modules)).groups["a"].consumers == (Consumer("b"),)
    reason = find_groups(Forward(other_samples, **conv())).unprunable["a"]
    assert reason == "its outputs are read by view together with those of size"


def test_one_layer_alone_has_nothing_to_prune() -> None:
    structure = find_groups(nn.Linear(2, 3))
    assert structure.groups == {}
    assert structure.unprunable == {"": "is the whole network: its outputs are the results"}
    assert prune_(nn.Linear(2, 3), 0.5).kept == {}


def test_a_network_that_branches_on_its_inputs_is_refused() -> None:
    model = Forward(lambda m, x: m.b(m.a(x) if x.sum() > 0 else m.a(-x)), **linear())
    with pytest.raises(BaleError, match=r"Forward: torch.fx cannot trace it: TraceError: .* needs a network that"):
        find_groups(model)


def test_looking_at_a_network_leaves_nothing_behind() -> None:
    model = Forward(lambda m, x: m.b(m.a(x)) + torch.ones(2), **linear())
    before = dict(vars(model))
    assert list(find_groups(model).groups) == ["a"]
    assert vars(model) == before


# Which outputs go.


def test_filters_are_scored_by_their_own_weights_and_scales() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -2, 3]).reshape(3, 1, 1, 1))
        model[1].weight.copy_(torch.tensor([-4.0, 1, 1]))
    group = find_groups(model).groups["0"]
    assert scores(model, group, "filters").tolist() == [4, 2, 3]
    kept = prune_(model, 0.5).kept["0"]
    assert (kept.before, kept.after, kept.indices) == (3, 2, (0, 2))
    assert model[0].weight.flatten().tolist() == [1, 3]


def test_channels_are_scored_by_who_reads_them_each_reader_counting_alike() -> None:
    model = Forward(read_by_two, **linear(c=nn.Linear(4, 2)))
    with torch.no_grad():
        model.b.weight.copy_(torch.tensor([[100.0, 0, 0, 100], [0, 0, -200, 0]]))
        model.c.weight.copy_(torch.tensor([[0.0, 1, 0, 0], [0, 2, 0, 1]]))
    group = find_groups(model).groups["a"]
    assert scores(model, group, "channels").tolist() == pytest.approx([0.25, 0.75, 0.5, 0.5])
    assert prune_(model, 0.5, "channels").kept["a"].indices == (1, 2)


@pytest.mark.parametrize("keep, outputs, expected", [(0.07, 100, 7), (0.5, 5, 3), (0.01, 3, 1), (1, 4, 4)])
def test_parts_are_rounded_up_and_of_equals_the_first_stay(keep: float, outputs: int, expected: int) -> None:
    model = nn.Sequential(nn.Linear(2, outputs), nn.Linear(outputs, 2))
    nn.init.ones_(model[0].weight)
    assert prune_(model, keep).kept["0"].indices == tuple(range(expected))


def test_only_chosen_layers_lose_outputs() -> None:
    model = LeNet5()
    pruned = prune_(model, 0.5, chosen={"conv2", "fc3"})
    assert list(pruned.kept) == ["conv2"]
    assert pruned.unprunable == {"fc3": "its outputs are the network's results"}
    assert (model.conv1.out_channels, model.conv2.out_channels, model.fc1.in_features) == (6, 8, 200)


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"keep": 0}, "keep: must be above 0 and at most 1, got 0"),
        ({"keep": 1.5}, "keep: must be above 0"),
        ({"keep": 0.5, "by": "rows"}, "by: must be 'filters' or 'channels', got 'rows'"),
        ({"keep": 0.5, "chosen": ["conv9"]}, "chosen: the model has no module 'conv9'"),
    ],
)
def test_what_is_given_out_of_range_is_refused(given: dict, expected: str) -> None:
    with pytest.raises(BaleError, match=expected):
        prune_(LeNet5(), **given)


def test_weights_that_are_no_numbers_are_refused_before_anything_is_removed() -> None:
    model = LeNet5()
    nn.init.constant_(model.fc2.weight, float("nan"))
    with pytest.raises(BaleError, match="fc2: its weights, or those around it, are NaN or infinite"):
        prune_(model, 0.5)
    assert model.conv1.out_channels == 6
