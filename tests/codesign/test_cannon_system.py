"""CANNON beside other pruning: what is sent by brute force, and compacted networks on the tiles of dense ones."""

import copy

import numpy as np
import pytest
import torch
from benchmarks.codesign import cannon as benchmark
from benchmarks.codesign.networks import DENSE, Trained
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hardware.made import chip_of
from torch import nn

from bale.codesign import with_traffic
from bale.codesign.cannon import (
    Communication,
    at_equal_saliency,
    communication,
    compared,
    cycles_of,
    mechanisms,
    placed,
)
from bale.codesign.communication import Laid
from bale.codesign.idle import without_idle
from bale.codesign.uncompacted import uncompacted
from bale.compress import MagnitudeConfig, StructuredConfig, all_weights, bake_, compress_, parse_config
from bale.data import Images
from bale.errors import CompressionError, MappingError
from bale.hardware import Mesh, NocEnergy, Router, Ways
from bale.models import VGG8, LeNet5, ResNet20

SAMPLE = torch.zeros(1, 1, 16, 16)


def lenet5(seed=0):
    torch.manual_seed(seed)
    return LeNet5(size=16).eval()


def messages(laid, model, nodes):
    """Every number that is sent from tile to tile, weight by weight: {(matrix, what, source, tile): bits}."""
    found = {}
    masks = laid.masks(model)
    for name, matrix in laid.matrices.items():
        for output, row in zip(*masks[name].nonzero(), strict=True):
            tile, channel = int(matrix.tile[output, row]), int(row) // matrix.taps
            for edge, sent in enumerate(matrix.sent):
                source = int(matrix.sources[edge, channel])
                if source >= 0 and source != tile:
                    found[name, "input", edge, channel, source, tile] = sent * matrix.input_bits
            to = int(matrix.accumulator[output])
            if to != tile:
                found[name, "sum", 0, int(output), tile, to] = matrix.positions * matrix.sum_bits
    return found


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.floats(0.05, 1), st.booleans())
def test_what_is_sent_is_the_sum_of_all_messages(seed, density, multicast):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 9, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 12), nn.Linear(12, 3)
    )
    chip = chip_of(
        rows=16, columns=16, weight_bits=4, crossbars_per_ima=2, imas_per_tile=1, tiles_per_router=1, share_tiles=False
    )
    laid = Laid.on(model, chip, torch.zeros(1, 2, 6, 6))
    with torch.no_grad():
        for weight in all_weights(model).values():
            weight *= torch.rand(weight.shape) < density
    nodes = np.random.default_rng(seed).permutation(laid.mesh.nodes)[: laid.tiles]
    sent = communication(laid, model, nodes, multicast=multicast)
    trees = {}  # of what is sent once: where to, and how much
    for key, bits in messages(laid, model, nodes).items():
        tree = trees.setdefault(key[:-1] if multicast and key[1] == "input" else key, (nodes[key[4]], set(), bits))
        tree[1].add(int(nodes[key[-1]]))
    links = [(len(laid.mesh.tree(int(source), sorted(to))), bits) for source, to, bits in trees.values()]
    assert sent.bits == pytest.approx(sum(bits for _, bits in links))
    assert sent.bit_hops == pytest.approx(sum(many * bits for many, bits in links))
    for name, energy in (("isaac", sent.energy_pj), ("conservative", sent.conservative_pj)):
        router = NocEnergy.of(name).router_pj
        assert energy == pytest.approx(sum((many + 1) * bits * router for many, bits in links))
    assert (sent.cycles > 0) == bool(links) == (sent.interval > 0)
    rounds = {}  # the farthest of what each layer receives, and of what it sends
    for name, what, *_, source, tile in messages(laid, model, nodes):
        many = 5 * (laid.mesh.hops(int(nodes[source]), int(nodes[tile])) + 1) + 2
        rounds[name, what] = max(many, rounds.get((name, what), 0))
    assert sent.distance_cycles == sum(rounds.values()) <= sent.cycles


def test_cycles_of_what_meets_nobody():
    mesh, router = Mesh(4, 4), Router()
    for to, bits in ((1, 1), (15, 256), (15, 257), (6, 8 * 256)):
        routers, flits = mesh.hops(0, to) + 1, -(-bits // 256)
        ways = Ways.of([(0, [to])])
        assert cycles_of(mesh, ways, np.array([float(bits)]), router) == 5 * routers + 2 + flits - 1
    assert cycles_of(mesh, Ways.of([]), np.zeros(0), router) == 0
    assert cycles_of(mesh, Ways.of([(0, [1])]), np.zeros(1), router) == 0


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32))
def test_cycles_are_at_least_those_of_the_busiest_link_and_tile(seed):
    mesh, random = Mesh(3, 3), np.random.default_rng(seed)
    source, to = random.integers(0, 9, (2, 12))
    apart = source != to
    ways, flits = Ways.pairs(source[apart], to[apart]), random.integers(1, 40, int(apart.sum()))
    cycles = cycles_of(mesh, ways, flits * 256.0, Router())
    busiest = [(ways.link_table(mesh) * flits[:, None, None]).sum(0).max(initial=0)]
    busiest += [np.bincount(end, flits).max(initial=0) for end in (ways.source, ways.to)]
    assert max(busiest) <= cycles <= 7 * mesh.nodes + 5 * flits.sum()


