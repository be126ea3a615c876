"""Random questions to recorders, random calls that fit or almost fit, and all there is to see of such a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st

from bale.batching.trace import recording
from bale.batching.trace.recorder import MAX_LEAVES


@dataclass(frozen=True)
class Classes:
    """One way of recording."""

    stream: Any
    value: Any
    recorder: Any
    reader: Any


PYTHON = Classes(recording.PythonStream, recording.PythonValue, recording.PythonRecorder, recording.PythonReader)
IS_COMPILED = recording.Recorder is not recording.PythonRecorder
WAYS = {"Python": PYTHON}
if IS_COMPILED:
    WAYS["C"] = Classes(recording.Stream, recording.Value, recording.Recorder, recording.Reader)


class Spec:
    """Compared by identity alone, as those of homes are."""


class Home:
    def __init__(self, spec: Any, length: int | None = None):
        self.spec, self.length = spec, length


class Thing:
    """A tensor, as far as a recorder is concerned: something with an id, and a length where it is ragged."""

    def __init__(self, length: int = 0):
        self.length = length


class BadThing(Thing):
    """What `see` raises an error for."""


class OtherThing(Thing):
    """What `see` does not take."""


class Memory:
    """What values share."""


class SomeError(Exception):
    pass


LONGEST = 3
UNKNOWN_LENGTH = 2  # no home is made of this one
SPECS = Spec(), Spec()
HOMES = {(spec, length): Home(spec, length) for spec in SPECS for length in (None, *range(LONGEST + 1))}
THINGS = [kind(length) for kind in (Thing, Thing, OtherThing, BadThing) for length in range(LONGEST + 1)]
NUMBERS = {int: [0, 1, 2], float: [1.0, 2.0, -0.0, float("nan")], bool: [True, False]}
PLAIN = [None, True, False, 0, 1, 1.0, "a", "b", torch.float32, torch.float64]
NAMES = ["a", "b", "c"]


class Lengths(dict[int, Home]):
    def __init__(self, spec: Spec, log: list[Any]):
        super().__init__()
        self.spec, self.log = spec, log

    def __missing__(self, length: int) -> Home:
        self.log.append(("missing", length))
        if length == UNKNOWN_LENGTH:
            raise SomeError("no such length")
        self[length] = HOMES[self.spec, length]
        return self[length]


# What is drawn says nothing of the classes: a World makes arguments and questions of it, for one way of recording.


@dataclass(frozen=True)
class OfRef:
    """A Ref of HOMES[home]; the question may be of any length."""

    home: tuple[Spec, int | None]
    part: int = 0
    any_length: bool = False


@dataclass(frozen=True)
class OfThing:
    """A constant, or the thing itself."""

    thing: Thing
    same: bool = False
    ragged: bool = False


@dataclass(frozen=True)
class OfNumber:
    number: Any
    plain: bool


@dataclass(frozen=True)
class OfItems:
    kind: type
    items: tuple[Any, ...]


Leaf = OfRef | OfThing | OfNumber
Drawn = Leaf | OfItems


@dataclass(frozen=True)
class Asked:
    """What a recorder is made for."""

    positional: tuple[Drawn, ...]
    named: dict[str, Drawn]
    fixed: bool
    outputs: tuple[tuple[tuple[Spec, int | None], bool], ...]  # keys of HOMES, and whether they are ragged
    wrap: str
    views: tuple[int | None, ...]
    has_still: bool
    type: int


@dataclass(frozen=True)
class Called:
    positional: tuple[Drawn, ...]
    named: dict[str, Drawn]
    grad: bool
    autocast: bool
    still: bool | None  # None: it raises an error
    otherwise_fails: bool


@dataclass
class World:
    """One way of recording, and all that happens in it."""

    classes: Classes
    log: list[Any] = field(default_factory=list)
    known: dict[int, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    numbers: dict[type, dict[Any, int]] = field(default_factory=lambda: {kind: {} for kind in NUMBERS})
    entries: list[Any] = field(default_factory=list)
    memories: dict[Any, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ref = type("Ref", (self.classes.value,), {"__slots__": ()})
        self.stream = self.classes.stream()
        self.known[id(THINGS[0])] = 99  # of no length

    def argument(self, drawn: Drawn) -> Any:
        match drawn:
            case OfRef():
                ref = self.ref()
                ref.home, ref.part, ref.memory = HOMES[drawn.home], drawn.part, None
                return ref
            case OfThing():
                return drawn.thing
            case OfNumber():
                return drawn.number
        return drawn.kind([self.argument(item) for item in drawn.items])

    def question(self, drawn: Drawn) -> tuple[Any, ...]:
        match drawn:
            case OfRef():
                return ("rows", drawn.home[0]) if drawn.any_length else ("home", HOMES[drawn.home])
            case OfThing(same=True):
                return "same", drawn.thing
            case OfThing():
                return "constant", self.known, self.see, self.lengths if drawn.ragged else None
            case OfNumber(plain=True):
                return "plain", type(drawn.number), drawn.number
            case OfNumber():
                return "number", self.numbers[type(drawn.number)], self.see_number, type(drawn.number)
        return "items", drawn.kind, tuple([self.question(item) for item in drawn.items])

    def see(self, thing: Any) -> int | None:
        self.log.append(("see", self.told(thing)))
        if isinstance(thing, BadThing):
            raise SomeError("not to be seen")
        if type(thing) is not Thing:
            return None
        entry = self.known[id(thing)] = self.add(thing)
        self.lengths[entry] = thing.length
        return entry

    def see_number(self, number: Any) -> int:
        self.log.append(("see", self.told(number)))
        if number == 1:
            self.numbers[type(number)][number] = len(self.entries)
        return self.add(number)

    def add(self, constant: Any) -> int:
        self.entries.append(constant)
        return len(self.entries) - 1

    def recorder(self, asked: Asked) -> Callable[..., Any]:
        wrap = {"none": None, "tuple": tuple, "list": self.wrap, "error": self.fail_to_wrap}[asked.wrap]
        homes = tuple([Lengths(key[0], self.log) if ragged else HOMES[key] for key, ragged in asked.outputs])
        return self.classes.recorder(
            self.ref, self.stream, asked.type, asked.fixed, True,
            tuple(map(self.question, asked.positional)),
            tuple(asked.named), tuple(map(self.question, asked.named.values())),
            homes, tuple([ragged for _, ragged in asked.outputs]),
            wrap, asked.views, Memory, self.otherwise, self.still if asked.has_still else None,
            lambda: self.call.grad, lambda: self.call.autocast,
        )  # fmt: skip

    def wrap(self, outputs: Any) -> Any:
        self.log.append(("wrap", type(outputs)))
        return {"outputs": outputs}

    def fail_to_wrap(self, outputs: Any) -> Any:
        self.log.append(("wrap", type(outputs)))
        raise SomeError("cannot be wrapped")

    def otherwise(self, *args: Any, **kwargs: Any) -> Any:
        self.log.append(("otherwise", self.told(args), list(kwargs), self.told(list(kwargs.values()))))
        if self.call.otherwise_fails:
            raise SomeError("cannot be recorded")
        return "otherwise"

    def still(self) -> bool:
        self.log.append("still")
        if self.call.still is None:
            raise SomeError("who knows")
        return self.call.still

    def told(self, thing: Any) -> Any:
        """What can be compared with another World's."""
        if type(thing) is self.ref:
            return "ref", thing.home, thing.part, self.memories.setdefault(thing.memory, len(self.memories))
        if isinstance(thing, (tuple, list)):
            return type(thing), [self.told(item) for item in thing]
        if isinstance(thing, dict):
            return {name: self.told(item) for name, item in thing.items()}
        return type(thing), thing if isinstance(thing, Thing) else repr(thing)

    def run(self, recorder: Callable[..., Any], call: Called) -> Any:
        """All there is to see of a call."""
        self.call = call
        self.log.clear()
        args = [self.argument(drawn) for drawn in call.positional]
        kwargs = {name: self.argument(drawn) for name, drawn in call.named.items()}
        try:
            outcome = self.told(recorder(*args, **kwargs))
        except SomeError as error:
            outcome = str(error), error.__context__
        return outcome, list(self.log), self.stream.tobytes(), len(self.stream), list(map(repr, self.entries))


