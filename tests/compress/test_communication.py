"""Communication-aware sparsity as a method: at once, in training, resumed; what it takes and what it leaves."""

import copy
import io
from dataclasses import replace

import pytest
import torch
from tests.compress.made import Tagger, convolutional, images
from tests.compress.traffic_made import by_hand, on_a_line
from torch import nn

from bale.compress import (
    BlockCirculantConfig,
    CommunicationAwareConfig,
    MagnitudeConfig,
    SmartDealConfig,
    StructuredConfig,
    UniformQuantConfig,
    all_weights,
    communication_cost,
    compress_,
    config_from_dict,
    load_packed_,
    parse_config,
    save_packed,
)
from bale.compress.weights import coded_weights
from bale.errors import CompressionError

CONFIGS = {
    "trained": CommunicationAwareConfig(0.4, rewire=0.3),
    "as they are": CommunicationAwareConfig(0.4, bits=None),
    "distance": CommunicationAwareConfig(0.3, start="distance", density=0.6, rewire=0.3, seed=4),
    "hardly anything": CommunicationAwareConfig(0.12, rewire=0.0),
}


def made():
    torch.manual_seed(0)
    return convolutional()


def share(model, traffic):
    """Of the dense network's C."""
    weights = all_weights(model)
    dense = communication_cost(traffic, {name: torch.ones_like(weight) for name, weight in weights.items()})
    return communication_cost(traffic, weights) / dense


def train(model, compressor, steps):
    """So many steps on the same images; an optimizer without memory, so that another can go on."""
    torch.manual_seed(1)
    x, labels = images(), torch.arange(5) % 3
    for _ in range(steps):
        model.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels) + compressor.penalty()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.05 * parameter.grad
        compressor.step()


def check_whole(model):
    """Every output has a weight."""
    for weight in all_weights(model).values():
        assert bool((weight != 0).flatten(1).any(1).all())


@pytest.mark.parametrize("case", CONFIGS)
def test_at_once_no_more_is_left_than_may_be(case, tmp_path):
    model = made()
    traffic = on_a_line(model)
    config = CONFIGS[case].on(traffic)
    report = compress_(model, config)
    assert share(model, traffic) <= config.cost
    kept = {name: weight != 0 for name, weight in all_weights(model).items()}
    assert by_hand(traffic, kept) == communication_cost(traffic, all_weights(model))
    if config.bits is None:
        check_whole(model)
    assert {weight.bits for weight in report.weights} == {config.bits or 32}
    for weight in report.weights:
        assert weight.facts["groups"] > 0 and weight.facts.get("cost", 0) <= 1
    other = made()
    save_packed(model, tmp_path / "net.bale", config)
    assert load_packed_(other, tmp_path / "net.bale").configs == (CONFIGS[case].to_dict(),)
    assert all(torch.equal(weight, other_weight) for weight, other_weight in
               zip(all_weights(model).values(), all_weights(other).values(), strict=True))  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize("steps", [1, 7, 45])
def test_in_training_c_falls_and_ends_where_it_is_to_be(case, steps):
    model = made()
    traffic = on_a_line(model)
    config = CONFIGS[case].on(traffic)
    compressor = config.compressor(steps).prepare(model)
    shares = [share(model, traffic)]
    assert shares[0] == 1 if config.start == "trained" else shares[0] < 1
    for _ in range(steps):
        train(model, compressor, 1)
        shares.append(compressor.cost)
        assert share(model, traffic) <= shares[-1] + 1e-12
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] <= config.cost
    report = compressor.squash()
    assert share(model, traffic) <= config.cost
    assert report.configs == (CONFIGS[case],)
    assert [weight.name for weight in report.weights] == ["0", "3", "6", "8"]
    for weight in coded_weights(model):
        assert bool(weight.code.mask.flatten(1).any(1).all())
    train(model, _Nothing(), 3)
    assert share(model, traffic) <= config.cost


class _Nothing:
    """A compressor of nothing."""

    def penalty(self):
        return torch.zeros(())

    def step(self):
        pass


def test_squash_alone_drops_as_compression_at_once_does():
    for steps in (None, 20):
        model, other = made(), made()
        config = CommunicationAwareConfig(0.5).on(on_a_line(model))
        report = config.compressor(steps).prepare(model).squash()
        assert share(model, config.traffic) <= 0.5
        assert {weight.name for weight in report.weights} == {
            weight.name for weight in compress_(other, config).weights
        }


def test_dropped_groups_come_back_as_they_were_remembered():
    model = made()
    config = CommunicationAwareConfig(0.3, rewire=0.5).on(on_a_line(model))
    compressor = config.compressor(30).prepare(model)
    was, returned = {}, 0
    for _ in range(30):
        before = {weight.name: weight.code.mask.clone() for weight in coded_weights(model)}
        train(model, compressor, 1)
        for weight in coded_weights(model):
            mask, values = weight.code.mask, weight.code.values.detach()
            for place in (before[weight.name] & ~mask).nonzero().tolist():
                was[weight.name, tuple(place)] = values[tuple(place)].item()
            for place in (mask & ~before[weight.name]).nonzero().tolist():
                assert values[tuple(place)].item() == was[weight.name, tuple(place)]
                returned += 1
    assert returned > 10


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize("case", ["trained", "distance"])
def test_another_continues_bit_for_bit(case, by_file):
    model, other = made(), made()
    config = CONFIGS[case].on(on_a_line(model))
    compressor = config.compressor(30).prepare(model)
    continued = config.compressor(30).prepare(other)
    train(model, compressor, 8)
    other.load_state_dict(model.state_dict())
    state = compressor.state_dict()
    if by_file:
        content = io.BytesIO()
        torch.save(state, content)
        content.seek(0)
        state = torch.load(content)
    continued.load_state_dict(state)
    for steps in (1, 9, 15):  # each on its own: neither writes into what the other has
        train(model, compressor, steps)
        train(other, continued, steps)
        for a, b in ((model.state_dict(), other.state_dict()), (compressor.state_dict(), continued.state_dict())):
            assert list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)
    assert compressor.squash() == continued.squash()


