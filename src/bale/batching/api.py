"""What a user calls: `batch` a per-sample model, mark a `cell`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch._compile import _disable_dynamo  # torch.compiler.disable, but without importing the compiler
from torch.utils import _pytree as pytree

from bale.batching.cells.backend import BACKENDS, PRODUCTS, Backend
from bale.batching.cells.rule import Rule, machine_rule
from bale.batching.engine import Settings, run_samples, run_trace
from bale.batching.execute.launch import CHECKS
from bale.batching.execute.planned import CALLS_BEFORE_CAPTURE
from bale.batching.keep import keep, ready
from bale.batching.plans import Plans
from bale.batching.schedule import POLICIES, PolicyFunction
from bale.batching.stats import Stats
from bale.batching.trace.cell import FunctionCell
from bale.batching.trace.cell_filter import CellFilter
from bale.batching.trace.trace import Trace
from bale.batching.trace.tracer import Registry, current_trace
from bale.errors import BaleError, TraceError

EXECUTORS = ("planned", "reference")

T = TypeVar("T")


class Batched(nn.Module):
    """A module that runs the forward of `inner` for many samples at once. Made by `bale.batch`.

    It *is* `inner` as far as parameters go: the same parameters, buffers, submodules and state_dict keys. `inner` is
    the module itself, `last` the Stats of the latest call.
    """

    last: Stats | None
    settings: Settings

    # The dictionaries that make a module are shared with `inner`, so that `.to()`, `load_state_dict`, optimizers and
    # DistributedDataParallel see one module under its own names.
    _SHARED = (
        "_parameters",
        "_buffers",
        "_modules",
        "_non_persistent_buffers_set",
        "_state_dict_hooks",
        "_state_dict_pre_hooks",
        "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks",
    )

    def __init__(self, inner: nn.Module, settings: Settings):
        super().__init__()
        self.__dict__["_inner"] = inner
        self.__dict__["settings"] = settings
        self.__dict__["_registry"] = Registry()
        self.__dict__["_plans"] = Plans()
        self.__dict__["last"] = None
        for name in self._SHARED:
            self.__dict__[name] = inner.__dict__[name]

    @property
    def inner(self) -> nn.Module:
        """The per-sample module."""
        return self.__dict__["_inner"]

    @property
    def registry(self) -> Registry:
        """The types that the model's calls have made so far."""
        return self.__dict__["_registry"]

    @property
    def plans(self) -> Plans[Any, Any]:
        """What was planned for earlier mini-batches."""
        return self.__dict__["_plans"]

    @property
    def training(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        inner = self.__dict__.get("_inner")
        return True if inner is None else inner.training

    @training.setter
    def training(self, mode: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        inner = self.__dict__.get("_inner")
        if inner is not None:
            inner.training = mode

    def train(self, mode: bool = True) -> Batched:
        self.inner.train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Batched:
        self.inner._apply(fn, recurse)
        return self

    def get_extra_state(self) -> Any:
        return self.inner.get_extra_state()

    def set_extra_state(self, state: Any) -> None:
        self.inner.set_extra_state(state)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.load_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.inner._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # types remember modules by identity, so they mean nothing to a copy
        return {**self.__dict__, "_registry": None, "_plans": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__["_registry"] = Registry()
        self.__dict__["_plans"] = Plans()

    def extra_repr(self) -> str:
        return f"policy={self.settings.policy!r}, executor={self.settings.executor!r}"

    @_disable_dynamo
    def trace(self, samples: Iterable[Any], key: Callable[[Any], Hashable] | None = None, **kwargs: Any) -> Trace:
        """What the forwards of `samples` ask for; nothing is computed. `model(trace)` runs it, as often as you like.

        A trace saves the Python of the forwards, not their numbers: parameters are read when it is run. It can be
        joined with others (`model([trace, trace])`, `bale.Trace.join`), pickled, and made in DataLoader workers.

        key     sample -> hashable; samples of equal keys are traced once, and found again in later calls. The key must
                tell everything that the forward reads of a sample: its number in the data set, or the sample itself
        kwargs  go to every forward, as in a call of the model

        `model(trace)` raises TraceError where the model is not as it was (another `training`, an attribute, a
        parameter object); what globals or lists hold is not looked at. Raises TraceError for a forward that writes to
        the model's attributes or buffers, which a trace could not repeat, BaleError for a key that cannot be hashed.
        """
        if current_trace() is not None:
            raise TraceError("a forward that is being traced asks for a trace; call the model with the samples")
        listed = as_samples(samples, self.settings.star)
        return keep(self.inner, listed, kwargs, self.settings, self.registry, key)

    def _run(self, trace: Trace, kwargs: dict[str, Any]) -> Any:
        if kwargs:
            raise BaleError(f"{', '.join(kwargs)}: a trace has its keyword arguments from when it was made")
        if current_trace() is not None:
            raise TraceError("a trace is run inside another model's forward; call the batched model with the samples")
        trace = ready(trace, self.inner, self.settings, self.registry)
        result = run_trace(trace, self.settings, self.plans)
        self.__dict__["last"] = result.stats
        return stack_outputs(result.outputs) if self.settings.stacked else result.outputs

    # torch.compile of a program that contains a batched model breaks its graph here
    @_disable_dynamo
    def forward(self, samples: Iterable[Any], **kwargs: Any) -> Any:
        """[inner(sample, **kwargs) for sample in samples], run in batches; stacked where `stacked=True` was asked for.

        Raises TraceError where a forward needs the numbers of a value that is not computed yet; an exception of the
        user's own passes through with a note that names the sample.
        """
        kept = as_trace(samples)
        if kept is not None:
            return self._run(kept, kwargs)
        samples = as_samples(samples, self.settings.star)
        trace = current_trace()
        if trace is not None:  # inside another model's traced forward: this one's calls join it
            call = self.__dict__["_inner"]
            outputs = [call(*s, **kwargs) if self.settings.star else call(s, **kwargs) for s in samples]
        elif not samples:
            outputs = []
        else:
            result = run_samples(self.inner, samples, kwargs, self.settings, self.registry, self.plans)
            outputs, self.__dict__["last"] = result.outputs, result.stats
        return stack_outputs(outputs) if self.settings.stacked else outputs


def as_trace(samples: Any) -> Trace | None:
    """The trace that a batched model was given, or the traces joined; None where it was given samples."""
    if isinstance(samples, Trace):
        return samples
    if not isinstance(samples, (list, tuple)) or not any(isinstance(sample, Trace) for sample in samples):
        return None
    for k, sample in enumerate(samples):
        if not isinstance(sample, Trace):
            raise BaleError(f"element {k} is a {type(sample).__name__} among traces; give traces, or samples")
    return Trace.join(samples)


def as_samples(samples: Iterable[Any], star: bool) -> list[Any]:
    if isinstance(samples, (str, bytes, dict)) or not isinstance(samples, (Sequence, Iterable, torch.Tensor)):
        raise BaleError(
            f"a batched model takes a sequence of samples; got {type(samples).__name__}. For one sample pass [sample]"
        )
    listed = list(samples)
    for k, sample in enumerate(listed):
        if star and not isinstance(sample, (tuple, list)):
            raise BaleError(
                f"sample {k} is a {type(sample).__name__}; with star=True each sample is a tuple of arguments"
            )
    return listed


def stack_outputs(outputs: Sequence[Any]) -> Any:
    """The outputs of all samples as one, every tensor with a new first axis.

    Raises BaleError naming the first sample whose structure, shape or dtype differs from the first one's.
    """
    if not outputs:
        raise BaleError("stacked=True needs at least one sample: without one, the shape of the result is unknown")
    first, spec = pytree.tree_flatten(outputs[0])
    columns: list[list[Any]] = [[] for _ in first]
    for k, output in enumerate(outputs):
        leaves, other = pytree.tree_flatten(output)
        if other != spec:
            raise BaleError(f"stacked=True: sample {k} returns another structure than sample 0 ({other} and {spec})")
        for column, leaf, wanted in zip(columns, leaves, first, strict=True):
            if not isinstance(leaf, torch.Tensor):
                raise BaleError(f"stacked=True: sample {k} returns a {type(leaf).__name__}, which cannot be stacked")
            if leaf.shape != wanted.shape or leaf.dtype != wanted.dtype:
                raise BaleError(
                    f"stacked=True: sample {k} returns {leaf.dtype} {tuple(leaf.shape)}, sample 0 {wanted.dtype} "
                    f"{tuple(wanted.shape)}; leave stacked=False to get a list"
                )
            column.append(leaf)
    return pytree.tree_unflatten([torch.stack(column) for column in columns], spec)


def batch(
    model: nn.Module,
    *,
    cells: Iterable[Any] | None = None,
    star: bool = False,
    stacked: bool = False,
    policy: str | PolicyFunction = "auto",
    executor: str = "planned",
    check: str = "new",
    merge: bool = True,
    capture: str = "lazy",
    reuse_plans: bool = True,
    backend: str = "auto",
    products: str = "float32",
    rule: Rule | None = None,
) -> Batched:
    """Run the per-sample forward of `model` for many samples at once, with equal values and gradients.

    The result is an nn.Module with the parameters and state_dict keys of `model`; called with a sequence of samples it
    returns the list of `model(sample)`, in order. Each sample is one positional argument; keyword arguments are shared.

    cells     modules, module classes or paths that may be cells; None finds them
    star      spread each sample, a tuple, over the positional arguments
    stacked   stack the outputs along a new first axis
    policy    which batches run in which order: a name of `bale.POLICIES`, or a function Graph -> Schedule
    executor  "planned": captured cells over preallocated memory, one backward for all; "reference": batch after batch
              under plain autograd, which also serves second derivatives and cells that keep state
    check     compare rows of batches with the per-sample module: "new" (each type's 1st, 2nd, 4th, 8th, ... batch),
              "always" or "off"
    merge     run equal computations of the mini-batch once; cells that draw random numbers, keep state or have a
              backward of their own are never merged
    capture   when a type of call becomes straight-line code: "lazy" at its second call of the model, "eager" at its
              first, so that the last bits of results do not depend on how often it came before
    reuse_plans  run a mini-batch by the schedule and layout of an earlier one whose graph looked just the same

    backend   what runs captured cells: "numba", elementwise operations as compiled kernels beside torch's products
              (float32 on the CPU); "triton", the same on CUDA, which no GPU has run yet, and gathers of rows, too;
              "torch", torch's operations alone; "auto", numba on the CPU and triton on CUDA, where they can
    products  "bfloat16" rounds rows and weights of products inside such cells and sums in float32: about half the time
              from width 128 on, and results that are off by some thousandths (see bale.batching.cells.half)
    rule      from how many rows and numbers on which form pays: `bale.Rule`. None takes what `bale tune` measured on
              this machine, or the defaults; only last bits of results hang on it

    Raises BaleError for arguments that are not among these.

    >>> class Sum(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.cell = nn.Linear(2, 2)
    ...     def forward(self, tree):
    ...         if isinstance(tree, torch.Tensor):
    ...             return self.cell(tree)
    ...         return self.cell(sum(self(child) for child in tree))
    >>> model = batch(Sum())
    >>> x = torch.ones(2)
    >>> [tuple(y.shape) for y in model([x, (x, (x, x))])]
    [(2,), (2,)]
    """
    if not isinstance(model, nn.Module):
        raise BaleError(f"bale.batch takes an nn.Module; got {type(model).__name__}")
    if isinstance(model, Batched):
        raise BaleError("this model is batched already; batch its .inner to change the options")
    given = (
        ("executor", executor, EXECUTORS), ("check", check, CHECKS), ("capture", capture, CALLS_BEFORE_CAPTURE),
        ("backend", backend, BACKENDS), ("products", products, PRODUCTS),
    )  # fmt: skip
    for name, value, known in given:
        if value not in known:
            raise BaleError(f"{name}={value!r} is unknown; known are {', '.join(known)}")
    if isinstance(policy, str) and policy not in POLICIES:
        raise BaleError(f"policy={policy!r} is unknown; known are {', '.join(POLICIES)}, and a function")
    running = Backend(backend, products, machine_rule() if rule is None else rule)
    options = (policy, executor, check, merge, capture, reuse_plans, running, star, stacked)
    return Batched(model, Settings(*options, cells=CellFilter(cells)))


def cell(target: T) -> T:
    """Mark a module, a module class or a function as a cell: each of its calls is recorded, and run in batches.

    A marked module that cannot be a cell raises where it is called, instead of being descended into. A function (or a
    method of a module) marked so must be a function of its arguments; outside a batched model it runs as it is.
    """
    if isinstance(target, nn.Module) or (isinstance(target, type) and issubclass(target, nn.Module)):
        target._bale_cell = True  # type: ignore[attr-defined]
        return cast(T, target)
    if isinstance(target, type) or not callable(target):
        raise BaleError(f"bale.cell marks a module, a module class or a function; got {target!r}")
    return cast(T, functools.update_wrapper(FunctionCell(cast(Callable[..., Any], target)), target))
