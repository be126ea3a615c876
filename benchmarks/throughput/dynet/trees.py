"""What the workloads on trees have in common in DyNet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.race.dynet_model import DynetPeer
from benchmarks.train_step.ast.trees import Node, from_arrays

Sample = tuple[Node, tuple[int, ...]]


def samples_of(arrays: dict[str, np.ndarray]) -> list[Sample]:
    """Trees, and the labels of their nodes in post-order."""
    trees = from_arrays(arrays["kinds"], arrays["arities"])
    (ends,) = np.nonzero(arrays["arities"] < 0)  # one after each root, and labels have none
    labels = np.split(arrays["labels"], (ends - np.arange(len(ends)))[:-1])
    return [(tree, tuple(found.tolist())) for tree, found in zip(trees, labels, strict=True)]


class TreePeer(DynetPeer):
    """The losses of all nodes; `encode` adds a tree to the graph and the vector of every node to a list, in post-order.

    It returns what a node's parent reads.
    """

    def __init__(
        self,
        dy: Any,
        arrays: dict[str, np.ndarray],
        weights: dict[str, np.ndarray],
        *,
        lookups: set[str],
        gates: dict[str, int],
        encode: Callable[[Node, list[Any]], Any],
        training: bool,
    ):
        super().__init__(
            dy,
            weights,
            lookups=lookups,
            gates=gates,
            samples=samples_of(arrays),
            losses=self.losses_of,
            training=training,
        )
        self.encode, self.head = encode, self.layer("head")

    def losses_of(self, sample: Sample) -> list[Any]:
        tree, labels = sample
        vectors: list[Any] = []
        self.encode(tree, vectors)
        (head, bias), affine, loss = self.head, self.dy.affine_transform, self.dy.pickneglogsoftmax
        return [loss(affine([bias, head, vector]), label) for vector, label in zip(vectors, labels, strict=True)]
