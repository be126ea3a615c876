"""The TreeLSTM in DyNet, and the one whose inner nodes have two types."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.race.dynet_model import start
from benchmarks.throughput.dynet.trees import TreePeer
from benchmarks.train_step.ast.trees import Node


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> TreePeer:
    return make_typed(samples, weights, options, ["inner.gates"])


def make_typed(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], options: dict[str, Any], layers: list[str]
) -> TreePeer:
    """`layers`: the gates of an inner node by its kind."""
    dy = start(options["autobatch"])
    affine, logistic, tanh, cmult = dy.affine_transform, dy.logistic, dy.tanh, dy.cmult

    def encode(node: Node, vectors: list[Any]) -> tuple[Any, Any]:
        if node.children:
            (h_left, c_left), (h_right, c_right) = (encode(child, vectors) for child in node.children)
            h = dy.concatenate([h_left, h_right])
            i, o, u, f_left, f_right = (affine([b, weight, h]) for weight, b in inner[node.kind])
            kept = cmult(logistic(f_left), c_left) + cmult(logistic(f_right), c_right)
            c = cmult(logistic(i), tanh(u)) + kept
        else:
            x = words[node.kind]
            i, o, u = (affine([b, weight, x]) for weight, b in leaf)
            c = cmult(logistic(i), tanh(u))
        h = cmult(logistic(o), tanh(c))
        vectors.append(h)
        return h, c

    gates = {f"{layer}.{part}": 5 for layer in layers for part in ("weight", "bias")}
    gates |= {"leaf.gates.weight": 3, "leaf.gates.bias": 3}
    peer = TreePeer(
        dy, samples, weights, lookups={"leaf.embed.weight"}, gates=gates, encode=encode, training=options["training"]
    )
    words, leaf = peer.parameters["leaf.embed.weight"], peer.layer("leaf.gates")
    inner = [peer.layer(layer) for layer in layers]
    return peer
