"""Do projection and bucket switching move weights as they say, and do they go on exactly where they were stopped?"""

import pytest
import torch
from torch import Tensor, nn

from bale.compress import Buckets, Projection, SmartDealConfig, UniformQuantConfig, compress_
from bale.compress.buckets import read_eight_bits
from bale.compress.code import Code
from bale.compress.compressor import Compressor, Once
from bale.compress.powers import powers_up_to
from bale.compress.weights import coded_weights, compressed_layers
from bale.errors import CompressionError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def steps(model: nn.Module, compressor: Compressor, seeds: range, optimizer: torch.optim.Optimizer) -> None:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        optimizer.zero_grad()
        x = torch.randn(4, 2, 6, generator=generator)
        ((model(x) - x.mean()).square().sum() + compressor.penalty()).backward()
        optimizer.step()
        compressor.step()


def test_compressors_are_those_that_training_names() -> None:
    assert isinstance(SmartDealConfig().compressor(10, 2), Once)
    projection = SmartDealConfig(training="projection").compressor(30, 3)
    assert isinstance(projection, Projection) and projection.every == 10
    buckets = SmartDealConfig(training="buckets")
    bars = [switching.bar for switching in map(buckets.compressor, (None, 1, 400)) if isinstance(switching, Buckets)]
    assert bars == [8, 8, 30]
    acting = [training for training in ("straight-through", "projection", "buckets")
              if SmartDealConfig(training=training).acts_in_training]  # fmt: skip
    assert acting == ["projection", "buckets"]


# ---- projection


def test_a_projection_writes_the_decomposed_weight_and_averages() -> None:
    model, config = network(), SmartDealConfig(0.05)
    compressor = Projection(config, every=2).prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    seen: list[Tensor] = []
    for at in range(3):
        steps(model, compressor, range(2 * at, 2 * at + 1), optimizer)
        plain = model[3].weight.detach().clone()
        steps(model, compressor, range(2 * at + 1, 2 * at + 2), optimizer)
        assert not torch.equal(model[3].weight, plain)
        seen.append(model[3].weight.detach().clone())
    assert not compressed_layers(model)
    mean = torch.stack(seen).mean(0)
    torch.testing.assert_close(compressor.state_dict()["mean.3.weight"], mean)
    report = compressor.squash()
    assert [line.name for line in report.weights] == ["0", "3"]
    error = float((model[3].weight - mean).detach().norm() / mean.norm())
    assert error == pytest.approx(report.weights[1].error, abs=1e-5)


def test_what_is_projected_is_of_the_form_that_is_stored() -> None:
    model = network()
    compressor = Projection(SmartDealConfig(0.0), every=1).prepare(model)
    steps(model, compressor, range(1), torch.optim.SGD(model.parameters(), 0.01))
    before = model[3].weight.detach().clone()
    compressor.squash()
    off = (model[3].weight - before).detach().norm() / before.norm()
    assert float(off) < 0.02  # up to the rounding of bases, it is its own decomposition


# ---- buckets


def two_rows() -> tuple[nn.Module, Code, Buckets]:
    """One layer with coefficients that are chosen here: 1, 1/2, 1/4, 1/8, 0 and -1/8 with the unit basis."""
    layer = nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1, 0.5, 0.25, 0.125, 0, -0.125]]))
    compressor = Buckets(SmartDealConfig(0.0, training="buckets"), bar=3).prepare(layer)
    code = coded_weights(layer)[0].code
    return layer, code, compressor


def pushed(code: Code, compressor: Buckets, by: list[float]) -> list[float]:
    with torch.no_grad():
        code.values.add_(torch.tensor(by).view(1, 2, 3))
    compressor.step()
    return code.values.detach().flatten().tolist()


def test_large_updates_switch_at_the_bar() -> None:
    _, code, compressor = two_rows()
    with torch.no_grad():
        for switched in compressor._switched.values():
            switched.coefficients.copy_(torch.tensor([1, 0.5, 0.25, 0.125, 0, -0.125]).view(1, 2, 3))
            code.values.copy_(switched.coefficients)
            assert code.quantizer is not None
            code.mask = switched.coefficients != 0
            code.quantizer.highest.fill_(0)  # type: ignore[union-attr, operator]
    start = code.values.detach().flatten().tolist()
    by = [0.5, 0.5, -0.5, -0.5, 9.0, -0.01]  # the mean of those that are kept: .402; the last is small, the 5th is not
    assert pushed(code, compressor, by) == start
    assert pushed(code, compressor, by) == start
    # 1 is the largest; 1/2 doubles; 1/4 halves; 1/8, the smallest, changes its sign; 0 stays; a small one waits.
    assert pushed(code, compressor, by) == [1, 1, 0.125, -0.125, 0, -0.125]
    assert pushed(code, compressor, by) == [1, 1, 0.125, -0.125, 0, -0.125]  # counted anew
    against = [-each for each in by]
    for _ in range(3):
        last = pushed(code, compressor, against)
    assert last == [1, 1, 0.125, -0.125, 0, -0.125]  # one for, three against
    assert pushed(code, compressor, against) == [0.5, 0.5, 0.25, 0.125, 0, -0.125]


