"""Keep: traces that outlive their call. How are they made, found again by a key, and checked before they run?"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from bale.batching.bind import bind
from bale.batching.cells.call import ModeState
from bale.batching.cells.purity import freeze
from bale.batching.engine import Settings, Traced, trace_samples
from bale.batching.trace.containers import restore
from bale.batching.trace.model_key import difference, model_key
from bale.batching.trace.trace import Origin, Piece, Trace
from bale.batching.trace.tracer import Registry
from bale.batching.trace.writeback import written_names
from bale.errors import BaleError, TraceError

MAX_ORIGINS = 4  # ways of calling a model, such as training and evaluation, whose traces are kept side by side
MAX_PIECES = 1 << 16  # samples of each; the oldest go first


def keep(
    model: nn.Module,
    samples: Sequence[Any],
    kwargs: dict[str, Any],
    settings: Settings,
    registry: Registry,
    key: Callable[[Any], Hashable] | None,
) -> Trace:
    """The trace of some samples; see `Batched.trace`."""
    origin = origin_of(model, kwargs, registry)
    if key is None:
        return Trace((_record(model, samples, kwargs, settings, registry, origin),))
    names = [_name(key, k, sample) for k, sample in enumerate(samples)]
    known = _pieces(registry, origin)
    missing = {name: sample for name, sample in zip(names, samples, strict=True) if name not in known}
    if missing:
        piece = _record(model, list(missing.values()), kwargs, settings, registry, origin)
        known.update(zip(missing, piece.samples(), strict=True))
    trace = Trace(tuple(map(known.__getitem__, names)))
    while len(known) > MAX_PIECES:
        del known[next(iter(known))]
    return trace


def _pieces(registry: Registry, origin: Origin) -> dict[Hashable, Piece]:
    known = registry.kept.pop(origin, {})
    registry.kept[origin] = known  # now the latest
    while len(registry.kept) > MAX_ORIGINS:
        del registry.kept[next(iter(registry.kept))]
    return known


def _name(key: Callable[[Any], Hashable], number: int, sample: Any) -> Hashable:
    name = key(sample)
    try:
        hash(name)
    except TypeError:
        raise BaleError(
            f"sample {number}: key(sample) returned a {type(name).__name__}, which cannot be hashed; return a number, "
            "a string or a tuple of such"
        ) from None
    return name


def _record(
    model: nn.Module, samples: Sequence[Any], kwargs: dict[str, Any], settings: Settings, registry: Registry,
    origin: Origin,
) -> Piece:  # fmt: skip
    traced = trace_samples(model, samples, kwargs, settings, registry)
    changed = restore(traced.held)
    _refuse_effects(traced, changed)
    (piece,) = traced.trace.pieces
    return replace(piece, origin=origin)


def _refuse_effects(traced: Traced, changed: bool) -> None:
    """Raises TraceError where running a trace again would not do what the forwards do."""
    names = written_names(traced.shadow)
    if names or changed:
        what = f"the attribute `{names[0]}`" if names else "a list, dict or set that the model holds"
        raise TraceError(
            f"the forward writes to {what}, and a trace that is kept would not; call the model with the samples "
            "themselves"
        )
    for cell in traced.trace.cells:
        if cell.stateful:
            raise TraceError(
                f"{cell.name} writes to its buffers in the order of the samples, and a trace that is kept may run in "
                "any; call the model with the samples themselves, or in eval mode"
            )


def origin_of(model: nn.Module, kwargs: dict[str, Any], registry: Registry) -> Origin:
    """What a forward that is traced now sees besides its sample."""
    registry.model, kwargs_key = model_key(model, registry.model), freeze(kwargs) if kwargs else ()
    return Origin(registry.model, ModeState.current(), kwargs_key)


def ready(trace: Trace, model: nn.Module, settings: Settings, registry: Registry) -> Trace:
    """The trace, with types of this process, if it may run now.

    Raises TraceError where the model or the modes are not those under which the samples were traced.
    """
    now = origin_of(model, {}, registry)
    trace = bind(trace, model, settings, registry, now)
    _check_origins(trace, now)
    return trace


def _check_origins(trace: Trace, now: Origin) -> None:
    for origin in {id(piece.origin): piece.origin for piece in trace.pieces}.values():
        if origin is None or origin.model != now.model:
            what = "" if origin is None else f": {difference(origin.model, now.model)}"
            raise TraceError(f"the model is not as it was when the trace was made{what}. Trace the samples again")
        then, here = origin.state, now.state
        if (then.default, then.autocast) != (here.default, here.autocast):
            raise TraceError(
                f"the trace was made under autocast {dict(then.autocast)} and default dtype {then.default}, and is "
                f"run under {dict(here.autocast)} and {here.default}. Trace the samples again"
            )
        if torch.is_grad_enabled() and not then.grad:
            raise TraceError(
                "the trace was made without gradients (torch.no_grad()). Trace the samples again with them"
            )