def test_a_state_of_another_model_or_chip_is_refused():
    model = made()
    traffic = on_a_line(model)
    state = CommunicationAwareConfig().on(traffic).compressor(9).prepare(model).state_dict()
    longer = replace(traffic, hops=2 * traffic.hops)
    with pytest.raises(CompressionError, match="another chip or placement"):
        CommunicationAwareConfig().on(longer).compressor(9).prepare(made()).load_state_dict(state)
    small = nn.Sequential(nn.Linear(24, 5))
    on_small = CommunicationAwareConfig().on(on_a_line(small))
    with pytest.raises(CompressionError, match="another model"):
        on_small.compressor(9).prepare(small).load_state_dict(state)


def test_the_traffic_is_no_part_of_a_config():
    model = made()
    config = CommunicationAwareConfig(0.25, "distance", seed=3)
    attached = config.on(on_a_line(model))
    assert attached == config and hash(attached) == hash(config) and repr(attached) == repr(config)
    assert attached.to_dict() == config.to_dict() and "traffic" not in config.to_dict()
    assert config_from_dict(attached.to_dict()) == config and config_from_dict(attached.to_dict()).traffic is None
    assert replace(attached, cost=0.5).traffic is attached.traffic
    assert parse_config("communication-aware:cost=0.5,bits=none") == CommunicationAwareConfig(0.5, bits=None)
    with pytest.raises(CompressionError, match=r"communication-aware.traffic: no such field"):
        parse_config("communication-aware:traffic=1")
    report = compress_(model, attached)
    assert "tensor" not in str(report) and "communication-aware (cost 0.25, start distance" in str(report)


def test_without_a_chip_it_says_who_makes_the_traffic():
    for act in (compress_, lambda model, config: config.compressor(9).prepare(model)):
        model = made()
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(CompressionError, match=r"config.on\(traffic\).*bale.codesign.chip_traffic"):
            act(model, CommunicationAwareConfig())
        assert list(before) == list(model.state_dict()) and type(model[0]) is nn.Conv2d


def test_what_it_is_not_for_is_left_with_the_reason():
    model = Tagger()
    linear = nn.Sequential(model.head)
    traffic = on_a_line(linear, rows=2, outputs=2)
    named = replace(traffic, weights={"head": traffic.weights["0"]})
    skipped = compress_(model, CommunicationAwareConfig(0.8).on(named)).skipped
    assert "no weight of a Linear" in skipped["lstm.weight_ih_l0"] and "no weight of a Linear" in skipped["spread"]
    model = made()
    traffic = on_a_line(model)
    without = replace(traffic, weights={name: each for name, each in traffic.weights.items() if name != "3"})
    assert compress_(model, CommunicationAwareConfig().on(without)).skipped == {
        "3": "is not in the traffic: nothing of it is sent on the chip"
    }
    for first, problem in (
        (BlockCirculantConfig(2), "is block-circulant"),
        (UniformQuantConfig(8), "is quantised"),
        (SmartDealConfig(), "is decomposed by smartdeal"),
    ):
        model = made()
        compress_(model, first, lambda module, name: name in ("3", "6"))
        with pytest.raises(CompressionError, match=f"fits no layer.*3 {problem}"):
            compress_(model, CommunicationAwareConfig().on(traffic), lambda module, name: name in ("3", "6"))


def test_it_comes_after_pruning_on_the_network_as_it_is_then():
    model = made()
    traffic = on_a_line(model)
    compress_(model, StructuredConfig(0.5))
    with pytest.raises(CompressionError, match="make the traffic of the network as it is now"):
        compress_(model, CommunicationAwareConfig().on(traffic))
    compress_(model, CommunicationAwareConfig(0.6).on(on_a_line(model)))
    model = made()
    compress_(model, MagnitudeConfig(0.5, None))
    gone = {name: weight == 0 for name, weight in all_weights(model).items()}
    config = CommunicationAwareConfig(0.3, rewire=0.5).on(traffic)
    compressor = config.compressor(30).prepare(model)
    train(model, compressor, 30)
    compressor.squash()
    assert all(not bool(weight[gone[name]].any()) for name, weight in all_weights(model).items())


def test_a_chip_without_traffic_and_a_share_out_of_reach_are_refused():
    model = made()
    traffic = on_a_line(model)
    with pytest.raises(CompressionError, match="sends nothing from tile to tile"):
        compress_(model, CommunicationAwareConfig().on(replace(traffic, hops=torch.zeros_like(traffic.hops))))
    with pytest.raises(CompressionError, match=r"communication-aware.cost: 0.001 is out of reach: 0\.\d+ is left"):
        compress_(model, CommunicationAwareConfig(0.001).on(traffic))
    assert type(model[0]) is nn.Conv2d


@pytest.mark.parametrize(
    ("field", "value"),
    [("cost", 0.0), ("cost", 1.1), ("start", "far"), ("length", 0.0), ("density", 0.0), ("rewire", 1.0), ("bits", 9),
     ("seed", -1), ("traffic", 3)],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(field, value):
    with pytest.raises(CompressionError, match=f"communication-aware.{field}: must be"):
        CommunicationAwareConfig(**{field: value})


def test_nothing_comes_before_prepare():
    compressor = CommunicationAwareConfig().compressor()
    for verb in (compressor.step, compressor.squash):
        with pytest.raises(CompressionError, match=r"prepare\(model\) comes first"):
            verb()
