"""How are a stream's boxes written while it runs, so that whatever interrupts it leaves a file that can be read?"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bale.errors import VideoError
from bale.video.metrics.latency import Result

_CORNERS = ("left", "top", "right", "bottom")
CSV_COLUMNS = (
    *("index", "time", "kind", "key_index", "staleness", "motion", "latency_ms"),
    *(*_CORNERS, "score", "label", "problem"),
)


def result_dict(result: Result, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a frame's result as JSON can hold it; what there is none of is null.

    Times in seconds and milliseconds, boxes in pixels of the frame, right and bottom beyond the last; `labels` are
    names of classes, without which a box has its class's number.
    """
    found = result.detections
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    boxes = [
        {
            **{name: _short(value) for name, value in zip(_CORNERS, corners, strict=True)},
            "score": round(score, 4),
            "label": label if labels is None else labels[label],
        }
        for corners, score, label in rows
    ]
    return {
        "index": result.frame.index,
        "time": round(result.frame.time, 6),
        "kind": result.kind,
        "key_index": result.key_index,
        "staleness": result.staleness,
        "motion": None if result.motion is None else round(result.motion, 4),
        "latency_ms": round(1e3 * result.latency, 3),
        "boxes": boxes,
        "problem": result.problem or None,
    }


class _Lines:
    """A file that grows by whole lines; enter it around the stream."""

    def __init__(self, path: str | PathLike[str], labels: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        self.labels = labels
        try:
            # Unbuffered: a frame's lines are one write, so that an interrupt falls between frames, not inside a line.
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise VideoError(f"{self.path}: cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; it is whole after every line as well."""
        self._file.close()

    def _write(self, text: str) -> None:
        rest = memoryview(text.encode())
        try:
            while rest:  # a raw write may take less than all, into a pipe or onto a full disk
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise VideoError(f"{self.path}: cannot be written: {error.strerror}") from error


class JsonLines(_Lines):
    """JSON lines: of each frame one line, as `result_dict` has it. Raises `VideoError` where it cannot be written."""

    def write(self, result: Result) -> None:
        """Add the line of a frame."""
        try:
            line = json.dumps(result_dict(result, self.labels), allow_nan=False, separators=(",", ":"))
        except ValueError as error:
            raise VideoError(
                f"{self.path}: frame {result.frame.index} has a box, score or motion that is not finite, which JSON "
                "cannot hold; the detector or the measure of motion has to be mended"
            ) from error
        self._write(line + "\n")


class CsvLines(_Lines):
    """CSV: a head, then of each frame a line for each box; of a frame without boxes one line, their columns empty.

    Columns are `CSV_COLUMNS`. Raises `VideoError` where it cannot be written.
    """

    def __init__(self, path: str | PathLike[str], labels: Sequence[str] | None = None) -> None:
        super().__init__(path, labels)
        self._write(",".join(CSV_COLUMNS) + "\n")

    def write(self, result: Result) -> None:
        """Add the lines of a frame."""
        values = result_dict(result, self.labels)
        text = io.StringIO()
        rows = csv.DictWriter(text, CSV_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        rows.writerows({**values, **box} for box in values["boxes"] or [{}])
        self._write(text.getvalue())


def box_lines(path: str | PathLike[str], labels: Sequence[str] | None = None) -> JsonLines | CsvLines:
    """Return a writer of the kind that the ending of `path` says, .jsonl or .csv; raises `VideoError` for others."""
    kinds = {".jsonl": JsonLines, ".csv": CsvLines}
    if Path(path).suffix not in kinds:
        raise VideoError(f"{path}: expected a name that ends in {' or '.join(kinds)}")
    return kinds[Path(path).suffix](path, labels)


def _short(value: float) -> float:
    return round(value, 2)  # hundredths of a pixel
