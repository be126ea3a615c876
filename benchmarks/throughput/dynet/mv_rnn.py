"""The MV-RNN in DyNet."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.race.dynet_model import start
from benchmarks.throughput.dynet.trees import TreePeer
from benchmarks.train_step.ast.trees import Node

MATRICES = "word.matrices.weight"


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> MVPeer:
    dy = start(options["autobatch"])
    hidden = weights["word.vectors.weight"].shape[1]

    def encode(node: Node, vectors: list[Any]) -> tuple[Any, Any]:
        if node.children:
            (a, a_matrix), (b, b_matrix) = (encode(child, vectors) for child in node.children)
            p = dy.tanh(dy.affine_transform([bias, weight, dy.concatenate([b_matrix * a, a_matrix * b])]))
            p_matrix = mix * dy.concatenate([a_matrix, b_matrix])
        else:
            p, p_matrix = words[node.kind], matrices[node.kind]
        vectors.append(p)
        return p, p_matrix

    # DyNet takes the matrices of a table to be written by columns, when it is given them, but not when it gives them.
    by_columns = weights[MATRICES].reshape(-1, hidden, hidden).swapaxes(1, 2)
    peer = MVPeer(
        dy,
        samples,
        {**weights, MATRICES: by_columns},
        lookups={"word.vectors.weight", MATRICES},
        gates={},
        encode=encode,
        training=options["training"],
    )
    words, matrices = peer.parameters["word.vectors.weight"], peer.parameters[MATRICES]
    (weight, bias), mix = peer.layer("phrase.vector"), peer.parameters["phrase.matrix.weight"]
    return peer


class MVPeer(TreePeer):
    """Has a word's matrix as one, where the model has it as a row of numbers."""

    def gradients(self) -> dict[str, np.ndarray]:
        found = super().gradients()
        return {**found, MATRICES: found[MATRICES].reshape(len(found[MATRICES]), -1)}
