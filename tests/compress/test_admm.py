"""Is ADMM's pull the formula's, step after step, and does it end where compressing at once would?"""

import io
from copy import deepcopy

import pytest
import torch
from tests.compress.made import convolutional, images
from torch import Tensor, nn

from bale.compress import (
    ADCAwareConfig,
    Admm,
    BlockCirculantConfig,
    MagnitudeConfig,
    StructuredConfig,
    UniformQuantConfig,
    compress_,
)
from bale.compress.compressor import Once
from bale.compress.config import WeightConfig
from bale.compress.weights import all_weights, coded_weights
from bale.errors import CompressionError

CONFIGS = [
    ADCAwareConfig(adc_bits=3, rows=16),
    MagnitudeConfig(0.3, None),
    MagnitudeConfig(0.3, 4),
    UniformQuantConfig(2),
    BlockCirculantConfig(2),
]
RHO, GROWTH = 0.01, 1.5


def projected(model: nn.Module, config: WeightConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What compressing makes of a model of these weights."""
    model = deepcopy(model)
    with torch.no_grad():
        for name, weight in all_weights(model).items():
            weight.copy_(weights.get(name, weight))
    names = {weight.name for weight in compress_(model, config).weights}
    return {name: weight.detach() for name, weight in all_weights(model).items() if name in names}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_updates_are_the_algorithms(config) -> None:
    torch.manual_seed(0)
    model, x = convolutional().double(), images().double()
    admm = Admm(config, rho=RHO, growth=GROWTH, every=2)
    assert admm.prepare(model) is admm
    z = projected(model, config, {})
    u = {name: torch.zeros_like(weight) for name, weight in z.items()}
    rho = RHO
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for step in range(1, 9):
        weights = {name: weight for name, weight in all_weights(model).items() if name in z}
        penalty = admm.penalty()
        want = rho / 2 * sum(((w - z[name] + u[name]) ** 2).sum() for name, w in weights.items())
        torch.testing.assert_close(penalty, want)
        gradients = torch.autograd.grad(penalty, list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            torch.testing.assert_close(gradient, rho * (weights[name] - z[name] + u[name]).detach())
        off = sum(float((w.detach() - z[name]).square().sum()) for name, w in weights.items())
        whole = sum(float(w.detach().square().sum()) for w in weights.values())
        assert admm.distance() == pytest.approx((off / whole) ** 0.5)
        optimizer.zero_grad()
        (model(x).square().mean() + admm.penalty()).backward()
        optimizer.step()
        admm.step()
        if step % 2 == 0:
            weights = {name: weight.detach() for name, weight in all_weights(model).items() if name in z}
            z = projected(model, config, {name: weights[name] + u[name] for name in z})
            # The multiplier is rho u; where rho grows, u shrinks so that the multiplier is as it was.
            u = {name: (u[name] + weights[name] - z[name]) / GROWTH for name in z}
            rho *= GROWTH
        state = admm.state_dict()
        assert float(state["rho"]) == pytest.approx(rho) and int(state["steps"]) == step
        for name in z:
            torch.testing.assert_close(state[f"target.{name}"], z[name])
            torch.testing.assert_close(state[f"dual.{name}"], u[name])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_squash_is_compress(config) -> None:
    torch.manual_seed(0)
    model, x = convolutional(), images()
    admm = Admm(config, rho=1.0, every=1).prepare(model)
    train(model, admm, x, 3)
    other = deepcopy(model)
    said, compressed = str(admm.squash()), str(compress_(other, config))
    assert said == compressed
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def train(model: nn.Module, admm: Admm, x: Tensor, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x).square().mean() + admm.penalty()).backward()
        optimizer.step()
        admm.step()


@pytest.mark.parametrize("by_file", [False, True])
def test_another_continues_bit_for_bit(by_file) -> None:
    torch.manual_seed(0)
    x, config = images(), ADCAwareConfig(adc_bits=3, rows=16)
    model = convolutional()
    admm = Admm(config, rho=0.3, growth=1.2, every=2).prepare(model)
    train(model, admm, x, 5)
    other = convolutional()
    continued = Admm(config, rho=0.3, growth=1.2, every=2).prepare(other)
    other.load_state_dict(model.state_dict())
    state = admm.state_dict()
    if by_file:
        content = io.BytesIO()
        torch.save(state, content)
        content.seek(0)
        state = torch.load(content)
    continued.load_state_dict(state)
    for _ in range(2):  # each on its own: neither writes into what the other has
        train(model, admm, x, 2)
        train(other, continued, x, 2)
        for a, b in ((model.state_dict(), other.state_dict()), (admm.state_dict(), continued.state_dict())):
            assert list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def test_the_pull_ends_at_what_is_allowed() -> None:
    torch.manual_seed(0)
    model = nn.Linear(40, 5)
    admm = Admm(MagnitudeConfig(0.2, None), rho=1.0, growth=1.3, every=2).prepare(model)
    far = admm.distance()
    for _ in range(60):
        model.zero_grad()
        admm.penalty().backward()
        with torch.no_grad():
            assert model.weight.grad is not None
            model.weight -= 0.5 / admm.rho * model.weight.grad
        admm.step()
    assert admm.distance() < 1e-3 < 0.2 < far
    assert admm.squash().weights[0].error < 1e-3


@pytest.mark.parametrize("second", [MagnitudeConfig(0.4, 4), UniformQuantConfig(2)])
@pytest.mark.parametrize("first", [BlockCirculantConfig(3), MagnitudeConfig(0.5, None)])
def test_numbers_of_a_compressed_model_are_pulled_to_what_it_squashes_to(first, second) -> None:
    torch.manual_seed(0)
    model = convolutional()
    compress_(model, first)
    other = deepcopy(model)
    targets = Admm(second).prepare(model).state_dict()
    compress_(other, second)
    for weight in coded_weights(other):
        torch.testing.assert_close(targets[f"target.{weight.name}"], weight.code.numbers().detach())


def test_only_the_filters_layers_are_pulled() -> None:
    model = convolutional()
    admm = Admm(MagnitudeConfig(0.5)).prepare(model, lambda module, name: name == "6")
    assert set(admm.state_dict()) == {"rho", "steps", "target.6", "dual.6"}
    assert [weight.name for weight in admm.squash().weights] == ["6"]


def test_nothing_comes_before_prepare_and_prepare_changes_nothing() -> None:
    admm = Admm(MagnitudeConfig(0.5))
    for verb in (admm.penalty, admm.step, admm.squash, admm.distance):
        with pytest.raises(CompressionError, match=r"prepare\(model\) comes first"):
            verb()
    model = nn.Linear(4, 4)
    weight, before = model.weight, model.weight.detach().clone()
    admm.prepare(model)
    assert type(model) is nn.Linear and model.weight is weight and torch.equal(weight, before)
    with pytest.raises(CompressionError, match=r"adc-aware: fits no layer of ReLU"):
        Admm(ADCAwareConfig()).prepare(nn.ReLU())


def test_numbers_and_states_that_do_not_fit_are_refused() -> None:
    for field, value in (("rho", 0.0), ("rho", -1.0), ("growth", 0.5), ("every", 0)):
        with pytest.raises(CompressionError, match=f"^{field}: must be .*, got {value}"):
            Admm(MagnitudeConfig(), **{field: value})
    one, two = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.ReLU(), nn.Linear(4, 4))
    state = Admm(MagnitudeConfig()).prepare(one).state_dict()
    with pytest.raises(CompressionError, match=r"dual\.[01]: is in the state or in the model only"):
        Admm(MagnitudeConfig()).prepare(two).load_state_dict(state)


def test_a_model_of_zeros_is_where_it_is_pulled_to() -> None:
    model = nn.Linear(4, 4)
    nn.init.zeros_(model.weight)
    assert Admm(MagnitudeConfig(0.5)).prepare(model).distance() == 0


@pytest.mark.parametrize("config", [UniformQuantConfig(4), StructuredConfig(0.5), BlockCirculantConfig(2)])
def test_other_methods_act_at_once(config) -> None:
    model, other = convolutional(), convolutional()
    other.load_state_dict(model.state_dict())
    compressor = config.compressor()
    assert isinstance(compressor, Once)
    with pytest.raises(CompressionError, match=r"squash: comes after prepare\(model\)"):
        compressor.squash()
    assert compressor.prepare(model).penalty() == 0
    compressor.step()
    compressor.load_state_dict(compressor.state_dict())
    assert str(compressor.squash()) == str(compress_(other, config))
    assert isinstance(ADCAwareConfig().compressor(), Admm)
    assert (ADCAwareConfig().compressor(3000).every, ADCAwareConfig().compressor(3).every) == (200, 1)
