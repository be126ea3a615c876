"""The mini-batch by hand, in three ways: torch's nn.LSTM over packed or padded sentences, and a loop over positions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bale.models import BiLSTMTagger
from benchmarks.race.workload import Way
from benchmarks.train_step.bilstm.sentences import Sentence

HALVES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def ways(model: BiLSTMTagger) -> dict[str, Way]:
    """Packed is the plainest; where this was written padded was the fastest for small mini-batches, loop for others."""
    return {
        "packed": Way(pack, Packed(model)),
        "padded": Way(pad, Padded(model)),
        "loop": Way(pack, Loop(model)),
    }


@dataclass(frozen=True)
class Pack:
    """Words by position and, within a position, by the length of their sentence: position after position.

    words    [all words]
    sizes    how many sentences have a word at each position
    rows     [all words]: where the words are in this order, sentence after sentence
    mirrors  [all words] in this order: where the word is that has this word's position in the reversed sentence
    """

    words: Tensor
    sizes: Tensor
    rows: Tensor
    mirrors: Tensor


def pack(sentences: list[Sentence]) -> Pack:
    lengths, sentence, position = _places(sentences)
    order = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    sizes = (np.arange(lengths.max())[:, None] < lengths).sum(1)
    first = sizes.cumsum() - sizes  # the row of each position's longest sentence
    rows = first[position] + rank[sentence]
    words, mirrors = np.empty_like(rows), np.empty_like(rows)
    words[rows] = _words(sentences)
    mirrors[rows] = first[lengths[sentence] - 1 - position] + rank[sentence]
    return Pack(*map(torch.from_numpy, (words, sizes, rows, mirrors)))


@dataclass(frozen=True)
class Pad:
    """A rectangle of words, with word 0 after a sentence's end.

    words    [positions, sentences]
    rows     [all words]: where the words are in the flat rectangle, sentence after sentence
    mirrors  [positions * sentences]: where the word is that has this one's position in the reversed sentence
    """

    words: Tensor
    rows: Tensor
    mirrors: Tensor


def pad(sentences: list[Sentence]) -> Pad:
    lengths, sentence, position = _places(sentences)
    count, positions = len(sentences), np.arange(lengths.max())[:, None]
    words = np.zeros((len(positions), count), np.int64)
    words[position, sentence] = _words(sentences)
    mirrored = np.where(positions < lengths, lengths - 1 - positions, positions)
    mirrors = mirrored * count + np.arange(count)
    return Pad(*map(torch.from_numpy, (words, position * count + sentence, mirrors.reshape(-1))))


def _places(sentences: list[Sentence]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths [sentences]; of every word its sentence and its position [all words]."""
    lengths = np.array([len(words) for words in sentences])
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(sentence)) - np.repeat(lengths.cumsum() - lengths, lengths)
    return lengths, sentence, position


def _words(sentences: list[Sentence]) -> list[int]:
    return [word for words in sentences for word in words]


class Packed:
    """One bidirectional nn.LSTM over the very parameters of the model's cells."""

    def __init__(self, model: BiLSTMTagger):
        self.model, self.lstm = model, lstm_of(model.forwards, model.backwards)

    def __call__(self, plan: Pack) -> Tensor:
        packed = PackedSequence(self.model.embed(plan.words), plan.sizes)
        states = self.lstm(packed)[0].data  # [all words, 2 hidden]
        return self.model.head(states).index_select(0, plan.rows)


class Padded:
    """An nn.LSTM for each direction, the second over reversed sentences: without packing it runs in oneDNN."""

    def __init__(self, model: BiLSTMTagger):
        self.model = model
        cells = zip(model.forwards, model.backwards, strict=True)
        self.layers = [(lstm_of([forwards]), lstm_of([backwards])) for forwards, backwards in cells]

    def __call__(self, plan: Pad) -> Tensor:
        def mirror(row: Tensor) -> Tensor:
            return row.flatten(0, 1).index_select(0, plan.mirrors).view_as(row)

        row = self.model.embed(plan.words)  # [positions, sentences, width]
        for forwards, backwards in self.layers:
            row = torch.cat([forwards(row)[0], mirror(backwards(mirror(row))[0])], -1)
        return self.model.head(row.flatten(0, 1).index_select(0, plan.rows))


class Loop:
    """The inputs' products once over all words, then position after position, both directions in one product."""

    def __init__(self, model: BiLSTMTagger):
        self.model = model

    def __call__(self, plan: Pack) -> Tensor:
        sizes = plan.sizes.tolist()
        row = self.model.embed(plan.words)  # [all words, width]
        for forwards, backwards in zip(self.model.forwards, self.model.backwards, strict=True):
            from_left, from_right = self._inputs(forwards, row), self._inputs(backwards, row)
            gates = torch.stack([from_left, from_right.index_select(0, plan.mirrors)])  # [2, all words, 4 hidden]
            weight = torch.stack([forwards.weight_hh.t(), backwards.weight_hh.t()])
            h_left, h_right = self._run(gates.split(sizes, 1), weight).unbind(0)
            row = torch.cat([h_left, h_right.index_select(0, plan.mirrors)], -1)
        return self.model.head(row).index_select(0, plan.rows)

    @staticmethod
    def _inputs(cell: nn.Module, row: Tensor) -> Tensor:
        return torch.addmm(cell.bias_ih + cell.bias_hh, row, cell.weight_ih.t())

    @staticmethod
    def _run(gates: tuple[Tensor, ...], weight: Tensor) -> Tensor:
        """Gates of each position [2, sentences, 4 hidden] -> the states [2, all words, hidden]."""
        states: list[Tensor] = []
        i, _, g, o = gates[0].chunk(4, -1)
        c = i.sigmoid() * g.tanh()
        states.append(o.sigmoid() * c.tanh())
        for gate in gates[1:]:
            count = gate.shape[1]  # sentences that go on: the longest come first
            i, f, g, o = torch.baddbmm(gate, states[-1][:, :count], weight).chunk(4, -1)
            c = f.sigmoid() * c[:, :count] + i.sigmoid() * g.tanh()
            states.append(o.sigmoid() * c.tanh())
        return torch.cat(states, 1)


def lstm_of(forwards: Iterable[nn.Module], backwards: Iterable[nn.Module] = ()) -> nn.LSTM:
    """An nn.LSTM over the very parameters of LSTMCells, one a layer; with cells of the other direction it has both."""
    sides = [list(forwards), list(backwards)]
    first = sides[0][0]
    width, hidden = first.weight_ih.shape[1], first.weight_hh.shape[1]
    lstm = nn.LSTM(width, hidden, num_layers=len(sides[0]), bidirectional=bool(sides[1]))
    for side, suffix in zip(sides, ("", "_reverse"), strict=True):
        for layer, cell in enumerate(side):
            for half in HALVES:
                setattr(lstm, f"{half}_l{layer}{suffix}", getattr(cell, half))
    return lstm
