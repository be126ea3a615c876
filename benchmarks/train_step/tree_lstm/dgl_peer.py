"""The TreeLSTM in DGL: trees are graphs, batched into one; messages go up, level after level from the leaves.

As in DGL's own example of a TreeLSTM, with two differences that make it faster: the leaves are computed before, all at
once, and a level's nodes are finished where their messages are reduced. The graph of each tree is made once, as
DGL's data sets do; batching the graphs belongs to the step.
"""

from __future__ import annotations

from typing import Any

import dgl
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.race.contestant import StopWatch
from benchmarks.train_step.torch_peer import TorchPeer, load
from benchmarks.train_step.tree_lstm.model import TreeLSTM
from benchmarks.train_step.tree_lstm.trees import Tree, from_array

INNER = -1  # in the place of a word


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> TorchPeer:
    torch.set_num_threads(threads)
    model = TreeLSTM(weights["leaf.embed.weight"].shape[1])
    load(model, weights)
    graphs = [graph_of(tree) for tree in from_array(samples["nodes"])]
    labels = torch.from_numpy(samples["labels"])

    def loss(watch: StopWatch) -> Tensor:
        graph = dgl.batch(graphs)
        levels = dgl.topological_nodes_generator(graph)
        roots = graph.batch_num_nodes().cumsum(0) - 1  # the last node of each graph
        watch.lap("build")
        return F.cross_entropy(logits(model, graph, levels, roots), labels, reduction="sum")

    return TorchPeer("dgl", model, loss)


def graph_of(tree: Tree) -> dgl.DGLGraph:
    """Edges from children to parents, a left child's before a right one's; the root is the last node."""
    words: list[int] = []
    sources: list[int] = []
    targets: list[int] = []

    def visit(tree: Tree) -> int:
        children = [] if isinstance(tree, int) else [visit(child) for child in tree]
        node = len(words)
        words.append(tree if isinstance(tree, int) else INNER)
        sources.extend(children)
        targets.extend([node] * len(children))
        return node

    visit(tree)
    graph = dgl.graph((torch.tensor(sources), torch.tensor(targets)), num_nodes=len(words))
    graph.ndata["word"] = torch.tensor(words)
    return graph


def logits(model: TreeLSTM, graph: dgl.DGLGraph, levels: Any, roots: Tensor) -> Tensor:
    def states_of_children(edges: Any) -> dict[str, Tensor]:
        return {"h": edges.src["h"], "c": edges.src["c"]}

    def states(nodes: Any) -> dict[str, Tensor]:
        h, c = nodes.mailbox["h"], nodes.mailbox["c"]  # [nodes, 2, hidden]
        h, c = model.inner(h[:, 0], c[:, 0], h[:, 1], c[:, 1])
        return {"h": h, "c": c}

    leaves, *inner = levels
    h, c = model.leaf(graph.ndata["word"][leaves])
    zeros = h.new_zeros(graph.num_nodes(), h.shape[1])
    graph.ndata["h"], graph.ndata["c"] = zeros.index_copy(0, leaves, h), zeros.index_copy(0, leaves, c)
    dgl.prop_nodes(graph, inner, states_of_children, states, None)
    return model.head(graph.ndata["h"][roots])
