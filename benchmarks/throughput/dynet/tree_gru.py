"""The TreeGRU in DyNet."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.race.dynet_model import start
from benchmarks.throughput.dynet.trees import TreePeer
from benchmarks.train_step.ast.trees import Node

GATES = {"leaf.gates.weight": 2, "leaf.gates.bias": 2, "inner.gates.weight": 2, "inner.gates.bias": 2}


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> TreePeer:
    dy = start(options["autobatch"])
    affine, logistic, tanh, cmult, concatenate = dy.affine_transform, dy.logistic, dy.tanh, dy.cmult, dy.concatenate

    def encode(node: Node, vectors: list[Any]) -> Any:
        if node.children:
            left, right = (encode(child, vectors) for child in node.children)
            both = concatenate([left, right])
            r, z = (logistic(affine([b, weight, both])) for weight, b in inner)
            u = tanh(affine([candidate_bias, candidate, concatenate([cmult(r, left), cmult(r, right)])]))
            h = u + cmult(z, (left + right) * 0.5 - u)  # z kept + (1 - z) u
        else:
            x = words[node.kind]
            z, u = (affine([b, weight, x]) for weight, b in leaf)
            h = cmult(logistic(-z), tanh(u))  # (1 - z) u
        vectors.append(h)
        return h

    peer = TreePeer(
        dy, samples, weights, lookups={"leaf.embed.weight"}, gates=GATES, encode=encode, training=options["training"]
    )
    words, leaf, inner = peer.parameters["leaf.embed.weight"], peer.layer("leaf.gates"), peer.layer("inner.gates")
    candidate, candidate_bias = peer.layer("inner.candidate")
    return peer
