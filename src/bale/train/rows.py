"""Which row of logits belongs to which label, where a sample has one of each and where it has many?"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bale.errors import BaleError

Label = int | tuple[int, ...]
"""The index of a sample's class, or one for each row of the model's output: one tag for each word, say."""

Sample = tuple[Any, Label]
"""One sample, as the model takes it, and its label."""


def labels_of(samples: Iterable[Sample]) -> Iterator[int]:
    """Yield the label of every row of `samples`."""
    for _, label in samples:
        if isinstance(label, int):
            yield label
        else:
            yield from label


def rows_of(outputs: Sequence[Tensor], labels: Sequence[Label]) -> tuple[Tensor, Tensor]:
    """Return the logits of all rows [rows, classes] and their labels [rows].

    A sample's output is [classes] where its label is an int, else [labels, classes]. Raises BaleError where it is not.
    """
    # [labels, classes] each, checked here: two samples' wrong numbers of rows may have the right sum.
    rows: list[Tensor] = []
    targets: list[int] = []
    for place, (output, label) in enumerate(zip(outputs, labels, strict=True)):
        of_sample = (label,) if isinstance(label, int) else label
        logits = output.unsqueeze(0) if isinstance(label, int) else output
        if logits.dim() != 2 or len(logits) != len(of_sample):
            raise BaleError(
                f"sample {place} of a mini-batch: the model gave {list(output.shape)} for"
                f" {'one label' if isinstance(label, int) else f'{len(label)} labels'}; expected"
                f" {'[classes]' if isinstance(label, int) else f'[{len(label)}, classes]'}"
            )
        rows.append(logits)
        targets += of_sample
    logits = torch.cat(rows)
    return logits, torch.tensor(targets, device=logits.device)