def test_coefficients_stay_powers_and_bases_move() -> None:
    model = network()
    compressor = Buckets(SmartDealConfig(0.02, training="buckets"), bar=2).prepare(model)
    codes = [weight.code for weight in coded_weights(model)]
    before = [(code.values.detach().clone(), code.basis.detach().clone(), code.mask) for code in codes]  # type: ignore[union-attr]
    steps(model, compressor, range(12), torch.optim.Adam(model.parameters(), 0.01))
    for code, (values, basis, mask) in zip(codes, before, strict=True):
        now = code.values.detach()
        powers = powers_up_to(code.quantizer.highest, code.bits)  # type: ignore[union-attr, arg-type]
        assert torch.equal(now != 0, mask) and bool(torch.isin(now.abs()[mask], powers).all())
        assert not torch.equal(now, values) and code.basis is not None and not torch.equal(code.basis, basis)
    report = compressor.squash()
    assert [line.name for line in report.weights] == ["0", "3"]


def test_layers_read_8_bits_until_it_is_over() -> None:
    model = network()
    compressor = Buckets(SmartDealConfig(0.02, training="buckets")).prepare(model)
    x = torch.randn(3, 2, 6, requires_grad=True)
    seen: list[Tensor] = []
    model[0].register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    model(x).sum().backward()
    step = x.detach().abs().max() / 127
    torch.testing.assert_close(seen[0], (x.detach() / step).round() * step)
    assert x.grad is not None and bool(x.grad.any())
    compressor.squash()
    model(x)
    assert torch.equal(seen[1], x.detach())


def test_rounded_inputs_pass_gradients_straight_through() -> None:
    x = torch.randn(4, 5, requires_grad=True)
    sent = torch.randn(4, 5)
    read_eight_bits(nn.Identity(), (x,))[0].backward(sent)
    assert x.grad is not None and torch.equal(x.grad, sent)
    zeros, words = torch.zeros(3), torch.arange(3)
    assert torch.equal(read_eight_bits(nn.Identity(), (zeros,))[0], zeros)
    assert read_eight_bits(nn.Identity(), (words,))[0] is words


# ---- both


COMPRESSORS = {
    "projection": lambda: Projection(SmartDealConfig(0.02, training="projection"), every=2),
    "buckets": lambda: Buckets(SmartDealConfig(0.02, training="buckets"), bar=2),
}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_state_goes_on_exactly(name) -> None:
    whole, first, second = network(), network(), network()
    compressor = COMPRESSORS[name]().prepare(whole)
    optimizer = torch.optim.SGD(whole.parameters(), 0.02)
    steps(whole, compressor, range(7), optimizer)

    stopped = COMPRESSORS[name]().prepare(first)
    steps(first, stopped, range(3), torch.optim.SGD(first.parameters(), 0.02))
    again = COMPRESSORS[name]().prepare(second)
    second.load_state_dict(first.state_dict())
    again.load_state_dict(stopped.state_dict())
    steps(second, again, range(3, 7), torch.optim.SGD(second.parameters(), 0.02))

    assert all(torch.equal(tensor, whole.state_dict()[key]) for key, tensor in second.state_dict().items())
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in compressor.state_dict().items())
    assert again.squash() == compressor.squash()
    assert all(torch.equal(tensor, whole.state_dict()[key]) for key, tensor in second.state_dict().items())


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_state_of_other_shapes_is_refused(name) -> None:
    state = COMPRESSORS[name]().prepare(nn.Linear(12, 8)).state_dict()
    with pytest.raises(CompressionError, match=r"in the state, and .* in the model"):
        COMPRESSORS[name]().prepare(nn.Linear(12, 70)).load_state_dict(state)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_verbs_come_after_prepare(name) -> None:
    compressor = COMPRESSORS[name]()
    for verb in (compressor.step, compressor.squash):
        with pytest.raises(CompressionError, match=r"prepare\(model\) comes first"):
            verb()
    compressor.prepare(network())
    with pytest.raises(CompressionError, match="is the state of another model"):
        compressor.load_state_dict({"steps": torch.tensor(1)})
    compressor.squash()
    with pytest.raises(CompressionError, match=r"prepare\(model\) comes first"):
        compressor.step()


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(CompressionError, match="every: must be at least 1, got 0"):
        Projection(SmartDealConfig(), every=0)
    with pytest.raises(CompressionError, match="bar: must be at least 1, got 0"):
        Buckets(SmartDealConfig(), bar=0)
    with pytest.raises(CompressionError, match="uniform: has no powers of two to switch"):
        Buckets(UniformQuantConfig(4)).prepare(network())
    model = network()
    compress_(model, SmartDealConfig())
    with pytest.raises(CompressionError, match="is decomposed by smartdeal already"):
        Projection(SmartDealConfig()).prepare(model)
