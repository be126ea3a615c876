"""What a forward calls for every node: Stream, Value, Recorder, Gatherer, Reader, and Method and Switch, which lead to
recorders. In C, or in Python where that fails.

Both do the same; `_recording.c` takes a tenth of the time. A question, of what a Recorder asks of one argument, is

    ("home", home)                  it is a Ref of this home
    ("rows", spec)                  a ragged Ref of any length with this Spec; all that are ragged are equally long
    ("same", thing)                 it is this very thing
    ("constant", known, see, lengths)  its id has an entry in `known`, or `see` gives one; lengths[entry] if ragged
    ("number", known, see, type)    a number of this type, with its entry in `known` or from `see`
    ("plain", type, value)          it is of this type and equals the value
    ("items", type, questions)      a tuple or list of just as many items, each as its question asks
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any


class PythonStream:
    """Whole numbers, one after another."""

    def __init__(self) -> None:
        self._numbers = array("q")

    def __len__(self) -> int:
        return len(self._numbers)

    def extend(self, numbers: Any) -> None:
        """Append a sequence of whole numbers."""
        self._numbers.extend(array("q", numbers))  # all or nothing

    def tobytes(self) -> bytes:
        """All numbers, as int64 in this machine's order."""
        return self._numbers.tobytes()


class PythonValue:
    """What a Ref holds: see ref.py."""

    # No __init__: one or two of them are made per node, and its frame would cost more than all the rest.
    __slots__ = ("__weakref__", "home", "memory", "part")

    memory: Any


def python_rows_from(first: Any, count: int, step: int) -> list[Any]:
    """`first` and more like it, each a step further in the stream's codes."""
    if count < 1:
        raise ValueError("rows_from() makes a list of at least the value that it is given")
    rows = [first, *(type(first)() for _ in range(count - 1))]
    for k, row in enumerate(rows):
        row.home, row.part, row.memory = first.home, first.part + k * step, first.memory
    return rows


class OtherCallError(Exception):
    """The call is not like the one that a recorder was made for."""


class PythonRecorder:
    """Records calls like the one it was made for, and hands all others to `otherwise`.

    ref         the class of what it returns
    stream      what it writes to; `type` and `fixed` say what (see stream.py)
    grad        whether grad mode must be on, or off; autocast must be off
    positional  the questions for positional arguments; `named` those for the keyword arguments `names`
    homes       of its outputs: a Home, or where the output is `ragged`, the Homes by length
    wrap        None where the only output is returned itself; tuple; or what makes the result from a list of outputs
    views       of each output the number, among the values asked for, of that whose memory it shares; or None
    memory      makes such a memory
    still       must hold where a call is recorded, if it is given
    """

    def __init__(
        self, ref: type, stream: Any, type: int, fixed: bool, grad: bool, positional: tuple[Any, ...],
        names: tuple[str, ...], named: tuple[Any, ...], homes: tuple[Any, ...], ragged: tuple[bool, ...],
        wrap: Callable[[list[Any]], Any] | None, views: tuple[int | None, ...], memory: Callable[[], Any],
        otherwise: Callable[..., Any], still: Callable[[], bool] | None,
        grad_enabled: Callable[[], bool], autocast: Callable[[], bool],
    ):  # fmt: skip
        self.ref, self.stream, self.type, self.fixed, self.grad = ref, stream, type, fixed, grad
        self.positional, self.names, self.named = positional, names, named
        self.outputs, self.wrap = list(zip(homes, ragged, views, strict=True)), wrap
        self.memory = memory
        self.otherwise, self.still = otherwise, still
        self.grad_enabled, self.autocast = grad_enabled, autocast

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            understood = self._understand(args, kwargs)
        except OtherCallError:
            understood = None
        if understood is None:  # not within `except`, which would stand in the traceback of any error from there
            return self.otherwise(*args, **kwargs)
        values, entries, length = understood
        parts = [value.part for value in values]
        code = len(self.stream)
        if self.fixed:
            numbers = [self.type, *parts, *entries]
        else:
            numbers = [self.type, length, *(number for part in parts for number in (1, part)), *entries]
        self.stream.extend(numbers + [0] * (len(self.outputs) - len(numbers)))
        made = []
        for k, (home, is_ragged, view) in enumerate(self.outputs):
            ref = self.ref()
            ref.home, ref.part = home[length] if is_ragged else home, code + k
            ref.memory = None if view is None else self._memory_of(values[view])
            made.append(ref)
        return made[0] if self.wrap is None else self.wrap(made)

    def _memory_of(self, value: Any) -> Any:
        if value.memory is None:
            value.memory = self.memory()
        return value.memory

    def _understand(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], list[int], Any]:
        """The values, the entries of constants, and the length of a call. Raises OtherCallError."""
        if len(args) != len(self.positional) or kwargs.keys() != set(self.names):
            raise OtherCallError
        if self.grad_enabled() is not self.grad or self.autocast():
            raise OtherCallError
        answers = Answers(self.ref)
        for given, question in zip(args, self.positional, strict=True):
            answers.ask(given, question)
        for name, question in zip(self.names, self.named, strict=True):
            answers.ask(kwargs[name], question)
        answers.look_up()
        if self.still is not None and not self.still():
            raise OtherCallError
        return answers.values, answers.entries, answers.length


