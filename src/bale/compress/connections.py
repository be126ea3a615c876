"""Which connections of a weight cross the chip, and what does it cost to keep them? Groups of weights.

Our reconstruction of CANNON's communication cost. An activation is sent once to each tile that needs it, and a tile
sends one partial sum of each output: so what is kept or dropped together are the weights of

    an arrival  (input channel a, tile t): without them a is not sent to t
    a sum       (output o, tile t): without them t sends no partial sum of o

and C, in bit x hops, is the sum over arrivals and sums that have a kept weight: numbers x bits x hops.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bale.compress.traffic import WeightTraffic

Numbers = np.ndarray


class Connections:
    """One weight's groups, and which of its numbers are kept.

    Groups are numbered: arrivals first, input by input, then sums, output by output.

    arrivals   how many groups are arrivals
    own        float64 [groups]: what C has of a group while any of its weights is kept
    distance   float64 [groups]: hops, of an arrival weighted by what is sent
    allowed    bool [weights]: those that were kept before all groups were formed
    dropped    bool [groups]: the groups that are left out
    kept       bool [weights]: allowed, and in no group that is left out
    """

    def __init__(self, traffic: WeightTraffic, hops: Tensor, allowed: Numbers) -> None:
        sources, sent = traffic.sources.cpu().numpy(), traffic.sent.cpu().double().numpy()
        tile, links = traffic.tile.cpu().numpy(), hops.cpu().double().numpy()
        (outputs, rows), inputs = tile.shape, sources.shape[1]
        tiles, local = np.unique(tile, return_inverse=True)
        many = len(tiles)
        # Hops from each channel's source to each tile of the weight; from outside of the chip none.
        ways = np.where(sources[..., None] >= 0, links[sources][..., tiles], 0.0)  # [edges, inputs, tiles]
        arrival = np.einsum("e,eat->at", sent, ways)
        to_sum = links[tiles][:, traffic.accumulator.cpu().numpy()].T  # [outputs, tiles]
        self.arrivals = inputs * many
        own = (arrival * traffic.input_bits, to_sum * (traffic.positions * traffic.sum_bits))
        self.own = np.concatenate([each.ravel() for each in own])
        self.distance = np.concatenate([(arrival / max(sent.sum(), 1e-30)).ravel(), to_sum.ravel()])
        channel = np.arange(rows) // (rows // inputs)
        local = local.reshape(tile.shape)
        self.arrival_of = (channel[None, :] * many + local).ravel()  # [weights]
        self.sum_of = (self.arrivals + np.arange(outputs)[:, None] * many + local).ravel()
        self.output_of = np.repeat(np.arange(outputs), rows)
        self._order, self._ends = self._members()
        self.allowed = allowed.ravel()
        self.dropped = np.zeros(len(self.own), bool)
        self.recount()

    def _members(self) -> tuple[Numbers, Numbers]:
        """The weights of all groups, one group after the other, and where each group begins and ends."""
        groups = np.concatenate([self.arrival_of, self.sum_of])
        ends = np.concatenate([[0], np.bincount(groups, minlength=len(self.own)).cumsum()])
        return np.argsort(groups, kind="stable") % len(self.arrival_of), ends

    def recount(self) -> None:
        """Count again what is kept, after `dropped` or `allowed` was changed."""
        self.kept = self.allowed & ~self.dropped[self.arrival_of] & ~self.dropped[self.sum_of]
        self.counts = self.total(self.kept)  # of kept weights, [groups]
        self.of_output = np.bincount(self.output_of[self.kept], minlength=self.output_of[-1] + 1)

    @property
    def cost(self) -> float:
        """C, in bit x hops for one sample."""
        return float(self.own[self.counts > 0].sum())

    def total(self, numbers: Numbers) -> Numbers:
        """Sums over groups [groups] of numbers that the weights have."""
        given = numbers.ravel().astype(np.float64)
        sums = [np.bincount(of, given, minlength=len(self.own)) for of in (self.arrival_of, self.sum_of)]
        return sums[0] + sums[1]

    def shares(self) -> Numbers:
        """What C has of each group [groups]: its own, and its weights' share in what the groups across them cost.

        A sum across many arrivals is saved only when all of them are gone: to each goes its part of that.
        """
        per_weight = np.divide(self.own, self.counts, out=np.zeros_like(self.own), where=self.counts > 0)
        arrivals = np.bincount(self.arrival_of, per_weight[self.sum_of] * self.kept, minlength=len(self.own))
        sums = np.bincount(self.sum_of, per_weight[self.arrival_of] * self.kept, minlength=len(self.own))
        return np.where(self.counts > 0, self.own, 0.0) + arrivals + sums

    def members(self, group: int) -> Numbers:
        """The kept weights of a group."""
        all_of_it = self._order[self._ends[group] : self._ends[group + 1]]
        return all_of_it[self.kept[all_of_it]]

    def drop(self, group: int) -> float | None:
        """Leave a group out, and return what C falls by; None, and nothing done, where an output would have nothing."""
        members = self.members(group)
        outputs, many = np.unique(self.output_of[members], return_counts=True)
        if (self.of_output[outputs] == many).any():
            return None
        self.of_output[outputs] -= many
        self.dropped[group] = True
        self.kept[members] = False
        saved = 0.0
        for of in (self.arrival_of, self.sum_of):
            groups, gone = np.unique(of[members], return_counts=True)
            self.counts[groups] -= gone
            saved += float(self.own[groups[self.counts[groups] == 0]].sum())
        return saved

    def returning(self) -> Numbers:
        """bool [groups]: those left out that would have weights if they came back."""
        across = np.where(self.dropped[self.arrival_of], self.sum_of, self.arrival_of)
        one = self.dropped[self.arrival_of] ^ self.dropped[self.sum_of]  # else the other group holds them back, too
        gone = np.where(across == self.sum_of, self.arrival_of, self.sum_of)
        back = np.bincount(gone[self.allowed & one], minlength=len(self.own))
        return self.dropped & (back > 0)