lengths = st.integers(0, LONGEST)
specs = st.sampled_from(SPECS)
ragged_homes = st.tuples(specs, st.integers(1, LONGEST))
whole_homes = st.tuples(specs, st.none())
parts = st.integers(-5, 2**40)
numbers = st.sampled_from([number for kind in NUMBERS.values() for number in kind])
leaves = st.one_of(
    st.builds(OfRef, whole_homes, parts),
    st.builds(OfRef, ragged_homes, parts, st.just(True)),
    st.builds(OfThing, st.sampled_from(THINGS[: 2 * (LONGEST + 1)]), st.booleans(), st.booleans()),
    st.builds(OfNumber, numbers, st.just(False)),
    st.builds(OfNumber, st.sampled_from(PLAIN), st.just(True)),
)
arguments = st.one_of(
    leaves,
    st.recursive(
        leaves,
        lambda inner: st.builds(
            OfItems, st.sampled_from([tuple, list]), st.lists(inner, max_size=3).map(tuple)
        ),
        max_leaves=4,
    ),
)  # fmt: skip


def leaves_of(drawn: Drawn) -> Iterator[Leaf]:
    if isinstance(drawn, OfItems):
        for item in drawn.items:
            yield from leaves_of(item)
    else:
        yield drawn


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    positional = tuple(draw(st.lists(arguments, max_size=3)))
    named = {name: draw(arguments) for name in draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))}
    inside = [leaf for drawn in (*positional, *named.values()) for leaf in leaves_of(drawn)]
    if len(inside) > MAX_LEAVES:
        positional, named, inside = positional[:1], {}, [*leaves_of(positional[0])]
    knows_length = any(
        leaf.any_length if isinstance(leaf, OfRef) else isinstance(leaf, OfThing) and leaf.ragged and not leaf.same
        for leaf in inside
    )
    output = st.tuples(
        st.tuples(specs, lengths), st.just(True) if knows_length and draw(st.booleans()) else st.just(False)
    )
    wrap = draw(st.sampled_from(["none", "tuple", "list", "error"]))
    outputs = tuple(draw(st.lists(output, min_size=1, max_size=1 if wrap == "none" else 6)))
    values = sum(isinstance(leaf, OfRef) for leaf in inside)
    view = st.none() | st.integers(0, values - 1) if values else st.none()
    return Asked(
        positional, named,
        fixed=not knows_length or draw(st.booleans()),
        outputs=outputs, wrap=wrap, views=tuple([draw(view) for _ in outputs]),
        has_still=draw(st.booleans()), type=draw(st.integers(0, 2**40)),
    )  # fmt: skip


