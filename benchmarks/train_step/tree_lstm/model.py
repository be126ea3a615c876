"""The model, for one tree (Tai, Socher, Manning, 2015, section 3.2, with words at the leaves only)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.train_step.tree_lstm.trees import CLASSES, VOCABULARY, Tree

WORDS = [torch.tensor(word) for word in range(VOCABULARY)]  # made once, as a data set would


class Leaf(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.embed, self.gates = nn.Embedding(VOCABULARY, hidden), nn.Linear(hidden, 3 * hidden)

    def forward(self, word: Tensor) -> tuple[Tensor, Tensor]:
        i, o, u = self.gates(self.embed(word)).chunk(3, -1)
        c = i.sigmoid() * u.tanh()
        return o.sigmoid() * c.tanh(), c


class Inner(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.gates = nn.Linear(2 * hidden, 5 * hidden)

    def forward(self, h_left: Tensor, c_left: Tensor, h_right: Tensor, c_right: Tensor) -> tuple[Tensor, Tensor]:
        i, o, f_left, f_right, u = self.gates(torch.cat([h_left, h_right], -1)).chunk(5, -1)
        c = i.sigmoid() * u.tanh() + f_left.sigmoid() * c_left + f_right.sigmoid() * c_right
        return o.sigmoid() * c.tanh(), c


class TreeLSTM(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.leaf, self.inner, self.head = Leaf(hidden), Inner(hidden), nn.Linear(hidden, CLASSES)

    def encode(self, tree: Tree) -> tuple[Tensor, Tensor]:
        if isinstance(tree, int):
            return self.leaf(WORDS[tree])
        return self.inner(*self.encode(tree[0]), *self.encode(tree[1]))

    def forward(self, tree: Tree) -> Tensor:
        return self.head(self.encode(tree)[0])
