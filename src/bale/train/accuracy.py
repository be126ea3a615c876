"""How often is a model right, and how often is the cheapest guess?"""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from bale.train.rows import Sample, labels_of, rows_of


def accuracy(batched: nn.Module, samples: Sequence[Sample], batch_size: int) -> float | None:
    """Return the share of rows whose label gets the largest logit, in eval mode; None where there are no samples.

    Leaves `batched` in the mode in which it was.
    """
    return _share(labels == logits.argmax(-1) for logits, labels in _answers(batched, samples, batch_size))


def accuracy_and_named(
    batched: nn.Module, samples: Sequence[Sample], batch_size: int, rest: int | None
) -> tuple[float | None, float | None]:
    """Return `accuracy`, and the share of right answers on the rows that are not of the class `rest`.

    The second answer is the largest logit of the other classes: whoever is asked knows that it is not `rest`, as the
    majority that it is compared with does. It is None where `rest` is, or where every row is of that class.
    """
    answers = _answers(batched, samples, batch_size)
    right = _share(labels == logits.argmax(-1) for logits, labels in answers)
    if rest is None:
        return right, None
    column = torch.tensor([rest])
    named = ((logits.index_fill(-1, column, -torch.inf), labels) for logits, labels in answers)
    return right, _share((labels == logits.argmax(-1))[labels != rest] for logits, labels in named)


def majority_accuracy(train: Sequence[Sample], samples: Sequence[Sample], rest: int | None = None) -> float | None:
    """Return the accuracy on `samples` of always answering the commonest class of `train`; None where one is empty.

    Rows of the class `rest` are left out of both.
    """
    counts = Counter(label for label in labels_of(train) if label != rest)
    labels = [label for label in labels_of(samples) if label != rest]
    if not counts or not labels:
        return None
    ((commonest, _),) = counts.most_common(1)
    return labels.count(commonest) / len(labels)


def _answers(batched: nn.Module, samples: Sequence[Sample], batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Return logits [rows, classes] and labels [rows] of one chunk after another."""
    answers = []
    was_training = batched.training
    batched.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(samples), batch_size):
                chunk = samples[start : start + batch_size]
                logits, labels = rows_of(batched([sample for sample, _ in chunk]), [label for _, label in chunk])
                answers.append((logits.cpu(), labels.cpu()))
    finally:
        batched.train(was_training)
    return answers


def _share(parts: Iterable[Tensor]) -> float | None:
    """Return the share of True in bool tensors [rows]; None where there are no rows."""
    counts = [(int(part.sum()), part.numel()) for part in parts]
    total = sum(rows for _, rows in counts)
    return sum(right for right, _ in counts) / total if total else None
