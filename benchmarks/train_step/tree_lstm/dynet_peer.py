"""The TreeLSTM in DyNet: one tree after another, as a user writes it; DyNet's autobatching does the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.race.dynet_model import DynetPeer, start
from benchmarks.train_step.tree_lstm.trees import Tree, from_array

GATES = {"leaf.gates.weight": 3, "leaf.gates.bias": 3, "inner.gates.weight": 5, "inner.gates.bias": 5}


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> DynetPeer:
    dy = start(options["autobatch"])
    affine, logistic, tanh, cmult = dy.affine_transform, dy.logistic, dy.tanh, dy.cmult

    def encode(tree: Tree) -> tuple[Any, Any]:
        if type(tree) is int:
            x = words[tree]
            i, o, u = (affine([b, weight, x]) for weight, b in leaf)
            c = cmult(logistic(i), tanh(u))
        else:
            h_left, c_left = encode(tree[0])
            h_right, c_right = encode(tree[1])
            h = dy.concatenate([h_left, h_right])
            i, o, f_left, f_right, u = (affine([b, weight, h]) for weight, b in inner)
            kept = cmult(logistic(f_left), c_left) + cmult(logistic(f_right), c_right)
            c = cmult(logistic(i), tanh(u)) + kept
        return cmult(logistic(o), tanh(c)), c

    def losses(sample: tuple[Tree, int]) -> list[Any]:
        tree, label = sample
        return [dy.pickneglogsoftmax(affine([bias, head, encode(tree)[0]]), label)]

    peer = DynetPeer(
        dy,
        weights,
        lookups={"leaf.embed.weight"},
        gates=GATES,
        samples=list(zip(from_array(samples["nodes"]), samples["labels"].tolist(), strict=True)),
        losses=losses,
        training=options["training"],
    )
    words, (head, bias) = peer.parameters["leaf.embed.weight"], peer.layer("head")
    leaf, inner = peer.layer("leaf.gates"), peer.layer("inner.gates")
    return peer
