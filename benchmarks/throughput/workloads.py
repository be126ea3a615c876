"""Which workloads are there?"""

from __future__ import annotations

from functools import lru_cache

import torch

from benchmarks.throughput import chains, graphs, trees
from benchmarks.throughput.task import Task

WORKLOADS = {
    "tree-lstm": trees.tree_lstm,
    "tree-gru": trees.tree_gru,
    "mv-rnn": trees.mv_rnn,
    "two-type": trees.two_type,
    "bilstm": chains.bilstm,
    "char-bilstm": chains.char_bilstm,
    "nmt": chains.nmt,
    "lattice-lstm": graphs.lattice_lstm,
    "lattice-gru": graphs.lattice_gru,
    "dag-lstm": graphs.dag_lstm,
    "grid-lstm": graphs.grid_lstm,
    "stack-lstm": graphs.stack_lstm,
}


@lru_cache(maxsize=1)  # the cells of one workload and width, which come one after another, share its weights
def make(name: str, hidden: int, seed: int) -> Task:
    torch.manual_seed(seed)
    return WORKLOADS[name](hidden)