class Answers:
    """What one call has answered so far."""

    def __init__(self, ref: type):
        self.ref = ref
        self.values: list[Any] = []
        self.entries: list[int] = []
        self.length: int | None = None
        self._constants: list[tuple[Any, Any]] = []

    def ask(self, given: Any, question: tuple[Any, ...]) -> None:
        """Raises OtherCallError where `given` is not as asked."""
        kind = question[0]
        if kind in ("home", "rows"):
            _must(type(given) is self.ref)
            if kind == "rows":
                _must(given.home.spec is question[1])
                self._agree(given.home.length)
            else:
                _must(given.home is question[1])
            self.values.append(given)
        elif kind == "same":
            _must(given is question[1])
        elif kind in ("constant", "number"):
            _must(kind == "constant" or type(given) is question[3])
            self._constants.append((given, question))
        elif kind == "plain":
            _must(type(given) is question[1] and given == question[2])
        else:
            _must(type(given) is question[1] and len(given) == len(question[2]))
            for item, inside in zip(given, question[2], strict=True):
                self.ask(item, inside)

    def look_up(self) -> None:
        """Find the entries of constants: last, for that notes what was not seen before."""
        for given, (kind, known, see, last) in self._constants:
            entry = known.get(id(given) if kind == "constant" else given)
            entry = see(given) if entry is None else entry
            _must(entry is not None)
            self.entries.append(entry)
            if kind == "constant" and last is not None:
                self._agree(last.get(entry))

    def _agree(self, length: int | None) -> None:
        _must(bool(length) and self.length in (None, length))
        self.length = length


def _must(hold: bool) -> None:
    if not hold:
        raise OtherCallError


class PythonGatherer:
    """Records stacks of values of one home (`stacks`), or reductions of one value, along the first axis.

    `with_grad` and `without_grad`, by grad mode: home -> the number of the type, and the home of the result or, for
    stacks, the homes by length. Any other call is handed to `otherwise`, also where the length is new.
    """

    def __init__(
        self, ref: type, stream: Any, stacks: bool, with_grad: dict[Any, Any], without_grad: dict[Any, Any],
        otherwise: Callable[..., Any], grad_enabled: Callable[[], bool],
    ):  # fmt: skip
        self.ref, self.stream, self.stacks, self.otherwise = ref, stream, stacks, otherwise
        self.known, self.grad_enabled = {True: with_grad, False: without_grad}, grad_enabled

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values: Any = None if kwargs else self._values(args)
        known = values and self.known[self.grad_enabled()].get(values[0].home)
        number, home = known or (0, None)
        if self.stacks and home is not None:
            home = home.get(len(values))
        if home is None:
            return self.otherwise(*args, **kwargs)
        ref = self.ref()
        ref.home, ref.part, ref.memory = home, len(self.stream), None
        self.stream.extend([number, len(values), len(values), *[value.part for value in values]])
        return ref

    def _values(self, args: tuple[Any, ...]) -> Any:
        along_first = len(args) == 2 and type(args[1]) is int and not args[1]
        if not along_first and not (self.stacks and len(args) == 1):
            return None
        if self.stacks and type(args[0]) not in (list, tuple):
            return None
        values: Any = args[0] if self.stacks else args[:1]
        alike = all(type(value) is self.ref and value.home is values[0].home for value in values)
        return values if alike else None


class PythonReader:
    """Gives plain tensors of no axes that hold whole numbers their entries among the constants; None to all others.

    The arguments are those of the ConstantTable, and `indices` those of the kind; see uses.py.
    """

    def __init__(
        self, tensor: type, dtype: Any, guard: Any, shared: dict[int, Any], indices: dict[int, int],
        entries: list[Any], versions: list[int], values: list[Any],
    ):  # fmt: skip
        self.tensor, self.dtype, self.guard, self.shared = tensor, dtype, guard, shared
        self.indices, self.entries, self.versions, self.values = indices, entries, versions, values

    def __call__(self, given: Any) -> int | None:
        if type(given) is not self.tensor or id(given) in self.shared:
            return None
        with self.guard:
            if given.dtype is not self.dtype or given.dim() or not given.is_cpu:
                return None
            value = given.item()
        entry = self.indices[id(given)] = len(self.entries)
        self.entries.append(given)
        self.versions.append(-1)
        self.values.append(value)
        return entry


def PythonMethod(function: Any, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """A method of values: asks the recorder of `function` in their trace, or `otherwise`, given the value and all else.

    A plain function, since Python binds these alone to the object that a special method is looked up for.
    """

    def method(value: Any, *args: Any, **kwargs: Any) -> Any:
        trace = value.home.trace
        if trace.quick is True and (recorder := trace.functions.get(function)) is not None:
            return recorder(value, *args, **kwargs)
        return otherwise(value, *args, **kwargs)

    return method


class PythonSwitch:
    """The __torch_function__ of a mode: asks the recorder of a function that is called with values, or `otherwise`.

    ref    the class of values
    trace  its `functions` are the recorders; they are asked while it is `quick`
    """

    def __init__(self, ref: type, trace: Any, otherwise: Callable[..., Any]):
        self.ref, self.trace, self.otherwise = ref, trace, otherwise
        self.__self__ = otherwise.__self__  # type: ignore[attr-defined]  # torch makes sure that it is the mode's own

    def __call__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.ref in types and self.trace.quick is True:
            recorder = self.trace.functions.get(func)
            if recorder is not None:
                return recorder(*args, **kwargs) if kwargs else recorder(*args)
        return self.otherwise(func, types, args, kwargs)


if TYPE_CHECKING:
    Stream = PythonStream
    Value = PythonValue
    Recorder = PythonRecorder
    Gatherer = PythonGatherer
    Reader = PythonReader
    Method = PythonMethod
    Switch = PythonSwitch
    rows_from = python_rows_from
else:
    try:
        from bale.batching.trace._recording import Gatherer, Method, Reader, Recorder, Stream, Switch, Value, rows_from
    except ImportError:  # there was no C compiler when bale was installed
        Gatherer, Reader, Recorder = PythonGatherer, PythonReader, PythonRecorder
        Method, Stream, Switch, Value = PythonMethod, PythonStream, PythonSwitch, PythonValue
        rows_from = python_rows_from
