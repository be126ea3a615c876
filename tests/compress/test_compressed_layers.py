"""Is a compressed model an ordinary module: saved, copied, moved, trained, exported, and made plain again?"""

import io
import pickle
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from tests.batching.view.same import assert_same
from tests.compress.made import CASES, MODELS, STACKS, convolutional, images
from tests.models.made import drawn, made
from torch import Tensor, nn

from bale.compress import (
    ADCAwareConfig,
    BlockCirculantConfig,
    SmartDealConfig,
    UniformQuantConfig,
    bake_,
    compress_,
)
from bale.compress.layers import KINDS, Compressed
from bale.compress.layout import BlockCirculant
from bale.compress.powers import PowerOfTwoQuantizer, powers_up_to
from bale.compress.weights import coded_weights, compressed_layers
from bale.errors import CompressionError


def everywhere(module: nn.Module, name: str) -> bool:
    return isinstance(module, KINDS)


def compressed(model: str, stack: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A model, and inputs for it."""
    torch.manual_seed(seed)
    make, inputs = MODELS[model]
    made = make()
    for config in STACKS[stack]:
        compress_(made, config, None if config.method == "structured" else everywhere)
    assert compressed_layers(made)
    return made, inputs()


def train(model: nn.Module, x: Tensor, steps: int = 2, rate: float = 0.3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        result = model(x)
        (result - torch.randn(result.shape)).square().mean().backward()
        optimizer.step()


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    was = model.training
    with torch.no_grad():
        result = model.eval()(x)
    model.train(was)
    return result


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def saved(model: nn.Module) -> nn.Module:
    content = io.BytesIO()
    torch.save(model, content)
    content.seek(0)
    return torch.load(content, weights_only=False)


@pytest.mark.parametrize("model,stack", CASES)
def test_a_state_loads_into_another_model_compressed_alike(model, stack) -> None:
    first, x = compressed(model, stack)
    train(first, x)
    content = io.BytesIO()
    torch.save(first.state_dict(), content)
    content.seek(0)
    other, _ = compressed(model, stack, seed=1)
    assert not torch.equal(outputs(other, x), outputs(first, x))
    other.load_state_dict(torch.load(content), strict=True)
    assert torch.equal(outputs(other, x), outputs(first, x))


@pytest.mark.parametrize("copy", [deepcopy, saved])
@pytest.mark.parametrize("model,stack", CASES)
def test_a_copy_is_another_model_with_the_same_results(model, stack, copy: Callable[[nn.Module], nn.Module]) -> None:
    first, x = compressed(model, stack)
    other = copy(first)
    want = outputs(first, x)
    assert torch.equal(outputs(other, x), want)
    train(other, x)
    assert torch.equal(outputs(first, x), want) and not torch.equal(outputs(other, x), want)
    assert torch.equal(outputs(bake_(copy(first)), x), want) or "fft" in stack or "circulant, magnitude" in stack


@pytest.mark.parametrize("model,stack", CASES)
def test_training_keeps_what_was_compressed(model, stack) -> None:
    """Masks, signs, blocks and grids are as they were, and what may change does."""
    net, x = compressed(model, stack)
    weights = coded_weights(net)
    before = [deepcopy(weight.code) for weight in weights]
    optimizer = torch.optim.Adam(net.parameters(), 0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
        optimizer.step()
    for was, weight in zip(before, weights, strict=True):
        code, now = weight.code, weight.code.numbers().detach()
        assert code.layout == was.layout
        if was.mask is not None:
            assert code.mask is not None and torch.equal(code.mask, was.mask) and not now[~was.mask].any()
        if was.signs is not None:
            assert code.signs is not None and torch.equal(code.signs, was.signs)
            assert bool((now * was.signs >= 0).all())
        if isinstance(code.quantizer, PowerOfTwoQuantizer):
            powers = powers_up_to(code.quantizer.highest, code.bits)
            assert torch.equal(code.quantizer.highest, was.quantizer.highest)
            assert bool(torch.isin(now.abs(), torch.cat((torch.zeros(1), powers))).all())
        elif code.quantizer is not None:
            codes = code.quantizer.codes(code.kept_values())
            assert torch.equal(now, codes * code.quantizer.step()) and codes.abs().max() <= code.quantizer.highest
        if isinstance(code.layout, BlockCirculant):
            again = code.layout.expand(code.layout.project(code().detach()))
            torch.testing.assert_close(code().detach(), again, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(was.values, weight.code.values) for was, weight in zip(before, weights, strict=True))


@pytest.mark.parametrize("model,stack", CASES)
def test_baking_makes_the_plain_model_again(model, stack) -> None:
    torch.manual_seed(0)
    plain = MODELS[model][0]()
    net, x = compressed(model, stack)
    train(net, x)
    net.eval()
    want, modules = outputs(net, x), list(dict(net.named_modules()))
    assert bake_(net) is net and not compressed_layers(net)
    assert [type(module) for module in net.modules()] == [type(module) for module in plain.modules()]
    assert list(net.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in net.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert all(type(p) is nn.Parameter and p.is_leaf and p.requires_grad for p in net.parameters())
    assert all(not module.training for module in net.modules()) and set(dict(net.named_modules())) <= set(modules)
    torch.testing.assert_close(outputs(net, x), want, rtol=1e-4, atol=1e-5)
    state = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    assert all(torch.equal(tensor, state[key]) for key, tensor in bake_(net).state_dict().items())
    pickled(net).load_state_dict(deepcopy(net).state_dict(), strict=True)
    before = outputs(net, x)
    train(net, x)
    assert not torch.equal(outputs(net, x), before)
    if "structured" not in stack:
        plain.load_state_dict(net.state_dict(), strict=True)
        assert torch.equal(outputs(plain, x), outputs(net, x))
        compress_(net, STACKS[stack][0], everywhere)
        assert compressed_layers(net)


@pytest.mark.parametrize("model,stack", CASES)
def test_it_moves_to_another_type(model, stack) -> None:
    net, x = compressed(model, stack)
    want = outputs(net, x)
    double = deepcopy(net).to(torch.float64)
    assert all(p.dtype == torch.float64 for p in double.parameters())
    got = outputs(double, x.double() if x.is_floating_point() else x)
    # A number that stands between two of a grid may go to the other one.
    if not any(weight.code.quantizer for weight in coded_weights(net)):
        torch.testing.assert_close(got.float(), want, rtol=1e-4, atol=1e-5)
    half = deepcopy(net).to(torch.bfloat16)
    got = outputs(half, x.bfloat16() if x.is_floating_point() else x)
    assert got.dtype == torch.bfloat16 and bool(got.isfinite().all())
    assert all(torch.equal(weight.code.mask, other.code.mask) for weight, other in zip(  # type: ignore[arg-type]
        coded_weights(net), coded_weights(half), strict=True) if weight.code.mask is not None)  # fmt: skip


@pytest.mark.parametrize("stack", ["circulant, direct", "circulant, magnitude", "adc-aware", "smartdeal"])
def test_it_exports_with_any_number_of_samples(stack) -> None:
    net, x = compressed("convolutional", stack)
    net.eval()
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("samples", min=2)},), strict=False)
    more = torch.randn(9, *x.shape[1:])
    torch.testing.assert_close(program.module()(more), outputs(net, more), rtol=1e-5, atol=1e-6)


def test_torch_compile_takes_it() -> None:
    net, x = compressed("convolutional", "circulant, magnitude")
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net, backend="eager")(x), outputs(net, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_modes_gradients_and_flags_reach_everything(model) -> None:
    torch.manual_seed(0)
    make, inputs = MODELS[model]
    net, x = make().eval().requires_grad_(False), inputs()
    compress_(net, BlockCirculantConfig(3), everywhere)
    compress_(net, UniformQuantConfig(4), everywhere)
    assert not any(module.training for module in net.modules())
    assert not any(p.requires_grad for p in net.parameters())
    net.train().requires_grad_()
    assert all(module.training for module in net.modules()) and all(p.requires_grad for p in net.parameters())
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in bake_(net).parameters())


def test_hooks_and_references_stay() -> None:
    net, x = convolutional(), images()
    conv, seen = net[3], []
    conv.register_forward_hook(lambda module, given, result: seen.append(type(module)))
    conv.note = "mine"
    compress_(net, BlockCirculantConfig(2))
    net(x)
    assert net[3] is conv and isinstance(conv, nn.Conv2d) and isinstance(conv, Compressed) and conv.note == "mine"
    bake_(net)
    net(x)
    assert net[3] is conv and [issubclass(kind, nn.Conv2d) for kind in seen] == [True, True] and seen[1] is nn.Conv2d


def test_a_computed_weight_is_not_assigned() -> None:
    for layer, weight in (
        (nn.Linear(4, 4), "weight"),
        (nn.LSTM(4, 4), "weight_hh_l0"),
        (nn.GRUCell(4, 4), "weight_ih"),
    ):
        compress_(layer, BlockCirculantConfig(2), everywhere)
        before = getattr(layer, weight).detach().clone()
        for value in (nn.Parameter(torch.zeros_like(before)), torch.zeros_like(before), None):
            with pytest.raises(CompressionError, match=rf"{weight}: is computed from what is stored .*bake_"):
                setattr(layer, weight, value)
        assert torch.equal(getattr(layer, weight), before)
        bias = "bias" if weight == "weight" else weight.replace("weight", "bias")
        setattr(layer, bias, nn.Parameter(torch.ones_like(getattr(layer, bias))))
        assert bool((getattr(layer, bias) == 1).all())
        setattr(bake_(layer), weight, nn.Parameter(torch.zeros_like(before)))


def test_a_recurrent_layer_reads_its_weights_anew_in_each_call() -> None:
    torch.manual_seed(0)
    layer, x = nn.LSTM(6, 4, 2, batch_first=True), torch.randn(2, 3, 6)
    compress_(layer, BlockCirculantConfig(2), everywhere)
    layer.flatten_parameters()
    before = layer(x)[0]
    with torch.no_grad():
        layer.codes["weight_hh_l1"].values.mul_(2)  # type: ignore[union-attr]
    assert not torch.equal(layer(x)[0], before)
    assert [w.shape for w in layer.all_weights[0]] == [w.shape for w in nn.LSTM(6, 4, 2).all_weights[0]]


@pytest.mark.parametrize(
    "config,executor",
    [
        (BlockCirculantConfig(3, "direct"), "reference"),
        (BlockCirculantConfig(3, "fft"), "planned"),
        (ADCAwareConfig(3, rows=4), "reference"),
        (SmartDealConfig(0.02), "planned"),
    ],
)
def test_batched_it_is_the_loop_over_samples(config, executor) -> None:
    model, samples = made("ChildSumTreeLSTM"), drawn("ChildSumTreeLSTM", (1, 4, 2, 5))
    compress_(model, config, everywhere)
    batched = assert_same(model, samples, policy="depth", capture="eager", executor=executor)
    assert batched.last.executor == executor and batched.last.batches < batched.last.nodes
