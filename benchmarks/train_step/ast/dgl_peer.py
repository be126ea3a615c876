"""The Child-Sum TreeLSTM in DGL: trees are graphs, batched into one; messages go up, level after level from the leaves.

As in DGL's own example of a TreeLSTM, but faster: what reads kinds and leaves only is computed before, all at once, and
messages are summed by DGL's own kernel, not by a function of ours for each number of children. The graph of each tree
is made once, as DGL's data sets do; batching the graphs belongs to the step.
"""

from __future__ import annotations

from typing import Any

import dgl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.race.contestant import StopWatch
from benchmarks.train_step.ast.trees import Node, from_arrays
from benchmarks.train_step.torch_peer import TorchPeer, load


class Weights(nn.Module):
    """The layers of the model, under its names."""

    def __init__(self, kinds: int, classes: int, hidden: int):
        super().__init__()
        self.embed = nn.Embedding(kinds, hidden)
        self.forget = nn.ModuleDict({"gate": nn.Linear(2 * hidden, hidden)})
        self.node = nn.ModuleDict({"gates": nn.Linear(2 * hidden, 3 * hidden)})
        self.head = nn.Linear(hidden, classes)


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> TorchPeer:
    torch.set_num_threads(threads)
    model = Weights(len(weights["embed.weight"]), *weights["head.weight"].shape)
    load(model, weights)
    graphs = [graph_of(tree) for tree in from_arrays(samples["kinds"], samples["arities"])]
    labels = torch.from_numpy(samples["labels"])

    def loss(watch: StopWatch) -> Tensor:
        graph = dgl.batch(graphs)
        levels = dgl.topological_nodes_generator(graph)
        roots = graph.batch_num_nodes().cumsum(0) - 1  # the last node of each graph
        watch.lap("build")
        return F.cross_entropy(logits(model, graph, levels, roots), labels, reduction="sum")

    return TorchPeer("dgl", model, loss)


def graph_of(tree: Node) -> dgl.DGLGraph:
    """Edges from children to parents; the root is the last node."""
    kinds: list[int] = []
    sources: list[int] = []
    targets: list[int] = []

    def visit(tree: Node) -> int:
        children = [visit(child) for child in tree.children]
        node = len(kinds)
        kinds.append(tree.kind)
        sources.extend(children)
        targets.extend([node] * len(children))
        return node

    visit(tree)
    graph = dgl.graph((torch.tensor(sources), torch.tensor(targets)), num_nodes=len(kinds))
    graph.ndata["kind"] = torch.tensor(kinds)
    return graph


def logits(model: Weights, graph: dgl.DGLGraph, levels: Any, roots: Tensor) -> Tensor:
    gates, forget = model.node["gates"], model.forget["gate"]
    width = model.embed.embedding_dim
    forget_h = forget.weight[:, width:].t()

    def kept(edges: Any) -> dict[str, Tensor]:
        h, c = edges.src["h"], edges.src["c"]
        return {"both": torch.cat([h, torch.addmm(edges.dst["forget_x"], h, forget_h).sigmoid() * c], -1)}

    def states(nodes: Any) -> dict[str, Tensor]:
        h_sum, fc_sum = nodes.data["sums"].chunk(2, -1)
        return finish(gates(torch.cat([nodes.data["x"], h_sum], -1)), fc_sum)

    leaves, *inner = levels
    x = model.embed(graph.ndata["kind"])
    of_leaves = finish(F.linear(x[leaves], gates.weight[:, :width], gates.bias), None)
    zeros = torch.zeros_like(x)
    graph.ndata["x"], graph.ndata["forget_x"] = x, F.linear(x, forget.weight[:, :width], forget.bias)
    for name, state in of_leaves.items():
        graph.ndata[name] = zeros.index_copy(0, leaves, state)
    dgl.prop_nodes(graph, inner, kept, dgl.function.sum("both", "sums"), states)
    return model.head(graph.ndata["h"][roots])


def finish(gates: Tensor, kept: Tensor | None) -> dict[str, Tensor]:
    i, o, u = gates.chunk(3, -1)
    c = i.sigmoid() * u.tanh()
    if kept is not None:
        c = c + kept
    return {"h": o.sigmoid() * c.tanh(), "c": c}
