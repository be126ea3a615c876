"""What is at the end of a search? The front's designs as files, and their accuracy on images of the test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bale.codesign.search.design import Problem, mapping_options, room_options, run_exactly
from bale.codesign.search.front import Candidate, Nearest, front, meets, nearest
from bale.data import Images
from bale.errors import BaleError
from bale.hardware import dump_chip
from bale.train import image_accuracy


@dataclass(frozen=True)
class Finished:
    """A design of the front, its files, and its accuracy on its chip, of images of the test.

    mapping    how it lies on the chip, as `simulate` takes it: `adc_bits`, `circulant`, and `copy` or `crossbars`
    """

    candidate: Candidate
    meets: bool
    test_accuracy: float
    packed: Path
    chip: Path
    mapping: dict[str, Any]


@dataclass(frozen=True)
class Front:
    """What a search has found: its front, or what is nearest to the budgets; and the dense network, to compare with.

    dense_accuracy  in floating point, of the images held out
    dense_test      of the images of the test, so many as `samples`
    """

    candidates: tuple[Candidate, ...]
    designs: tuple[Finished, ...]
    nearest: Nearest | None
    dense_accuracy: float
    dense_test: float
    validation: int
    samples: int


def finish(
    problem: Problem,
    candidates: Sequence[Candidate],
    test: Images,
    folder: Path,
    on_design: Callable[[int, int], None] | None = None,
) -> Front:
    """Write the front's designs to `folder`, `design-NUMBER.bale` and `.yaml`, and test them on their chips.

    `on_design` is told how many of how many are done. Raises BaleError where a file cannot be written.
    """
    found = front(candidates, problem.budgets)
    designs = []
    for place, candidate in enumerate(found, 1):
        designs.append(_finished(problem, candidate, test, folder))
        if on_design is not None:
            on_design(place, len(found))
    return Front(
        tuple(candidates),
        tuple(designs),
        nearest(candidates, problem.budgets),
        problem.accuracy,
        image_accuracy(problem.model, test),
        len(problem.validation),
        len(test),
    )


def _finished(problem: Problem, candidate: Candidate, test: Images, folder: Path) -> Finished:
    design = candidate.design
    model = problem.trained(design.methods)
    on_chip = problem.on_chip(design, model)
    run = run_exactly(on_chip, model, test)
    assert run.accuracy is not None  # there are labels
    packed, chip = folder / f"design-{candidate.number}.bale", folder / f"design-{candidate.number}.yaml"
    try:
        shutil.copyfile(problem.packed(design.methods), packed)
        chip.write_text(dump_chip(replace(on_chip.chip, name=f"design-{candidate.number}")), encoding="utf-8")
    except OSError as error:
        path = error.filename2 or error.filename or folder  # of a copy the second is the one that is written
        raise BaleError(f"{path}: cannot be written: {error.strerror or error}") from error
    options = mapping_options(design) | room_options(design, on_chip)
    return Finished(candidate, meets(candidate, problem.budgets), run.accuracy, packed, chip, options)
