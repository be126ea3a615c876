"""What do circulant blocks that are stored once buy, on the same chip with the same crossbars? ReBoc (DATE 2020).

Published, by the abstract: 4.1 times the speed and 2.6 times less energy than ReRAM accelerators of dense networks. How
it maps is our reconstruction (`bale.hardware.CirculantMapping`). At equal crossbars a layer gains nothing: what it does
not store k times it turns k times. A network gains where the room is spent on copies. So both sides have the same
number N of crossbars, in units of what the dense network needs at least, and the same allocator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from bale.codesign.figure import Figure
from bale.hardware import Chip, CirculantMapping, Cost, OnChip, cost_on_chip, put_on_chip
from bale.hardware.events import inputs_read, spread
from bale.hardware.mapping import Placement
from bale.hardware.noc.estimate import estimate_noc
from bale.hardware.pipeline import bottleneck_ns
from bale.hardware.roll_up import tile_power_mw

SPEED, ENERGY = 4.1, 2.6  # claimed of networks on average
FPGA, ASIC = 96.0, 8.86  # claimed of power efficiency, over the best for circulant networks
TIMES = (1.0, 1.1, 1.2, 1.5, 2.0, 4.0)
_SAME = "dense, same crossbars, same allocator"
# Each of ReBoc's mechanisms, and what a mapping without it is.
OFF: Mapping[str, Mapping[str, Any]] = {
    "Input Slice Reusing": {"reuse_slices": False},
    "Input Tile Sharing": {"share_inputs": False},
    "Intra-Crossbar Weight Duplication": {"duplicates": 1},
    "pipeline within a layer": {"pipelined": False},
}


@dataclass(frozen=True, eq=False)
class Sides:
    """A dense network and one of circulant blocks, both trained, for one chip; `data` [samples, ...] calibrates.

    `how`: the mapping of the second.
    """

    dense: nn.Module
    circulant: nn.Module
    chip: Chip
    data: Tensor
    how: CirculantMapping

    def lay(self, stored: bool, **options: Any) -> OnChip:
        """One of them on the chip: the second, its blocks stored once, or the dense one."""
        if stored:
            options = {"circulant": self.how, **options}
            return put_on_chip(self.circulant, self.chip, self.data, **options)
        return put_on_chip(self.dense, self.chip, self.data, **options)

    def cost(self, stored: bool, **options: Any) -> Cost:
        """What an image costs."""
        model = self.circulant if stored else self.dense
        return cost_on_chip(self.lay(stored, **options), model, self.data)

    def least(self, stored: bool = False) -> int:
        """Crossbars that one copy of each matrix takes."""
        return self.lay(stored, copy=False).placement.used


def against_dense(sides: Sides, times: Sequence[float] = TIMES) -> Iterator[Figure]:
    """Throughput, latency and energy beside the dense network's, for several N, and at which N the claims appear."""
    least = sides.least()
    own = sides.least(stored=True)
    for many in times:
        budget = round(many * least)
        ours, dense = (sides.cost(which, crossbars=budget) for which in (True, False))
        yield from _compared(f"N = {many:g}", ours, dense, budget, {"dense_least": least, "circulant_least": own})
    yield from _claims(sides, least)
    yield from _in_turns(sides, least)


def against_others(sides: Sides, many: float = 1.2) -> Iterator[Figure]:
    """The same network beside other mappings, at N crossbars."""
    budget = round(many * sides.least())
    ours = sides.cost(True, crossbars=budget)
    written_out = cost_on_chip(
        put_on_chip(sides.circulant, sides.chip, sides.data, crossbars=budget), sides.circulant, sides.data
    )
    others = {
        "dense, one copy of each matrix": sides.cost(False, copy=False),
        "circulant, written out and mapped densely": written_out,
        "circulant, compact (d = 1), with copies": sides.cost(
            True, crossbars=budget, circulant=replace(sides.how, duplicates=1)
        ),
    }
    for name, other in others.items():
        facts = {"N": many, "crossbars": budget, "baseline_crossbars": other.crossbars}
        yield Figure(f"throughput, N = {many:g}", name, other.interval_ns / ours.interval_ns, conditions=facts)
        ratio = other.energy.total_pj / ours.energy.total_pj
        yield Figure(f"energy by events, N = {many:g}", name, ratio, conditions=facts)