@st.composite
def calls(draw: st.DrawFn, asked: Asked) -> Called:
    """Like what is asked, but for the numbers that may differ, and often for one thing that may not."""
    length = draw(st.integers(1, LONGEST))
    change = draw(st.sampled_from(["nothing"] * 4 + ["leaves", "arguments", "names", "mode", "still", "otherwise"]))
    odd = st.sampled_from([False, False, True]) if change == "leaves" else st.just(False)

    def fill(drawn: Drawn) -> Drawn:
        is_odd = draw(odd)
        match drawn:
            case OfItems():
                items = tuple(map(fill, drawn.items))
                if is_odd:
                    kind = draw(st.sampled_from([tuple, list]))
                    return OfItems(kind, items[: draw(st.integers(0, 3))])
                return OfItems(drawn.kind, items)
            case _ if is_odd:
                return draw(leaves | st.builds(OfThing, st.sampled_from(THINGS)))
            case OfRef(any_length=True):
                return OfRef((drawn.home[0], length), draw(parts))
            case OfRef():
                return OfRef(drawn.home, draw(parts))
            case OfThing(same=False):
                fits = [
                    thing for thing in THINGS if type(thing) is Thing and (not drawn.ragged or thing.length == length)
                ]
                return OfThing(draw(st.sampled_from(fits)))
            case OfNumber(plain=False):
                return OfNumber(draw(st.sampled_from(NUMBERS[type(drawn.number)])), False)
        return drawn

    positional = list(map(fill, asked.positional))
    named = {name: fill(drawn) for name, drawn in asked.named.items()}
    named = dict(draw(st.permutations(list(named.items()))))
    if change == "arguments":
        positional = positional[1:] if draw(st.booleans()) else [*positional, draw(leaves)]
    if change == "names":
        named = {draw(st.sampled_from(NAMES)): drawn for drawn in named.values()} or {"a": draw(leaves)}
    return Called(
        tuple(positional), named,
        grad=change != "mode" or draw(st.booleans()),
        autocast=change == "mode" and draw(st.booleans()),
        still=draw(st.sampled_from([False, None])) if change == "still" else True,
        otherwise_fails=change == "otherwise" or draw(st.booleans()),
    )  # fmt: skip


@st.composite
def runs(draw: st.DrawFn) -> tuple[Asked, list[Called]]:
    question = draw(asked())
    return question, draw(st.lists(calls(question), min_size=1, max_size=6))
