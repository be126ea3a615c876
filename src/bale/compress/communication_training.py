"""How do connections go and come back while a network is trained? In steps, by cost over saliency.

Our reconstruction of CANNON's loop: saliency is sum |w dL/dw| over the steps since the last update. What may stay of C
falls as gradual pruning has it (Zhu and Gupta, 2017): final + (first - final) (1 - progress)^3.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from bale.compress.api import compress_
from bale.compress.code import Code
from bale.compress.communication import Network, mask_of, share_of_squares
from bale.compress.compressor import check_state
from bale.compress.config import Filter
from bale.compress.connections import Connections
from bale.compress.layers import attach_
from bale.compress.rewiring import Groups, bring_back, drop_to, total_cost
from bale.compress.summary import Before, Report, report_of
from bale.compress.weights import weights_of
from bale.errors import CompressionError

if TYPE_CHECKING:
    from bale.compress.communication import CommunicationAwareConfig


@dataclass(eq=False)
class _Pruned:
    """A weight in training: what is stored of it, its groups, and what they have mattered since the last update.

    `remembered`: the values as they were when they were left out; momentum goes on moving those that are.
    """

    code: Code
    connections: Connections
    saliency: Tensor
    remembered: Tensor

    def write_mask(self) -> None:
        """Let the code keep what the groups keep; what goes is remembered, what comes back is as it was."""
        mask, values = mask_of(self.connections, self.code), self.code.values
        before = self.code.mask
        assert before is not None
        self.remembered.copy_(torch.where(before, values, self.remembered))
        values.copy_(torch.where(mask & ~before, self.remembered, values))
        before.copy_(mask)

    def known(self) -> Tensor:
        """The values, those left out as they were."""
        assert self.code.mask is not None
        return torch.where(self.code.mask, self.code.values, self.remembered)

    def watch(self, parameter: Tensor) -> None:
        """Add |w dL/dw| when a gradient is there, before the optimizer moves the weight."""
        assert parameter.grad is not None
        self.saliency = self.saliency.to(parameter.device)
        self.saliency += (parameter.detach() * parameter.grad).abs().double()


class CommunicationCompressor:
    """The compressor that drops and rewires a model's connections while it is trained.

    While a weight is trained, its mask is part of the model (a buffer), and what is left out is remembered. `squash`
    drops what is still too much, and rounds the weights.

    every    steps of the optimizer from one update to the next
    updates  how many there are; C has come down to the config's share at the last

    >>> from bale.compress import CommunicationAwareConfig, Traffic, WeightTraffic
    >>> of_weight = WeightTraffic(
    ...     sources=torch.zeros(1, 8, dtype=torch.int64),
    ...     sent=torch.ones(1),
    ...     tile=torch.arange(4)[:, None].repeat(1, 8),
    ...     accumulator=torch.arange(4),
    ...     positions=1,
    ...     input_bits=8,
    ...     sum_bits=16,
    ... )
    >>> hops = (torch.arange(4)[:, None] - torch.arange(4)).abs()
    >>> config = CommunicationAwareConfig(cost=0.5).on(Traffic(hops, {"weight": of_weight}))
    >>> model = nn.Linear(8, 4)
    >>> compressor = config.compressor(3).prepare(model)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> for _ in range(3):
    ...     loss = model(torch.ones(1, 8)).square().sum() + compressor.penalty()
    ...     loss.backward()
    ...     optimizer.step()
    ...     compressor.step()
    >>> compressor.squash().weights[0].facts["cost"] <= 0.5
    True
    """

    def __init__(self, config: CommunicationAwareConfig, *, every: int, updates: int) -> None:
        for name, value in (("every", every), ("updates", updates)):
            if value < 1:
                raise CompressionError(f"{name}: must be at least 1, got {value}")
        self.config, self.every, self.updates = config, every, updates
        self.steps = 0
        self._first = 0.0  # C at the start
        self._dense = 0.0
        self._model: nn.Module | None = None
        self._skipped: Mapping[str, str] = {}
        self._pruned: dict[str, _Pruned] = {}
        self._hooks: list[Any] = []

    @torch.no_grad()
    def prepare(self, model: nn.Module, filter_fn: Filter | None = None) -> Self:
        """Let the weights have masks, all of them or those drawn; raises what `compress_` would."""
        trial = compress_(copy.deepcopy(model), self.config, filter_fn)
        changed, modules = {weight.name for weight in trial.weights}, dict(model.named_modules())
        layers = {name: modules[name] for name in (_layer_of(weight, modules) for weight in changed)}
        weights = [weight for name, layer in layers.items() for weight in weights_of(name, attach_(layer))]
        network = self.config.connections(sorted(weights, key=lambda weight: weight.name))
        self._model, self._skipped, self._dense = model, trial.skipped, network.dense
        self._first, self.steps = total_cost(network.weights), 0
        self._release()
        for weight in weights:
            connections, code = network.weights[weight.name], weight.code
            code.mask = mask_of(connections, code)
            values = code.values.detach()
            pruned = _Pruned(code, connections, torch.zeros_like(values, dtype=torch.float64), values.clone())
            self._pruned[weight.name] = pruned
            self._hooks.append(code.values.register_post_accumulate_grad_hook(pruned.watch))
        return self

    def penalty(self) -> Tensor:
        """None: what is dropped is dropped."""
        return torch.zeros(())

    @torch.no_grad()
    def step(self) -> None:
        """Count a step; drop and rewire when it is time."""
        self._all()
        self.steps += 1
        done = self.steps // self.every
        if self.steps % self.every == 0 and done <= self.updates:
            self._update(done)

    @property
    def cost(self) -> float:
        """The share of the dense network's C that is left."""
        return total_cost({name: each.connections for name, each in self._all().items()}) / self._dense

    @torch.no_grad()
    def squash(self) -> Report:
        """Drop what is still too much, round the weights, and let them be trained with these masks from now on."""
        pruned, model = self._all(), self._model
        assert model is not None
        before = Before.of(model)
        self._drop(self.config.cost * self._dense)
        self.config.check_reached(Network({name: each.connections for name, each in pruned.items()}, self._dense))
        for each in pruned.values():
            each.code.values.grad = None
            if self.config.bits is not None:
                each.code.quantize(self.config.bits)
        changed = set(pruned)
        self._release()
        return report_of(model, before, (self.config,), changed, self._skipped)

    def state_dict(self) -> dict[str, Tensor]:
        """Steps, and of each weight its saliency, what is remembered of it, and the groups that are left out."""
        state = {"steps": torch.tensor(self.steps), "traffic": self.config.on_chip().digest()}
        for name, each in self._pruned.items():
            state |= {
                f"saliency.{name}": each.saliency,
                f"remembered.{name}": each.remembered,
                f"dropped.{name}": torch.from_numpy(each.connections.dropped),
            }
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where another left off; raises CompressionError for the state of another model or chip."""
        own = self.state_dict()
        check_state(own, state)
        if int(own["traffic"]) != int(state["traffic"]):
            raise CompressionError("traffic: is that of another chip or placement")
        self.steps = int(state["steps"])
        for name, each in self._pruned.items():
            each.saliency = state[f"saliency.{name}"].to(each.code.values.device, copy=True)
            each.remembered = state[f"remembered.{name}"].to(each.code.values, copy=True)
            each.connections.dropped = state[f"dropped.{name}"].cpu().numpy().copy()
            each.connections.recount()
            each.code.mask = mask_of(each.connections, each.code)

    def _all(self) -> dict[str, _Pruned]:
        if not self._pruned:
            raise CompressionError("prepare(model) comes first")
        return self._pruned

    def _release(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._pruned = [], {}

    def _update(self, number: int) -> None:
        """Bring C down to what may be left now, cheaper groups in the place of some; saliency begins anew."""
        final = min(self.config.cost * self._dense, self._first)
        most = final + (self._first - final) * (1 - number / self.updates) ** 3
        dropped = self._drop(most)
        if number < self.updates:  # what came back at the last would have no time to learn
            network = {name: each.connections for name, each in self._pruned.items()}
            back = bring_back(network, dropped, self.config.rewire, self._scores(number))
            self._drop(most, spared=back)
        for each in self._pruned.values():
            each.saliency = torch.zeros_like(each.saliency)

    def _drop(self, most: float, spared: Groups | None = None) -> Groups:
        network = {name: each.connections for name, each in self._pruned.items()}
        matters = {name: each.saliency.cpu().numpy() for name, each in self._pruned.items()}
        if not any(each.any() for each in matters.values()):  # no step since the last update
            matters = {name: share_of_squares(each.known()) for name, each in self._pruned.items()}
        dropped = drop_to(network, most, matters, spared)
        for each in self._pruned.values():
            each.write_mask()
        return dropped

    def _scores(self, update: int) -> dict[str, np.ndarray]:
        """Which groups come back first: by what is remembered of them, or by a draw."""
        if self.config.start == "distance":
            return {name: self.config.drawn(name, each.connections, update) for name, each in self._pruned.items()}
        return {
            name: each.connections.total(each.known().abs().double().cpu().numpy())
            for name, each in self._pruned.items()
        }


def _layer_of(weight: str, modules: Mapping[str, nn.Module]) -> str:
    """The layer's name: its weight's, where it has one only; a model that is a layer itself has none."""
    return weight if weight in modules else ""