def ablations(sides: Sides) -> Iterator[Figure]:
    """What each mechanism brings to the whole, and all of them together to none: of the matrices whose blocks are
    stored once, one copy of each; latency is the whole network's.
    """

    def counted(**off: Any) -> dict[str, float]:
        on_chip = sides.lay(True, copy=False, circulant=replace(sides.how, **off))
        found = cost_on_chip(on_chip, sides.circulant, sides.data)
        reads, bits = inputs_of(on_chip)
        stored = [layer for layer in found.layers if layer.block > 1]
        vectors = {layer.name: on_chip.placement.matrices[layer.name].vector(on_chip.chip) for layer in stored}
        return {
            "time of their vectors": sum(layer.positions * vectors[layer.name].occupied for layer in stored),
            "latency of one image": found.latency_ns,
            "energy by events": sum(layer.energy_pj for layer in stored),
            "reads of inputs": reads,
            "buffer for inputs": bits,
        }

    whole = counted()
    product = dict.fromkeys(whole, 1.0)
    for name, off in OFF.items():
        without = counted(**off)
        for what, value in whole.items():
            gain = without[what] / value
            product[what] *= gain
            yield Figure(
                f"{what}: {name}", "the same without it", gain, conditions={"with": value, "without": without[what]}
            )
    bare = counted(**{field: value for off in OFF.values() for field, value in off.items()})
    for what, value in whole.items():
        facts = {"with": value, "without": bare[what], "product_of_the_parts": product[what]}
        yield Figure(f"{what}: all four", "the same without any", bare[what] / value, conditions=facts)


def with_fewer_bits(sides: Sides, pruned: nn.Module, many: float = 1.2) -> Iterator[Figure]:
    """Circulant blocks whose columns have few non-zeros (`ADCAwareConfig`), and converters to match: no paper's.

    `pruned`: a network of such blocks. The chip's encoding gives signs columns of their own. All sides have converters
    that lose nothing by the exact bound, and N crossbars. Power and area are without what a chip has once, its links.
    """
    budget = round(many * sides.least())
    both = replace(sides, circulant=pruned)
    ours = both.cost(True, crossbars=budget, adc_bits="exact")
    others = {
        "circulant blocks alone": sides.cost(True, crossbars=budget, adc_bits="exact"),
        "dense": sides.cost(False, crossbars=budget, adc_bits="exact"),
    }
    facts = {"N": many, "crossbars": budget, "encoding": str(sides.chip.encoding), "adc_law": sides.chip.adc.law}
    once = [unit for unit in sides.chip.units if unit.per == "chip"]
    links_w, links_mm2 = 1e-3 * sum(unit.power_mw for unit in once), sum(unit.area_mm2 for unit in once)
    bits = [layer.adc_bits for layer in ours.layers]
    yield Figure("converters' bits, the most: both", "", max(bits), "bits", None, facts | {"by_matrix": bits})
    for name, other in others.items():
        against = facts | {"baseline_bits": [layer.adc_bits for layer in other.layers]}
        for what, mine, its in (
            ("energy by events", ours.energy.total_pj, other.energy.total_pj),
            ("power of the tiles in use", ours.power_w - links_w, other.power_w - links_w),
            ("area of the tiles in use", ours.area_mm2 - links_mm2, other.area_mm2 - links_mm2),
            ("throughput", ours.interval_ns, other.interval_ns),
        ):
            yield Figure(f"{what}: both, N = {many:g}", name, its / mine, conditions=against)


def inputs_of(on_chip: OnChip) -> tuple[float, float]:
    """Numbers read from buffers for one vector of each matrix whose blocks are stored once, and bits that they hold.

    A buffer holds a row block's inputs once for each tile, or without Input Tile Sharing once for each crossbar.
    """
    reads = bits = 0.0
    for name, mapped in on_chip.placement.matrices.items():
        if mapped.circulant is None:
            continue
        alone = _one_copy(on_chip.placement, name)
        once = spread(alone, mapped).rows_by_tile
        reads += inputs_read(mapped, spread(alone, mapped))
        if not mapped.circulant.how.share_inputs:
            once = sum(block.rows * block.crossbars for block in mapped.blocks)
        bits += once * on_chip.chip.input_bits
    return float(reads), float(bits)


def placed(sides: Sides, chip: Chip, seed: int = 0) -> Iterator[Figure]:
    """What travels between tiles of a chip with a mesh, and what placing tiles by annealing brings: no paper's.

    Circulant blocks that are stored once need fewer tiles, which are nearer to one another.
    """
    here = replace(sides, chip=chip)
    energies: dict[tuple[bool, str], float] = {}
    tiles = {}
    for circulant in (False, True):
        on_chip = here.lay(circulant, copy=False)
        tiles[circulant] = on_chip.placement.tiles
        for placement in ("snake", "annealed"):
            found = estimate_noc(on_chip, placement=placement, seed=seed)
            energies[circulant, placement] = float(found.energy_pj.sum())
    for circulant, placement in ((True, "snake"), (True, "annealed"), (False, "annealed")):
        facts = {"chip": chip.name, "tiles": tiles[circulant], "dense_tiles": tiles[False]}
        facts |= {"pj": energies[circulant, placement], "dense_snake_pj": energies[False, "snake"]}
        name = "circulant" if circulant else "dense"
        ratio = energies[False, "snake"] / energies[circulant, placement]
        yield Figure(f"communication energy: {name}, {placement}", "dense, in snake order", ratio, conditions=facts)


