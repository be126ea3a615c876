"""The traffic that methods lower is that which the chip has: the two rooms count the same."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from bale.codesign import chip_traffic, place_and_prune, with_traffic
from bale.codesign.communication import Laid
from bale.codesign.placing import annealed
from bale.compress import (
    CommunicationAwareConfig,
    MagnitudeConfig,
    StructuredConfig,
    UniformQuantConfig,
    all_weights,
    communication_cost,
    compress_,
)
from bale.data import Images
from bale.errors import BaleError, MappingError
from bale.models import LeNet5, ResNet20
from bale.train import Retraining

SAMPLE = torch.zeros(1, 1, 16, 16)


def lenet5():
    torch.manual_seed(0)
    return LeNet5(size=16)


def of_named(model, traffic):
    return {name: weight for name, weight in all_weights(model).items() if name in traffic.weights}


@pytest.mark.parametrize("network", [lenet5, lambda: ResNet20(width=4)])
@pytest.mark.parametrize("density", [None, 0.1, 0.01])
def test_both_rooms_count_the_same(network, density):
    model = network()
    sample = torch.zeros(1, 1, 16, 16) if isinstance(model, LeNet5) else torch.zeros(1, 1, 8, 8)
    if density is not None:
        compress_(model, MagnitudeConfig(density))
    laid = Laid.on(model, "small_tiles", sample)
    for nodes in (laid.snake(), np.random.default_rng(0).permutation(laid.mesh.nodes)[: laid.tiles]):
        traffic = laid.traffic(nodes)
        assert set(traffic.weights) == set(all_weights(model))
        bits = laid.flows(model)
        assert communication_cost(traffic, of_named(model, traffic)) == pytest.approx((bits * laid.hops(nodes)).sum())


def test_what_is_dropped_is_not_sent():
    model = lenet5()
    traffic = chip_traffic(model, "small_tiles", SAMPLE)
    dense = communication_cost(traffic, of_named(model, traffic))
    compress_(model, CommunicationAwareConfig(0.5).on(traffic))
    laid = Laid.on(model, "small_tiles", SAMPLE)
    assert (laid.flows(model) * laid.hops(laid.snake())).sum() <= 0.5 * dense


def test_tiles_follow_one_another_unless_they_are_placed():
    model = lenet5()
    hops = chip_traffic(model, "small_tiles", SAMPLE).hops
    assert (hops.diagonal(1) == 1).all()
    many = len(hops)
    turned = chip_traffic(model, "small_tiles", SAMPLE, np.arange(many)[::-1]).hops
    assert int(turned[0, many - 1]) == sum(divmod(many - 1, 10))
    for nodes in (np.arange(many - 1), np.full(many, -1), np.arange(many) + 90):
        with pytest.raises(MappingError, match=f"nodes: expected a router, 0 to 99, for each of {many} tiles"):
            chip_traffic(model, "small_tiles", SAMPLE, nodes)
    with pytest.raises(MappingError, match=f"nodes: {many} tiles at router 3, which has 1"):
        chip_traffic(model, "small_tiles", SAMPLE, np.full(many, 3))


def test_a_layer_by_itself_and_groups():
    layer = nn.Linear(200, 30)
    traffic = chip_traffic(layer, "small_tiles", torch.zeros(1, 200))
    assert list(traffic.weights) == list(all_weights(layer))
    compress_(layer, CommunicationAwareConfig(0.6).on(traffic))
    model = nn.Sequential(nn.Conv2d(4, 40, 3), nn.Conv2d(40, 40, 3, groups=4), nn.Conv2d(40, 40, 3))
    named = chip_traffic(model, "small_tiles", torch.zeros(1, 4, 8, 8)).weights
    assert list(named) == ["0", "2"]


class OfItsOwn(nn.Linear):
    """No method is for it."""


def test_subclasses_are_not_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 200), nn.ReLU(), OfItsOwn(200, 200), nn.ReLU(), nn.Linear(200, 10))
    sample = torch.zeros(1, 64)
    traffic = chip_traffic(model, "small_tiles", sample)
    assert list(traffic.weights) == ["0", "4"] and communication_cost(traffic, all_weights(model)) > 0
    assert place_and_prune(model, "small_tiles", sample, CommunicationAwareConfig(0.9), rounds=2).cost > 0


def test_methods_that_stack_know_the_traffic_of_what_is_before_them():
    model = lenet5()
    before = copy.deepcopy(model.state_dict())
    configs = [StructuredConfig(0.5), CommunicationAwareConfig(0.7, bits=None), UniformQuantConfig(8)]
    known = with_traffic(configs, model, "small_tiles", SAMPLE)
    assert list(known) == configs and all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    for config in known:
        compress_(model, config)
    assert known[1].traffic.weights["fc1"].tile.shape == all_weights(model)["fc1"].shape


def shuffled(bits, mesh, seed):
    """The best of some random places."""
    random = np.random.default_rng(seed)
    far = mesh.hop_matrix()
    tries = [mesh.snake()[: len(bits)], *(random.permutation(len(bits)) for _ in range(5))]
    return min(tries, key=lambda at: (bits * far[np.ix_(at, at)]).sum())


@pytest.mark.parametrize("place", [annealed, shuffled, lambda bits, mesh, seed: np.arange(100)[-len(bits) :]])
def test_places_and_connections_are_found_in_turn(place):
    model = lenet5()
    before = copy.deepcopy(model.state_dict())
    found = place_and_prune(model, "small_tiles", SAMPLE, CommunicationAwareConfig(0.6), place=place, rounds=3)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    for each in found.rounds:
        assert each.placed <= each.pruned <= each.share * each.dense * (1 + 1e-12)
    costs = [each.placed for each in found.rounds]
    assert found.rounds[0].share == 0.6 and costs == sorted(costs, reverse=True) and found.cost == costs[-1]
    traffic = chip_traffic(found.model, "small_tiles", SAMPLE, found.nodes)
    assert communication_cost(traffic, of_named(found.model, traffic)) == pytest.approx(found.cost)
    assert found.report.configs[0].cost in [each.share for each in found.rounds]
    with pytest.raises(BaleError, match="rounds must be at least 1, got 0"):
        place_and_prune(model, "small_tiles", SAMPLE, CommunicationAwareConfig(), rounds=0)


def test_networks_are_trained_while_places_are_found():
    pixels = torch.randint(0, 256, (32, 1, 16, 16), generator=torch.Generator().manual_seed(1)).byte()
    images = Images(pixels, torch.arange(32) % 10, tuple("abcdefghij"), "noise")
    config, how = CommunicationAwareConfig(0.4), Retraining(epochs=2, batch_size=8)
    found = place_and_prune(lenet5(), "small_tiles", SAMPLE, config, images=images, how=how, rounds=1)
    (only,) = found.rounds
    assert only.pruned <= 0.4 * only.dense
