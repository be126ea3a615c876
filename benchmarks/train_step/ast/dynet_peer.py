"""The Child-Sum TreeLSTM in DyNet: one tree after another; DyNet's autobatching does the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.race.dynet_model import DynetPeer, start
from benchmarks.train_step.ast.trees import Node, from_arrays

GATES = {"node.gates.x": 3, "node.gates.h": 3, "node.gates.bias": 3}
LAYERS = ("node.gates", "forget.gate")


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> DynetPeer:
    dy = start(options["autobatch"])
    affine, logistic, tanh, cmult = dy.affine_transform, dy.logistic, dy.tanh, dy.cmult

    def encode(node: Node) -> tuple[Any, Any]:
        x = kinds[node.kind]
        if not node.children:
            i, o, u = (affine([b, of_x, x]) for of_x, _, b in gates)
            c = cmult(logistic(i), tanh(u))
            return cmult(logistic(o), tanh(c)), c
        children = [encode(child) for child in node.children]
        h_sum = dy.esum([h for h, _ in children])
        forget_x = affine([forget_bias, forget_of_x, x])  # once a node, not once a child
        kept = [cmult(logistic(forget_of_h * h + forget_x), c) for h, c in children]
        i, o, u = (affine([b, of_x, x, of_h, h_sum]) for of_x, of_h, b in gates)
        c = dy.esum([cmult(logistic(i), tanh(u)), *kept])
        return cmult(logistic(o), tanh(c)), c

    def losses(sample: tuple[Node, int]) -> list[Any]:
        tree, label = sample
        return [dy.pickneglogsoftmax(affine([bias, head, encode(tree)[0]]), label)]

    trees = from_arrays(samples["kinds"], samples["arities"])
    peer = ChildSumPeer(
        dy,
        halved(weights),
        lookups={"embed.weight"},
        gates=GATES,
        samples=list(zip(trees, samples["labels"].tolist(), strict=True)),
        losses=losses,
        training=options["training"],
    )
    kinds, (head, bias) = peer.parameters["embed.weight"], peer.layer("head")
    gates = list(zip(*(peer.parameters[f"node.gates.{part}"] for part in ("x", "h", "bias")), strict=True))
    forget_of_x, forget_of_h, forget_bias = (peer.parameters[f"forget.gate.{part}"] for part in ("x", "h", "bias"))
    return peer


class ChildSumPeer(DynetPeer):
    """Has weights of a node's kind and of its children's states where the model has them side by side."""

    def gradients(self) -> dict[str, np.ndarray]:
        found = super().gradients()
        for layer in LAYERS:
            found[f"{layer}.weight"] = np.concatenate([found.pop(f"{layer}.x"), found.pop(f"{layer}.h")], axis=1)
        return found


def halved(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    width = weights["embed.weight"].shape[1]
    halves = dict(weights)
    for layer in LAYERS:
        weight = halves.pop(f"{layer}.weight")
        halves |= {f"{layer}.x": weight[:, :width].copy(), f"{layer}.h": weight[:, width:].copy()}
    return halves