def _compared(name: str, ours: Cost, dense: Cost, budget: int, facts: Mapping[str, Any]) -> Iterator[Figure]:
    """Time and energy of both sides; claims stand beside what is measured with room for the whole dense network."""
    whole = dense.turns == 1
    baseline = _SAME if whole else "dense, in turns, cells written for every 16 images"
    speed, less = (SPEED, ENERGY) if whole else (None, None)
    power = _power_w(ours.chip, budget)  # of both, busy or not
    facts = {**facts, "crossbars": budget, "chip": ours.chip.name, "weight_bits": ours.chip.weight_bits}

    def of(ours_is: float, dense_is: float, unit: str) -> dict[str, Any]:
        return {**facts, f"ours_{unit}": ours_is, f"baseline_{unit}": dense_is}

    interval, latency = (ours.interval_ns, dense.interval_ns), (ours.latency_ns, dense.latency_ns)
    events = ours.energy.total_pj, dense.energy.total_pj
    fixed = power * interval[0] * 1e3, power * interval[1] * 1e3  # W ns = 1,000 pJ
    by_power = "energy by power of all N crossbars' tiles x time"
    for what, pair, unit, claim in (
        ("throughput", interval, "ns", speed),
        ("latency of one image", latency, "ns", None),
        ("energy by events", events, "pj", less),
        (by_power, fixed, "pj", less),
    ):
        yield Figure(f"{what}, {name}", baseline, pair[1] / pair[0], claim=claim, conditions=of(*pair, unit))


def _power_w(chip: Chip, crossbars: int) -> float:
    """Of the tiles that so many crossbars take."""
    return 1e-3 * tile_power_mw(chip) * -(-crossbars // chip.tile_crossbars)


def _claims(sides: Sides, least: int) -> Iterator[Figure]:
    """The largest N at which throughput, and so energy by power x time, are as claimed: all budgets up to 2 N."""
    step = max(1, least // 200)
    budgets = range(least, 2 * least + 1, step)
    gains = {budget: _gain(sides, budget) for budget in budgets}
    for what, claim in (("speed", SPEED), ("energy by power x time", ENERGY)):
        reached = [budget / least for budget, gain in gains.items() if gain >= claim]
        facts = {"claimed": claim, "from_N": 1.0, "to_N": 2.0, "step_N": step / least, "most": max(gains.values())}
        name = f"the largest N, from 1 to 2, at which {claim:g} x {what} appears (0: none)"
        yield Figure(name, _SAME, max(reached, default=0.0), "N", None, facts)


def _gain(sides: Sides, budget: int) -> float:
    ours, dense = (sides.lay(which, crossbars=budget) for which in (True, False))
    return bottleneck_ns(dense.network, dense.placement) / bottleneck_ns(ours.network, ours.placement)


def _in_turns(sides: Sides, least: int, many: float = 0.5) -> Iterator[Figure]:
    """Below what the dense network needs its matrices take turns, and every turn's cells are written anew."""
    budget = max(sides.least(stored=True), round(many * least))
    if budget >= least:
        return
    ours, dense = sides.cost(True, crossbars=budget), sides.cost(False, crossbars=budget, multiplex=True)
    written = sum(pj for (_, unit), pj in dense.energy.parts.items() if unit == "cell writes")
    facts = {"dense_least": least, "turns": dense.turns, "images_of_a_turn": 16, "cell_writes_pj": written}
    yield from _compared(f"N = {budget / least:.2g}", ours, dense, budget, facts)


def _one_copy(placement: Placement, name: str) -> Placement:
    """One copy of one matrix, where its first is."""
    places = {name: replace(placement.places[name], copies=1)}
    return replace(placement, matrices={name: placement.matrices[name]}, places=places)


def efficiency(sides: Sides, many: float = 1.2) -> Iterator[Figure]:
    """Operations of the dense network a second and watt; claims over FPGA and ASIC, which name no numbers, beside."""
    budget = round(many * sides.least())
    ours = sides.cost(True, crossbars=budget)
    dense_macs = sides.lay(False, copy=False).network.macs
    facts = {"N": many, "operations": 2 * dense_macs, "energy": "by events"}
    yield Figure("operations by energy", "", 2e3 * dense_macs / ours.energy.total_pj, "GOPS/W", None, dict(facts))
    gops = 2 * dense_macs / ours.interval_ns
    facts["energy"] = "by power of all N crossbars' tiles x time"
    yield Figure("operations by power", "", gops / _power_w(ours.chip, budget), "GOPS/W", None, facts)
    for peer, claim in (("FPGA", FPGA), ("ASIC", ASIC)):
        why = {"why_not": f"what the {peer} reaches is not in the abstract; ours is in GOPS/W"}
        yield Figure("operations by energy", f"{peer} for circulant networks", None, "x", claim, why)
