"""What has been measured of a system? A record a network and seed, as the file has it, and a line a figure of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from bale.codesign.figure import Figure
from benchmarks.codesign.networks import NETWORKS, amount, settings
from benchmarks.compression.runs import Amount, Run

Line = dict[str, Any]
SYSTEMS = ("reboc", "tinyadc", "cannon", "smartdeal")


@dataclass(frozen=True)
class Part:
    """What is measured in one go: all figures of a system on a network that was trained from one seed."""

    system: str
    network: str
    seed: int
    amount: Amount

    @classmethod
    def of(cls, record: Line) -> Part:
        """The part of which a record is."""
        amount = Amount(record["dense_epochs"], record["epochs"], record["images"], record["lr"])
        return cls(record["system"], record["network"], record["seed"], amount)

    def record(
        self, figures: Iterable[tuple[Figure, float]], accuracy_dense: float, machine: Mapping[str, Any]
    ) -> Line:
        """As it stands in the file: each figure with the accuracy of the network that it is of."""
        return {
            "system": self.system,
            "network": self.network,
            "seed": self.seed,
            **self.amount.fields(),
            "accuracy_dense": accuracy_dense,
            **machine,
            "figures": [
                {**vars(figure), "conditions": dict(figure.conditions), "accuracy": accuracy}
                for figure, accuracy in figures
            ],
        }


def parts(
    systems: Sequence[str], networks: Sequence[str], seeds: Sequence[int], same: Amount | None = None
) -> list[Part]:
    """Seed by seed, so that a study that is cut off has whole seeds; only networks that a system is measured on.

    `same`: how much each is trained; None: as `networks.amount` says.
    """
    return [
        Part(system, network, seed, same or amount(system, network))
        for seed in seeds
        for network in networks
        for system in systems
        if system in settings(network)
    ]


def runs(wanted: Sequence[Part]) -> list[Run]:
    """All trainings that some parts need, each once."""
    every = [
        Run(part.network, setting, part.seed, part.amount)
        for part in wanted
        for setting in settings(part.network)[part.system]
    ]
    return list(dict.fromkeys(every))


def read(path: Path | None) -> list[Line]:
    """The records of a file that may not be there yet; of two of the same part the later one."""
    if path is None or not path.exists():
        return []
    records = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]
    return list({Part.of(record): record for record in records}.values())


def merged(records: Sequence[Line]) -> list[Line]:
    """A line for each figure, baseline, network and system: means over seeds, all trained as much."""
    order = sorted(records, key=lambda record: (SYSTEMS.index(record["system"]), NETWORKS.index(record["network"])))
    found: dict[tuple[str, str, str, str], list[tuple[Line, Line]]] = {}
    for record in sorted(order, key=lambda record: record["seed"]):
        for figure in record["figures"]:
            key = (record["system"], record["network"], figure["figure"], figure["baseline"])
            found.setdefault(key, []).append((record, figure))
    pairs = {(record["system"], record["network"]): None for record in order}
    assert len({(part.system, part.network, part.amount) for part in map(Part.of, records)}) == len(pairs)
    return [_line(found[key]) for pair in pairs for key in found if key[:2] == pair]


def _line(measured: Sequence[tuple[Line, Line]]) -> Line:
    """One figure, of all seeds that have it."""
    records, figures = [record for record, _ in measured], [figure for _, figure in measured]
    first, ours = figures[0], [figure["ours"] for figure in figures]
    return {
        "system": records[0]["system"],
        "network": records[0]["network"],
        "figure": first["figure"],
        "baseline": first["baseline"],
        "claim": first["claim"],
        "ours": mean(ours),
        "accuracy_dense": fmean(record["accuracy_dense"] for record in records),
        "accuracy": fmean(figure["accuracy"] for figure in figures),
        "conditions": {
            "unit": first["unit"],
            "seeds": [record["seed"] for record in records],
            "accuracies": [figure["accuracy"] for figure in figures],
            **({"ours_by_seed": ours} if len(set(ours)) > 1 else {}),
            **{name: records[0][name] for name in ("threads", "torch", "processor")},
            **{name: records[0][name] for name in Amount().fields()},
            **mean([figure["conditions"] for figure in figures]),
        },
    }


def mean(values: Sequence[Any]) -> Any:
    """The mean of numbers that differ, in mappings and lists too; of all else, and of what is equal, the first.

    >>> mean([{"uJ": 3.0, "ADC": 5, "bits": [1, 2]}, {"uJ": 4.0, "ADC": 5, "bits": [1, 4]}])
    {'uJ': 3.5, 'ADC': 5, 'bits': [1, 3.0]}
    """
    first = values[0]
    if all(value == first for value in values):
        return first
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return fmean(values)
    if all(isinstance(value, Mapping) and value.keys() == first.keys() for value in values):
        return {name: mean([value[name] for value in values]) for name in first}
    if all(isinstance(value, list) and len(value) == len(first) for value in values):
        return [mean(each) for each in zip(*values, strict=True)]
    return first
