"""How often is a model right, and how often is the cheapest guess?"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn

from bale.train.step import Sample, classification_loss


def accuracy(batched: nn.Module, samples: Sequence[Sample], batch_size: int) -> float | None:
    """Return the share of samples whose class gets the largest logit, in eval mode; None where there are no samples.

    Leaves `batched` in the mode in which it was.
    """
    if not samples:
        return None
    was_training = batched.training
    batched.eval()
    try:
        correct = 0
        with torch.no_grad():
            for start in range(0, len(samples), batch_size):
                chunk = samples[start : start + batch_size]
                correct += classification_loss(batched([tree for tree, _ in chunk]), [label for _, label in chunk])[1]
    finally:
        batched.train(was_training)
    return correct / len(samples)


def majority_accuracy(train: Sequence[Sample], samples: Sequence[Sample]) -> float | None:
    """Return the accuracy on `samples` of always answering the commonest class of `train`; None where one is empty."""
    if not train or not samples:
        return None
    ((commonest, _),) = Counter(label for _, label in train).most_common(1)
    return sum(label == commonest for _, label in samples) / len(samples)
