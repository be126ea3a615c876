"""Which trained networks do the systems need, and where do they come from? Settings of the study of compression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bale.data import Images
from benchmarks.compression.runs import Amount, Run, holds, read
from benchmarks.compression.study import Line, Study

STUDY = Path(__file__).parents[1] / "results" / "compression.jsonl"
DENSE = ""
CONVOLUTIONS = ("lenet5", "vgg8", "resnet20")
NETWORKS = (*CONVOLUTIONS, "lstm")

CIRCULANT = "block-circulant:block=8,least_blocks=4"
FIVE_BITS, FOUR_BITS = "adc-aware:adc_bits=5", "adc-aware:adc_bits=4"
STRUCTURED = "structured:keep=0.7 + uniform:bits=8"
STRUCTURED_FIVE_BITS = "structured:keep=0.7 + adc-aware:adc_bits=5"
CIRCULANT_SIX_BITS = f"{CIRCULANT} + adc-aware:adc_bits=6"
SMARTDEAL, TWO_BITS = "smartdeal:rate=0.12", "uniform:bits=2"
THIRD = "communication-aware:cost=0.33"  # CANNON's connections whose density others are compared at

# The network that trains in a minute: what is asked of all settings of a kind is asked of it alone.
_QUICK = "lenet5"
# The density at which CANNON's connections of C = .33 are, of all weights.
_DENSITY = {"lenet5": 0.22, "vgg8": 0.55, "resnet20": 0.44}


def cannon(network: str) -> tuple[str, ...]:
    """By the share of C that may stay."""
    settings = ("communication-aware:cost=0.5", THIRD, "communication-aware:cost=0.2")
    return settings if network == _QUICK else settings[:2]


def magnitude(network: str) -> tuple[str, ...]:
    """At CANNON's density, and with the fewest weights that still lose about a point."""
    return tuple(f"magnitude:density={density}" for density in (_DENSITY[network], 0.1))


def random_static(network: str) -> tuple[str, ...]:
    """Connections that are drawn once, wherever their ends lie, at CANNON's density and at a lower one."""
    chosen = "start=distance,length=1000000000.0,rewire=0,cost=1"
    settings = tuple(f"communication-aware:{chosen},density={density}" for density in (_DENSITY[network], 0.1))
    return settings if network == _QUICK else settings[:1]


def structured(network: str) -> tuple[str, ...]:
    """Whole outputs removed: of a density d, a share of d^(1/2) of inputs and of outputs stays."""
    settings = tuple(f"structured:keep={keep}" for keep in (round(_DENSITY[network] ** 0.5, 2), 0.5, 0.35))
    return settings if network == _QUICK else settings[:2]


def near_static(network: str) -> str:
    """Connections that are drawn once, near ones more often, at CANNON's density."""
    return f"communication-aware:start=distance,rewire=0,cost=1,density={_DENSITY[network]}"


def cannon_parts(network: str) -> tuple[str, ...]:
    """CANNON's mechanisms one by one, of the network that trains in a minute.

    No rewiring; a start by distance, and one wherever ends lie; near connections that stay as they are drawn.
    """
    if network != _QUICK:
        return ()
    chosen = ("rewire=0", "start=distance", "start=distance,length=1000000000.0")
    return (*(f"communication-aware:cost=0.33,{each}" for each in chosen), near_static(network))


def amount(system: str, network: str) -> Amount:
    """How much is trained: less of what would take hours of a core, its dense network too."""
    less = network == "resnet20" or (system, network) in (("tinyadc", "vgg8"), ("smartdeal", "vgg8"))
    return Amount(dense_epochs=6, epochs=3, images=20_000) if less else Amount()


def settings(network: str) -> dict[str, tuple[str, ...]]:
    """By system, all settings that a network is trained with."""
    if network == "lstm":
        return {"reboc": (CIRCULANT,), "smartdeal": (SMARTDEAL,)}
    others = (*magnitude(network), *random_static(network), *structured(network))
    return {
        "reboc": (CIRCULANT, *((CIRCULANT_SIX_BITS,) if network != "resnet20" else ())),
        "tinyadc": (FIVE_BITS, STRUCTURED, STRUCTURED_FIVE_BITS, *((FOUR_BITS,) if network == _QUICK else ())),
        "cannon": (*cannon(network), *others, *cannon_parts(network)),
        "smartdeal": (SMARTDEAL,),
    }


@dataclass(frozen=True)
class Trained:
    """A network with plain layers, as it was trained, and where it is kept.

    `packed`: its packed file; None of a dense one. `accuracy` is PyTorch's, in float32, on all images of the test.
    """

    model: nn.Module
    packed: Path | None
    accuracy: float
    line: Line


class Networks:
    """Trained networks, from a folder, where those that are missing are trained first (minutes each).

    `seeds`: all that are measured, over whose means a system may choose among its settings.
    """

    def __init__(self, study: Study, amount: Amount, seeds: Sequence[int] = (0, 1, 2)) -> None:
        self.study, self.amount, self.seeds = study, amount, tuple(seeds)

    @property
    def train(self) -> Images:
        return self.study.train

    @property
    def test(self) -> Images:
        return self.study.test

    def checked(self, seed: int) -> Images:
        """On which images a chip must say what PyTorch's quantised network says, bit for bit: all of the test.

        Of what is trained less, 1,000 of them for all seeds but the first, as ten thousand take minutes a chip.
        """
        whole = seed == 0 or self.amount.images == Amount().images
        return self.test if whole else self.test[:1_000]

    def dense(self, network: str, seed: int) -> Trained:
        """Before compression."""
        model, facts = self.study.dense(Run(network, "none", seed, self.amount))
        return Trained(model.eval(), None, facts["accuracy"], facts)

    def compressed(self, network: str, setting: str, seed: int) -> Trained:
        """Compressed by a setting, and trained again."""
        run = Run(network, setting, seed, self.amount)
        model, line = self.study.network(run)
        return Trained(model, self.study.packed(run), line["accuracy"], line)

    def told(self, network: str, setting: str, seed: int) -> Line:
        """What the study of compression says of a setting; it is trained where that has not been done."""
        run = Run(network, setting, seed, self.amount)
        known = [line for line in read(STUDY) if holds(line) and Run.of(line) == run]
        return known[-1] if known else self.compressed(network, setting, seed).line
