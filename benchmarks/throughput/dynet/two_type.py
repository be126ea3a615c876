"""The TreeLSTM whose inner nodes have two types in DyNet."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.throughput.dynet.tree_lstm import make_typed
from benchmarks.throughput.dynet.trees import TreePeer


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> TreePeer:
    return make_typed(samples, weights, options, ["inner.0.gates", "inner.1.gates"])
