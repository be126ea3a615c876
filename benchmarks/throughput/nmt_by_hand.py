"""The encoder-decoder by hand: torch's nn.LSTM over packed sources, and another over packed targets from its states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bale.models import EncoderDecoder
from benchmarks.race.workload import Way
from benchmarks.train_step.bilstm.by_hand import Pack, lstm_of, pack

Words = tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Sources and targets position after position, the longest first.

    order   [pairs]: where the sources' states are for the targets, whose order is another
    """

    source: Pack
    target: Pack
    order: Tensor


def plan(samples: list[tuple[Words, Words]]) -> Plan:
    sources, targets = [source for source, _ in samples], [target[:-1] for _, target in samples]
    by_source, by_target = (np.argsort([-len(words) for words in side], kind="stable") for side in (sources, targets))
    place = np.empty_like(by_source)
    place[by_source] = np.arange(len(place))
    return Plan(pack(sources), pack(targets), torch.from_numpy(place[by_target]))


def packed(model: EncoderDecoder) -> Way:
    encoder, decoder = lstm_of(model.encoder), lstm_of(model.decoder)
    return Way(plan, lambda plan: logits(model, encoder, decoder, plan))


def logits(model: EncoderDecoder, encoder: nn.LSTM, decoder: nn.LSTM, plan: Plan) -> Tensor:
    source, target = plan.source, plan.target
    _, (h, c) = encoder(PackedSequence(model.source_embed(source.words), source.sizes))
    last = h.index_select(1, plan.order), c.index_select(1, plan.order)  # [layers, pairs, hidden]
    states, _ = decoder(PackedSequence(model.target_embed(target.words), target.sizes), last)
    return model.head(states.data.index_select(0, target.rows))
