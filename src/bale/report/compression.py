"""What did compression do to a network: bytes, accuracy, layer by layer? A table for people, a dict for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bale.compress import Config, Report, WeightReport
from bale.report.grids import Facts, fact_grid, plain_table, titled, warned
from bale.report.quantities import COUNT, percent, quantity
from bale.train import PackedFile, Target, Try

_LONG = 1_000_000  # numbers from here on are rounded, so that tables stay narrow
_FACTS = {  # what methods add, in a heading's words
    "nonzeros": "non-zeros\nof a column",
    "adc_bits": "ADC bits\na priori",
    "adc_bits_exact": "\nexact",
    "padded": "padded\nblocks",
}
_CHOSEN = "chosen by the same images of the test as the accuracy below, which others may not quite reach"


@dataclass(frozen=True)
class CompressionResult:
    """A network that was compressed, trained again, and written.

    model            its name
    report           on the model at the end, compared with the model before
    accuracy_before  of the network before, on the same images as that of the file
    samples          how many these are
    file             what was written and read back
    target           what was wanted; None: what the methods' numbers give
    tries            settings that were trained on the way to an accuracy
    """

    model: str
    report: Report
    accuracy_before: float
    samples: int
    file: PackedFile
    target: Target | None = None
    tries: Sequence[Try] = ()

    @property
    def ratio(self) -> float:
        """Bytes of the network before, 4 for each parameter, over those of the file."""
        return self.report.dense_bytes / self.file.size

    @property
    def drop(self) -> float:
        """How much less accurate the network in the file is; below 0: it is more."""
        return self.accuracy_before - self.file.accuracy

    @property
    def adc_bits(self) -> int | None:
        """Of converters that lose nothing of any weight, by the a priori bound; None: no method cares."""
        return max((int(row.facts["adc_bits"]) for row in self.report.weights if "adc_bits" in row.facts), default=None)

    @property
    def met(self) -> bool | None:
        """Is the file what was wanted? None: nothing was."""
        if self.target is None:
            return None
        if self.target.kind == "ratio":
            return self.ratio >= self.target.value
        if self.target.kind == "adc_bits":
            return self.adc_bits is not None and self.adc_bits <= self.target.value
        return self.file.accuracy >= self.target.least(self.accuracy_before) - 1e-9  # a float's last bit


def warnings_of(result: CompressionResult) -> list[str]:
    """What a reader must know before believing the numbers."""
    lines = []
    if result.met is False:
        lines.append(f"the target {result.target} is not met: {_reached(result)}")
    if not result.file.same:
        lines.append("the network that was written has another accuracy than the one that was read back")
    return lines


def compression_dict(result: CompressionResult) -> dict[str, Any]:
    """Return a result as JSON can hold it: the report's numbers, and those of the file.

    `chosen_by` is "test" where tries were compared on the images of which the accuracy is, else None.
    """
    target = result.target
    wanted = None if target is None else {"kind": target.kind, "value": target.value, "met": result.met}
    return {
        "model": result.model,
        **result.report.to_dict(),
        "accuracy": {
            "before": result.accuracy_before,
            "after": result.file.accuracy,
            "drop": result.drop,
            "samples": result.samples,
        },
        "target": wanted,
        "chosen_by": "test" if result.tries else None,
        "tries": [
            {
                "config": each.setting.configs[-1].to_dict(),
                "packed_bytes_before_training": each.setting.packed_bytes,
                "accuracy": each.accuracy,
                "holds": each.holds,
            }
            for each in result.tries
        ],
        "file": {"path": str(result.file.path), "bytes": result.file.size, "ratio": result.ratio},
        "warnings": warnings_of(result),
    }


def compression_table(result: CompressionResult, facts: Facts = (), warnings: Sequence[str] = ()) -> RenderableType:
    """Return a result for a rich console: what was done, what came of it, and how each layer is stored.

    `facts` (such as what was trained on what) and `warnings` of the caller's come before those of the result.
    """
    parts: list[RenderableType] = [fact_grid([("model", result.model), *facts, *_facts(result)])]
    parts += warned([*warnings, *warnings_of(result)])
    parts += [Text(), _weight_table(result)]
    columns = _fact_table(result.report.weights)
    if columns is not None:
        parts += [Text(), columns]
    skipped = result.report.skipped
    if skipped:
        parts += [Text(), fact_grid([("left as is", "\n".join(f"{name}: {why}" for name, why in skipped.items()))])]
    return Group(*parts)


def method_text(config: Config) -> str:
    """A method with its numbers, in words."""
    numbers = ", ".join(f"{name} {value}" for name, value in config.numbers().items() if value is not None)
    return f"{config.method}: {numbers}"


def _facts(result: CompressionResult) -> Facts:
    report, file = result.report, result.file
    lines = [("compressed", "\n".join(method_text(config) for config in report.configs))]
    if result.target is not None:
        met = "met" if result.met else "NOT met"
        lines.append(("target", f"{result.target}: {met}, {_reached(result)}"))
    if result.tries:
        lines.append(("tried", "\n".join([*map(_try_text, result.tries), f"({_CHOSEN})"])))
    return [
        *lines,
        (
            "size",
            f"{report.parameters:,} parameters, {report.dense_bytes:,} bytes; {file.size:,} packed: "
            f"{result.ratio:.1f} times less",
        ),
        (
            "accuracy",
            f"{result.accuracy_before:.2%} before, {file.accuracy:.2%} by the packed file: {_points(result.drop)}, of "
            f"{result.samples:,} images of the test",
        ),
        ("file", str(file.path)),
    ]


def _reached(result: CompressionResult) -> str:
    """What the file has of that which was wanted."""
    target = result.target
    assert target is not None
    if target.kind == "ratio":
        return f"{result.ratio:.2f} times fewer bytes"
    if target.kind == "adc_bits":
        return f"{result.adc_bits} bits a priori hold every column's sum"
    return f"{result.file.accuracy:.2%}, and {target.least(result.accuracy_before):.2%} was wanted"


def _try_text(each: Try) -> str:
    return f"{each.setting}: {each.accuracy:.2%}, {'enough' if each.holds else 'too little'}"


def _points(drop: float) -> str:
    points = round(100 * drop, 2)
    if points == 0:
        return "no difference"
    return f"{abs(points):.2f} points {'less' if points > 0 else 'more'}"


def _weight_table(result: CompressionResult) -> RenderableType:
    """How each weight is stored, then what else is in the file, so that the bytes add up to all of them."""
    report = result.report
    headings = ["weight", "\nshape", "para-\nmeters", "\nkept", "\nbits", "\nbytes", "\nratio", "\nMACs", "\nerror"]
    table = plain_table(headings)
    for row in report.weights:
        table.add_row(
            Text(row.name),
            "x".join(map(str, row.shape)),
            _number(row.parameters),
            _number(row.kept),
            str(row.bits),
            _number(row.packed_bytes),
            f"{row.ratio:.1f}",
            percent(row.macs, row.macs_before),
            "-" if row.error is None else f"{row.error:.3f}",
        )
    parameters = sum(row.parameters for row in report.weights)
    packed = sum(row.packed_bytes for row in report.weights)
    rest = report.parameters - parameters
    table.add_row("the rest", "", _number(rest), "", "", _number(result.file.size - packed), "", "", "")
    all_of_it = [_number(report.parameters), "", "", _number(result.file.size), f"{result.ratio:.1f}", "", ""]
    table.add_row("all", "", *all_of_it, style="bold")
    return titled(
        "weights as they are stored",
        table,
        Text(
            "ratio: to 4 bytes a parameter; MACs: of the weight before; error: relative Frobenius norm of the change, "
            "training included; the rest: biases, norms, layers left as they are, the file's header.",
            style="dim",
        ),
    )


def _fact_table(rows: Sequence[WeightReport]) -> RenderableType | None:
    """What the methods say of weights; nothing, where they say nothing."""
    names = list(dict.fromkeys(name for row in rows for name in row.facts))
    if not names:
        return None
    table: Table = plain_table(["weight", *(_FACTS.get(name, name) for name in names)])
    for row in rows:
        if row.facts:
            table.add_row(Text(row.name), *(_fact(row.facts, name) for name in names))
    return titled("what the methods say of them", table)


def _fact(facts: Mapping[str, float], name: str) -> str:
    value = facts.get(name)
    if name == "padded":
        return "yes" if value else ""
    return "" if value is None else f"{value:g}"


def _number(value: int) -> str:
    return f"{value:,}" if value < _LONG else quantity(value, COUNT)