def test_rounds_of_layers_follow_one_another():
    model = lenet5()
    laid = Laid.on(model, "small_tiles", SAMPLE)
    whole, parts = communication(laid, model), []
    for name in laid.named:
        alone = copy.deepcopy(model)
        with torch.no_grad():
            for other, weight in all_weights(alone).items():
                weight *= other == name
        parts.append(communication(laid, alone))
    for field in ("bits", "bit_hops", "energy_pj", "conservative_pj", "cycles", "distance_cycles"):
        assert getattr(whole, field) == pytest.approx(sum(getattr(part, field) for part in parts)), field
    assert max(part.interval for part in parts) <= whole.interval <= whole.cycles
    with pytest.raises(MappingError, match="nodes: expected a router"):
        communication(laid, model, np.full(laid.tiles, -1))


@pytest.mark.parametrize(
    ("network", "shape"),
    [(lenet5, (1, 16, 16)), (lambda: VGG8(width=4), (1, 28, 28)), (lambda: ResNet20(width=4), (1, 12, 12))],
    ids=["lenet5", "vgg8", "resnet20"],
)
@pytest.mark.parametrize("keep", [0.3, 0.55, 0.8])
@pytest.mark.parametrize("by", ["filters", "channels"])
def test_a_compacted_network_computes_the_same_on_the_dense_ones_tiles(network, shape, keep, by):
    torch.manual_seed(0)
    dense = network().eval()
    for module in dense.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.uniform_(module.running_mean)
    before, compact = copy.deepcopy(dense.state_dict()), copy.deepcopy(dense)
    compress_(compact, StructuredConfig(keep, by))
    for name, weight in all_weights(uncompacted(dense, compact, keep, by)).items():  # each where it was
        assert torch.equal(weight[weight != 0], all_weights(dense)[name][weight != 0])
    with torch.no_grad():
        for parameter in compact.parameters():  # as if it had been trained since
            parameter += 0.1 * torch.randn(parameter.shape)
    whole, images = uncompacted(dense, compact, keep, by), torch.randn(4, *shape)
    torch.testing.assert_close(whole(images), compact(images), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    small = all_weights(compact)
    for name, weight in all_weights(whole).items():
        assert weight.shape == all_weights(dense)[name].shape
        mask = weight != 0  # whole outputs and whole inputs are gone
        outputs, inputs = mask.flatten(1).any(1), mask.any(0)
        assert torch.equal(mask, outputs.view(-1, *[1] * inputs.dim()) & inputs[None])
        assert int(mask.sum()) == small[name].numel()
        assert torch.equal(weight[mask], small[name].flatten())
    with pytest.raises(CompressionError, match=r"has shape .*, and keep=0.1 by .* of the dense network leaves"):
        uncompacted(dense, compact, 0.1, by)


@pytest.mark.parametrize("network", [lenet5, lambda: VGG8(width=4, size=16), lambda: ResNet20(width=4)])
def test_what_is_idle_changes_no_result_where_it_is_nought(network):
    torch.manual_seed(0)
    model, images = network().eval(), torch.randn(4, 1, 16, 16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()  # so that an output without weights is 0, and it is no matter who reads it
        for weight in all_weights(model).values():
            weight *= torch.rand(weight.shape) < 0.05
            weight[torch.rand(len(weight)) < 0.3] = 0
    before, sends = copy.deepcopy(model.state_dict()), without_idle(model)
    torch.testing.assert_close(sends(images), model(images))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    fewer = all_weights(sends)
    assert all(torch.equal(weight, fewer[name]) for name, weight in all_weights(without_idle(sends)).items())
    kept = [sum(int(weight.count_nonzero()) for weight in each.values()) for each in (fewer, all_weights(model))]
    assert kept[0] < kept[1]
    compressed = copy.deepcopy(model)  # of layers that compute their weights
    compress_(compressed, MagnitudeConfig(1.0, bits=None))
    assert all(torch.equal(w, fewer[name]) for name, w in all_weights(without_idle(compressed)).items())
    if isinstance(model, LeNet5):  # what is made is read, and what is read is made
        made = {name: (weight != 0).flatten(1).any(1) for name, weight in fewer.items()}
        read = {name: (weight != 0).transpose(0, 1).flatten(1).any(1) for name, weight in fewer.items()}
        assert torch.equal(made["conv2"], read["fc1"].view(16, -1).any(1))
        for name, reader in (("conv1", "conv2"), ("fc1", "fc2"), ("fc2", "fc3")):
            assert torch.equal(made[name], read[reader])


def test_figures_are_the_baselines_numbers_over_ours():
    ours, theirs = Communication(10, 20, 30, 60, 40, 30, 5), Communication(40, 50, 90, 180, 50, 30, 10)
    figures = compared("equal density", "magnitude", ours, theirs, claims={"EDP": 6.8}, conditions={"tiles": 4})
    assert [figure.ours for figure in figures] == [3, 1.25, 3.75]
    assert [figure.claim for figure in figures] == [None, None, 6.8]
    assert figures[0].figure == "communication energy, equal density"
    assert figures[2].conditions["baseline"]["edp_pj_cycles"] == 90 * 50 and figures[2].conditions["tiles"] == 4
    with pytest.raises(MappingError, match="nothing is sent from tile to tile"):
        compared("equal density", "magnitude", ours, Communication(0, 0, 0, 0, 0, 0, 0))


def test_mechanisms_together_are_no_worse_than_each_alone():
    dense = lenet5()
    laid, pruned = Laid.on(dense, "small_tiles", SAMPLE), copy.deepcopy(dense)
    (config,) = with_traffic([parse_config("communication-aware:cost=0.4")], dense, "small_tiles", SAMPLE)
    compress_(pruned, config)
    connections, places, trees, whole, beyond = mechanisms(laid, dense, pruned)
    assert min(connections.ours, places.ours, trees.ours) >= 1
    assert whole.ours >= max(connections.ours, places.ours, trees.ours)
    assert beyond.ours == pytest.approx(whole.ours / (connections.ours * places.ours * trees.ours))
    at = communication(laid, pruned, placed(laid, pruned), multicast=True)
    assert whole.ours == pytest.approx(communication(laid, dense).energy_pj / at.energy_pj)


def test_as_much_of_what_matters_is_left_of_all():
    dense = lenet5()
    laid, before = Laid.on(dense, "small_tiles", SAMPLE), copy.deepcopy(dense.state_dict())
    by_bits, single = at_equal_saliency(laid, dense, 0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    for figure in (by_bits, single):
        told = figure.conditions
        assert told["saliency"] <= told["baseline_saliency"] + 1e-9 and told["cost_share"] <= 0.5
        assert figure.ours == pytest.approx(told["baseline_cost_share"] / told["cost_share"])
    assert single.conditions["baseline_saliency"] == pytest.approx(single.conditions["saliency"], abs=1e-3)
    assert single.ours > by_bits.ours > 1


class Made:
    """Networks that are compressed at once, without training, and whose accuracies are made up."""

    pixels = torch.randint(0, 256, (8, 1, 16, 16), generator=torch.Generator().manual_seed(1)).byte()
    seeds = (0, 1)
    train = test = Images(pixels, torch.arange(8) % 10, tuple("abcdefghij"), "noise")

    def dense(self, network, seed):
        return Trained(lenet5(seed), None, 0.9, {})

    def checked(self, seed):
        return self.test

    def compressed(self, network, setting, seed):
        model = lenet5(seed)
        for config in with_traffic([parse_config(setting)], model, "small_tiles", SAMPLE):
            compress_(model, config)
        accuracy = 0.885 if "cost=0.2" in setting or "density=0.1" in setting else 0.9 - 0.001 * seed
        return Trained(bake_(model).eval(), None, accuracy, {})


def test_all_figures_of_a_network():
    networks = Made()
    found = list(benchmark.figures(networks, "lenet5", 0))
    figures = {(figure.figure, figure.baseline): figure for figure, _ in found}
    assert len(figures) == len(found) and all(0 < accuracy <= 0.9 for _, accuracy in found)
    for how in ("equal density", "equal accuracy"):
        for what, claim in (("energy", 3.0), ("latency", 3.1), ("EDP", 6.8)):
            name = f"communication {what}, {how}"
            assert (
                figures[name, "magnitude pruning"].claim == claim and figures[name, "structured pruning"].claim is None
            )
    equal = figures["communication energy, equal accuracy", "magnitude pruning"]
    assert equal.conditions["setting"] == "communication-aware:cost=0.33"  # that of .2 of C loses more than a point
    assert equal.conditions["baseline_setting"] == "magnitude:density=0.22"
    dense = figures["communication energy, equal density", "structured pruning"].conditions
    assert dense["baseline_setting"] == "structured:keep=0.5" and dense["setting"] == "communication-aware:cost=0.33"
    exact = "images whose outputs are PyTorch's quantised ones: communication-aware:cost=0.33"
    assert figures[exact, "8 images"].ours == 1
    own = figures["communication energy, equal accuracy", "structured pruning, on its own tiles"]
    assert own.conditions["baseline_tiles"] < own.conditions["tiles"]


def test_the_dense_network_stands_in_where_no_other_is_as_good():
    contest = benchmark.Contest(Made(), "lenet5")
    assert contest.within_a_point(["magnitude:density=0.1"]) == DENSE
    assert contest.within_a_point(["magnitude:density=0.1", "magnitude:density=0.3"]) == "magnitude:density=0.3"
    model = contest.point("magnitude:density=0.3", 1)
    compress_(again := lenet5(1), MagnitudeConfig(0.3))
    assert model.density == pytest.approx(0.3, abs=0.01) and model.sent == communication(
        contest.laid(1), without_idle(again)
    )
