"""Stream, Value, Recorder and Reader: in C and in Python they do the same, survive every error, and keep no memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.recorded_calls import (
    HOMES,
    IS_COMPILED,
    SPECS,
    WAYS,
    Classes,
    Home,
    Lengths,
    SomeError,
    Spec,
    Thing,
    World,
    runs,
)

import bale
from bale.batching.trace import recording
from bale.batching.trace.recorder import MAX_LEAVES

compiled = pytest.mark.skipif(not IS_COMPILED, reason="_recording.c is not compiled: only the Python classes are there")


@pytest.fixture(params=["Python", pytest.param("C", marks=compiled)])
def way(request: pytest.FixtureRequest) -> Classes:
    return WAYS[request.param]


def numbers_in(stream: Any) -> list[int]:
    return memoryview(stream.tobytes()).cast("q").tolist()


@compiled
@settings(max_examples=300)
@given(runs())
def test_recorders_in_c_and_in_python_do_the_same(drawn):
    question, called = drawn
    worlds = [World(classes) for classes in WAYS.values()]
    recorders = [world.recorder(question) for world in worlds]
    for call in called:
        before = len(worlds[0].stream)
        one, other = [world.run(recorder, call) for world, recorder in zip(worlds, recorders, strict=True)]
        assert one == other
        record = len(worlds[0].stream) - before
        if any(event[0] == "otherwise" for event in worlds[0].log):
            assert record == 0
        else:
            assert record == 0 or record >= max(1, len(question.outputs))


@compiled
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**63, 2**100, 1.5, "1", None, True]))))
def test_streams_in_c_and_in_python_do_the_same(drawn):
    streams = [classes.stream() for classes in WAYS.values()]
    written: list[int] = []
    for numbers in drawn:
        outcomes = []
        for stream in streams:
            try:
                outcomes.append(stream.extend(tuple(numbers) if len(numbers) % 2 else numbers))
            except (TypeError, OverflowError) as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        written += numbers if outcomes[0] is None else []
        for stream in streams:
            assert len(stream) == len(written)
            assert numbers_in(stream) == written


TENSORS = {
    "a number": lambda: torch.tensor(5),
    "another": lambda: torch.tensor(-(2**62)),
    "of another dtype": lambda: torch.tensor(5, dtype=torch.int32),
    "a float": lambda: torch.tensor(5.0),
    "a vector": lambda: torch.tensor([5]),
    "on no device": lambda: torch.tensor(5, device="meta"),
    "of a subclass": lambda: torch.nn.Parameter(torch.tensor(5), requires_grad=False),
    "no tensor": lambda: 5,
}


@compiled
@given(st.lists(st.tuples(st.sampled_from([*TENSORS]), st.booleans())))
def test_readers_in_c_and_in_python_do_the_same(drawn):
    tensors = [TENSORS[name]() for name, _ in drawn]
    shared = {id(tensor): tensor for tensor, (_, is_shared) in zip(tensors, drawn, strict=True) if is_shared}
    found = []
    for classes in WAYS.values():
        tables = {}, [], [], []
        reader = classes.reader(torch.Tensor, torch.int64, torch._C.DisableTorchFunction(), shared, *tables)
        found.append(([*map(reader, tensors)], tables[0], [*map(id, tables[1])], *tables[2:]))
    assert found[0] == found[1]
    assert found[0][0].count(None) == sum(is_shared or name not in ("a number", "another") for name, is_shared in drawn)


# What is asked, one kind of question after another.


class Token:
    """Something that may refer to anything, be called, and be seen to die."""

    def __call__(self, *_: Any) -> Any:
        return True


@dataclass
class Setting:
    """Makes recorders that differ from the simplest one only where it is told."""

    way: Classes
    seen: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ref = type("Ref", (self.way.value,), {"__slots__": ()})
        self.stream = self.way.stream()

    def value(self, home: Any, part: int = 0) -> Any:
        ref = self.ref()
        ref.home, ref.part, ref.memory = home, part, None
        return ref

    def see(self, thing: Any) -> int | None:
        self.seen.append(thing)
        return 7

    def recorder(self, *positional: Any, **changes: Any) -> Any:
        named = changes.pop("questions", {})
        known = {
            "ref": self.ref, "stream": self.stream, "type": 3, "fixed": True, "grad": True, "positional": positional,
            "names": tuple(named), "named": tuple(named.values()), "homes": (HOMES[SPECS[0], None],),
            "ragged": (False,), "wrap": None, "memory": Token, "otherwise": lambda *_, **__: "otherwise",
            "still": None, "grad_enabled": lambda: True, "autocast": lambda: False,
        } | changes  # fmt: skip
        return self.way.recorder(**{"views": (None,) * len(known["homes"]), **known})

    @property
    def numbers(self) -> list[int]:
        return numbers_in(self.stream)


@pytest.fixture
def setting(way: Classes) -> Setting:
    return Setting(way)


HOME, OTHER_HOME = HOMES[SPECS[0], None], HOMES[SPECS[1], None]
A, B = Thing(2), Thing(3)

# question, what it takes, what it does not, what is written of what it takes
QUESTIONS: dict[str, Callable[[Setting], tuple[Any, Any, Any, list[int]]]] = {
    "home": lambda s: (("home", HOME), s.value(HOME, 5), s.value(OTHER_HOME, 5), [5]),
    "home, of a Ref": lambda s: (("home", HOME), s.value(HOME, 5), HOME, [5]),
    "home, of this class": lambda s: (("home", HOME), s.value(HOME, -5), subclassed(s, HOME), [-5]),
    "rows": lambda s: (("rows", SPECS[0]), s.value(HOMES[SPECS[0], 2], 5), s.value(HOMES[SPECS[1], 2], 5), [5]),
    "rows, of some length": lambda s: (("rows", SPECS[0]), s.value(HOMES[SPECS[0], 2], 5), s.value(HOME, 5), [5]),
    "rows, at least one": lambda s: (("rows", SPECS[0]), s.value(HOMES[SPECS[0], 1]), s.value(HOMES[SPECS[0], 0]), [0]),
    "same": lambda s: (("same", A), A, B, []),
    "a constant that is known": lambda s: (("constant", {id(A): 4}, lambda _: None, None), A, B, [4]),
    "a constant that is seen": lambda s: (("constant", {}, lambda a: 6 if a is A else None, None), A, B, [6]),
    "a ragged constant": lambda s: (("constant", {id(A): 4, id(B): 5}, lambda _: None, {4: 2}), A, B, [4]),
    "a ragged constant, at least one long": lambda s: (
        ("constant", {id(A): 4, id(B): 5}, lambda _: None, {4: 2, 5: 0}), A, B, [4]
    ),
    "a number that is known": lambda s: (("number", {2: 4}, lambda _: None, int), 2, 3, [4]),
    "a number that is seen": lambda s: (("number", {}, s.see, int), 2, 2.0, [7]),
    "a number, not a truth value": lambda s: (("number", {1: 4}, s.see, int), 1, True, [4]),
    "plain": lambda s: (("plain", str, "ab"), "".join(["a", "b"]), "ac", []),
    "plain, by type": lambda s: (("plain", int, 1), 1, True, []),
    "items": lambda s: (("items", tuple, (("home", HOME), ("same", A))), (s.value(HOME, 5), A), (A, A), [5]),
    "items, no more": lambda s: (("items", tuple, (("same", A),)), (A,), (A, A), []),
    "items, no fewer": lambda s: (("items", list, (("same", A), ("same", B))), [A, B], [A], []),
    "items, of a list": lambda s: (("items", list, (("same", A),)), [A], (A,), []),
    "items in items": lambda s: (
        ("items", list, (("items", tuple, ()), ("items", tuple, (("home", HOME),)))),
        [(), (s.value(HOME, 9),)], [(), [s.value(HOME, 9)]], [9],
    ),
}  # fmt: skip


def subclassed(setting: Setting, home: Any) -> Any:
    ref = type("Ref", (setting.ref,), {"__slots__": ()})()
    ref.home, ref.part, ref.memory = home, 0, None
    return ref


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_takes_what_it_asks_for_and_nothing_else(question, setting):
    asked, fits, odd, written = QUESTIONS[question](setting)
    recorder = setting.recorder(asked)
    assert recorder(odd) == "otherwise"
    assert recorder() == recorder(fits, fits) == recorder(a=fits) == "otherwise"
    assert setting.numbers == []
    result = recorder(fits)
    assert (type(result), result.home, result.part, result.memory) == (setting.ref, HOME, 0, None)
    assert setting.numbers == [3, *written]
    assert recorder(fits).part == 1 + len(written)
    by_name = setting.recorder(questions={"x": asked, "y": ("same", A)})
    assert by_name(x=odd, y=A) == by_name(x=fits) == by_name(x=fits, y=A, z=A) == by_name(x=fits, z=A) == "otherwise"
    assert by_name(y=A, x=fits).part == 2 * (1 + len(written))
    assert setting.numbers == 3 * [3, *written]


def test_a_ragged_call_writes_its_length_and_all_its_lengths_agree(setting):
    (spec, _), made = SPECS, Lengths(SPECS[1], [])
    recorder = setting.recorder(
        ("rows", spec), ("constant", {id(A): 4, id(B): 5}, setting.see, {4: 2, 5: 3}), fixed=False,
        homes=(made, HOME, made, HOME, HOME, HOME, HOME), ragged=(True, False, True, *[False] * 4), wrap=tuple,
    )  # fmt: skip
    rows = setting.value(HOMES[spec, 3], 11)
    assert recorder(rows, A) == "otherwise"
    first, second, third, *_ = recorder(rows, B)
    assert (first.home, second.home, third.home) == (HOMES[SPECS[1], 3], HOME, HOMES[SPECS[1], 3])
    assert (first.part, second.part, third.part) == (0, 1, 2)
    assert setting.numbers == [3, 3, 1, 11, 5, 0, 0]  # as long as there are outputs


def test_the_results_come_as_they_are_wrapped(setting):
    several = {"homes": (HOME, OTHER_HOME), "ragged": (False, False)}
    lists = []
    assert type(setting.recorder(**several, wrap=tuple)()) is tuple
    assert setting.recorder(**several, wrap=lambda made: lists.append(made) or "made")() == "made"
    assert [(type(made), [ref.home for ref in made]) for made in lists] == [(list, [HOME, OTHER_HOME])]


@pytest.mark.parametrize("change", ["grad", "autocast", "still"])
def test_nothing_is_recorded_or_seen_in_another_mode(change, setting):
    asked = "constant", {}, setting.see, None
    changes = {"grad": {"grad_enabled": lambda: False}, "autocast": {"autocast": lambda: True},
               "still": {"still": lambda: False}}  # fmt: skip
    assert setting.recorder(asked, **changes[change])(A) == "otherwise"
    assert setting.numbers == []
    assert setting.seen == ([A] if change == "still" else [])
    assert setting.recorder(asked, grad=False, grad_enabled=lambda: False)(A).part == 0


def test_a_constant_is_not_seen_where_an_argument_does_not_fit(setting):
    recorder = setting.recorder(("constant", {}, setting.see, None), ("same", A), questions={"x": ("same", A)})
    assert recorder(A, B, x=A) == recorder(A, A, x=B) == "otherwise"
    assert setting.seen == []
    assert recorder(A, A, x=A).part == 0
    assert setting.seen == [A]


def test_a_recorder_asks_of_as_many_arguments_as_its_maker_gives_it(setting):
    refs = [setting.value(HOME, part) for part in range(MAX_LEAVES)]
    setting.recorder(*[("home", HOME)] * MAX_LEAVES)(*refs)
    assert setting.numbers == [3, *range(MAX_LEAVES)]
    things = [Thing() for _ in range(MAX_LEAVES)]
    setting.recorder(*[("constant", {}, setting.see, None)] * MAX_LEAVES)(*things)
    assert setting.numbers[1 + MAX_LEAVES :] == [3, *[7] * MAX_LEAVES]


def test_a_value_keeps_what_it_is_given(way):
    ref = type("Ref", (way.value,), {"__slots__": ()})()
    with pytest.raises(AttributeError):
        _ = ref.home
    memory = Thing()
    ref.home, ref.part, ref.memory = HOME, 2**62 + 1, memory
    assert (ref.home, ref.part, ref.memory) == (HOME, 2**62 + 1, memory)
    assert not hasattr(ref, "__dict__")


# Errors.


def fail(*_: Any, **__: Any) -> Any:
    raise SomeError("no")


class NoLengths(dict[int, Home]):
    __missing__ = fail


class Unequal(str):
    __eq__ = fail
    __hash__ = str.__hash__


class BadHome:
    spec = property(fail)


class HomeOfNoLength:
    spec = SPECS[0]
    length = property(fail)


RAGGED = {"homes": (NoLengths(),), "ragged": (True,)}

# what the recorder is made with, what it is called with, how many numbers it has written when it fails
FAILURES: dict[str, Callable[[Setting], tuple[Any, Any, int]]] = {
    "see": lambda s: (s.recorder(("home", HOME), ("constant", {}, fail, None)), (s.value(HOME), A), 0),
    "see a number": lambda s: (s.recorder(("number", {}, fail, int)), (1,), 0),
    "see, the second time": lambda s: (
        s.recorder(("constant", {}, s.see, None), ("constant", {}, fail, None)), (A, B), 0
    ),
    "still": lambda s: (s.recorder(still=fail), (), 0),
    "otherwise": lambda s: (s.recorder(("same", A), otherwise=fail), (B,), 0),
    "grad_enabled": lambda s: (s.recorder(grad_enabled=fail), (), 0),
    "autocast": lambda s: (s.recorder(autocast=fail), (), 0),
    "the truth of still": lambda s: (s.recorder(still=lambda: type("Odd", (), {"__bool__": fail})()), (), 0),
    "the spec of a home": lambda s: (s.recorder(("rows", SPECS[0])), (s.value(BadHome()),), 0),
    "the length of a home": lambda s: (s.recorder(("rows", SPECS[0])), (s.value(HomeOfNoLength()),), 0),
    "equality": lambda s: (s.recorder(("plain", Unequal, Unequal("a"))), (Unequal("b"),), 0),
    "equality inside": lambda s: (
        s.recorder(("home", HOME), ("items", list, (("plain", Unequal, Unequal("a")),))),
        (s.value(HOME), [Unequal("b")]), 0,
    ),
    "wrap": lambda s: (s.recorder(("home", HOME), wrap=fail), (s.value(HOME),), 2),
    "a length": lambda s: (s.recorder(("rows", SPECS[0]), **RAGGED, fixed=False), (s.value(HOMES[SPECS[0], 2]),), 4),
    "a length, of the second output": lambda s: (
        s.recorder(("rows", SPECS[0]), homes=(HOME, NoLengths(), HOME), ragged=(False, True, False), wrap=tuple),
        (s.value(HOMES[SPECS[0], 2]),), 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_is_passed_on_and_the_stream_stays_whole(failure, setting):
    recorder, args, written = FAILURES[failure](setting)
    for number in range(1, 4):
        with pytest.raises(SomeError) as caught:
            recorder(*args)
        assert caught.value.__context__ is None
        assert len(setting.stream) == number * written


@pytest.mark.parametrize("entry", [2**63, 2**100, "7", 7.0])
def test_an_entry_that_is_no_number_of_a_stream_is_an_error(entry, setting):
    for asked in (("constant", {id(A): entry}, fail, None), ("constant", {}, lambda _: entry, None)):
        with pytest.raises((OverflowError, TypeError)):
            setting.recorder(asked)(A)
    assert setting.numbers == []


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        ([1, "2"], TypeError),
        ([1, 2.0], TypeError),
        ([1, None], TypeError),
        (["1", 2], TypeError),
        (5, TypeError),
        (None, TypeError),
        ([1, 2**63], OverflowError),
        ([1, -(2**63) - 1], OverflowError),
        ([1, 2**1000], OverflowError),
        ([*range(5000), "1"], TypeError),
    ],
)
def test_a_stream_that_cannot_take_all_numbers_takes_none(numbers, error, way):
    stream = way.stream()
    stream.extend((5, -(2**63), 2**63 - 1))
    with pytest.raises(error):
        stream.extend(numbers)
    stream.extend([6])
    assert numbers_in(stream) == [5, -(2**63), 2**63 - 1, 6]


class Index:
    """A number that does something when it is asked for."""

    def __init__(self, act: Callable[[], Any]):
        self.act = act

    def __index__(self) -> int:
        self.act()
        return 1


@pytest.mark.parametrize("what", ["the numbers", "the stream"])
def test_a_stream_bears_that_its_numbers_run_code(what, way):
    stream, numbers = way.stream(), []
    act = {"the numbers": numbers.clear, "the stream": lambda: stream.extend(range(100_000))}[what]
    numbers += [1, Index(act), *map(Thing, range(5000))]
    with suppress(TypeError, IndexError):
        stream.extend(numbers)
    assert len(stream) in (0, 100_000)


BAD = {
    "ref is no class": ({"ref": 5}, TypeError),
    "ref is no Value": ({"ref": object}, TypeError),
    "stream is none": ({"stream": []}, TypeError),
    "type is no number": ({"type": "3"}, TypeError),
    "type is too large": ({"type": 2**63}, OverflowError),
    "positional is a list": ({"positional": []}, TypeError),
    "names is a list": ({"names": []}, TypeError),
    "named is None": ({"named": None}, TypeError),
    "homes is a list": ({"homes": [HOME]}, TypeError),
    "ragged is a list": ({"ragged": [False]}, TypeError),
    "a name without a question": ({"names": ("a",)}, ValueError),
    "a question without a name": ({"named": (("same", A),)}, ValueError),
    "no outputs": ({"homes": (), "ragged": ()}, ValueError),
    "more homes than outputs": ({"homes": (HOME, HOME)}, ValueError),
    "fewer views than outputs": ({"views": ()}, ValueError),
    "views in a list": ({"views": [None]}, TypeError),
    "a view of no value": ({"positional": (("same", A),), "views": (0,)}, ValueError),
    "a view of a value that is not there": ({"positional": (("home", HOME),), "views": (1,)}, ValueError),
    "a view of nothing that is a number": ({"positional": (("home", HOME),), "views": ("0",)}, ValueError),
    "a view of a number beyond all": ({"positional": (("home", HOME),), "views": (2**70,)}, ValueError),
    "a question that is no tuple": ({"positional": (5,)}, TypeError),
    "a question that is a list": ({"positional": (["same", A],)}, TypeError),
    "an empty question": ({"positional": ((),)}, TypeError),
    "a question of nothing": ({"positional": (("same",),)}, TypeError),
    "an unknown kind": ({"positional": (("other", A),)}, ValueError),
    "a kind that is no text": ({"positional": ((5, A),)}, ValueError),
    "too much": ({"positional": (("same", A, B),)}, ValueError),
    "too little": ({"positional": (("constant", {}),)}, ValueError),
    "items of nothing": ({"positional": (("items", tuple),)}, ValueError),
    "items of what has none": ({"positional": (("items", set, ()),)}, TypeError),
    "items in a list": ({"positional": (("items", tuple, [("same", A)]),)}, TypeError),
    "a bad item": ({"positional": (("items", tuple, (("same", A), 5)),)}, TypeError),
    "constants in a list": ({"positional": (("constant", [], fail, None),)}, TypeError),
    "numbers in a list": ({"positional": (("number", [], fail, int),)}, TypeError),
    "lengths in a list": ({"positional": (("constant", {}, fail, []),)}, TypeError),
    "too many arguments": ({"positional": (("same", A),) * (MAX_LEAVES + 1)}, ValueError),
    "too many of all": (
        {"positional": (("items", list, (("same", A),) * 9),), "names": ("a",),
         "named": (("items", tuple, (("same", A),) * 8),)},
        ValueError,
    ),
}  # fmt: skip


@compiled
@pytest.mark.parametrize("bad", BAD)
def test_a_recorder_refuses_what_it_cannot_be_made_of(bad):
    setting = Setting(WAYS["C"])
    changes, error = BAD[bad]
    for _ in range(3):
        with pytest.raises(error):
            setting.recorder(**changes)


@compiled
def test_questions_that_are_nested_too_deep_are_an_error():
    question: Any = ("same", A)
    for _ in range(300_000):
        question = "items", tuple, (question,)
    with pytest.raises(RecursionError):
        Setting(WAYS["C"]).recorder(question)


@compiled
def test_a_recorder_takes_all_that_it_needs():
    with pytest.raises(TypeError):
        recording.Recorder()
    with pytest.raises(TypeError):
        Setting(WAYS["C"]).recorder(more=1)


@compiled
def test_a_reader_refuses_what_it_cannot_be_made_of_or_read():
    good: list[Any] = [torch.Tensor, torch.int64, torch._C.DisableTorchFunction(), {}, {}, [], [], []]
    for place in range(3, 8):
        with pytest.raises(TypeError):
            recording.Reader(*good[:place], None, *good[place + 1 :])
    with pytest.raises(TypeError):
        recording.Reader(*good[:-1])
    reader = recording.Reader(*good)
    for args, kwargs in (((), {}), ((A, A), {}), ((), {"given": A}), ((A,), {"given": A})):
        with pytest.raises(TypeError):
            reader(*args, **kwargs)


class Guard:
    def __init__(self, *failing: str):
        self.failing, self.log = failing, []

    def __enter__(self) -> None:
        self.note("enter")

    def __exit__(self, *_: Any) -> None:
        self.note("exit")

    def note(self, what: str) -> None:
        self.log.append(what)
        if what in self.failing:
            raise SomeError(what)


class Number:
    """What a Reader asks of a tensor."""

    dtype, is_cpu, value = "int", True, 2**50

    def __init__(self, failing: str = ""):
        self.failing = failing

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "failing"):
            raise SomeError(name)
        return object.__getattribute__(self, name)

    def dim(self) -> int:
        return 0

    def item(self) -> int:
        return self.value


@pytest.mark.parametrize("failing", ["dtype", "dim", "is_cpu", "item", "enter", "exit", ""])
def test_a_reader_leaves_its_guard_and_notes_nothing_where_it_fails(failing, way):
    guard = Guard(failing)
    tables = {}, [], [], []
    given = Number(failing)
    reader = way.reader(Number, "int", guard, {}, *tables)
    if failing:
        with pytest.raises(SomeError, match=failing):
            reader(given)
        assert tables == ({}, [], [], [])
    else:
        assert reader(given) == 0
        assert tables == ({id(given): 0}, [given], [-1], [given.value])
    assert guard.log == (["enter"] if failing == "enter" else ["enter", "exit"])


# What a question runs may change what is asked.


def test_a_list_may_change_while_its_constants_are_looked_up(setting):
    seen: list[int] = []

    def see(thing: Thing) -> int:
        things.clear()
        seen.append(thing.length)
        return thing.length

    things = [Thing(k) for k in range(MAX_LEAVES)]
    recorder = setting.recorder(("items", list, (("constant", {}, see, None),) * MAX_LEAVES))
    recorder(things)
    assert seen == [*range(MAX_LEAVES)]
    assert setting.numbers == [3, *range(MAX_LEAVES)]


class Changing:
    """Its comparison does something."""

    def __init__(self, act: Callable[[], Any]):
        self.act = act

    def __eq__(self, other: object) -> bool:
        self.act()
        return True

    __hash__ = None  # type: ignore[assignment]


def test_a_list_may_shrink_while_it_is_asked(setting):
    things: list[Any] = []
    things += [Changing(things.clear), Thing(), Thing()]
    question = "items", list, (("plain", Changing, Changing(int)), ("same", A), ("home", HOME))
    with suppress(ValueError):
        assert setting.recorder(question)(things) == "otherwise"
    assert things == [] and setting.numbers == []


def test_a_ref_may_change_its_home_while_it_is_asked(setting):
    class Leaving:
        length = 2

        @property
        def spec(self) -> Spec:
            ref.home = HOMES[SPECS[0], 2]
            gc.collect()
            return SPECS[0]

    ref = setting.value(Leaving(), 5)
    assert setting.recorder(("rows", SPECS[0]))(ref).part == 0
    assert setting.numbers == [3, 5]


def test_constants_may_become_known_while_others_are_looked_up(setting):
    known: dict[int, int] = {}

    def see(thing: Thing) -> int:
        known.clear()
        known.update({id(Thing()): k for k in range(1000)})
        known[id(B)] = 8
        return 7

    recorder = setting.recorder(*[("constant", known, see, None)] * 2)
    recorder(A, B)
    assert setting.numbers == [3, 7, 8]


def test_a_recorder_may_record_while_it_is_asked(setting):
    def see(thing: Thing) -> int:
        if thing.length:
            inner.append(recorder(Thing(thing.length - 1)))
        return thing.length

    inner: list[Any] = []
    recorder = setting.recorder(("constant", {}, see, None))
    outer = recorder(Thing(3))
    assert setting.numbers == [3, 0, 3, 1, 3, 2, 3, 3]
    assert [ref.part for ref in (*inner, outer)] == [0, 2, 4, 6]


@pytest.mark.parametrize("where", ["see", "still", "otherwise", "wrap", "grad_enabled", "missing"])
def test_a_recorder_may_be_dropped_while_it_is_called(where, setting):
    class Dropping(dict[int, Home]):
        def __missing__(self, length: int) -> Home:
            drop()
            return HOME

    def drop(*_: Any, **__: Any) -> Any:
        call.__setstate__((int, (), {}, None))  # what called it does not hold it either
        gc.collect()
        dropped.append(alive())
        return True

    class Alive:
        pass

    token, dropped = Alive(), []
    alive = weakref.ref(token)
    changes: dict[str, Any] = {
        "see": {}, "missing": {"homes": (Dropping(),), "ragged": (True,)},
    }.get(where, {where: drop})  # fmt: skip
    see = drop if where == "see" else setting.see
    asked = ("rows", SPECS[0]), ("constant", {}, see, None), ("plain", int, 1), ("plain", str, "a")
    names = {"x": ("same", token)}
    call: Any = partial(setting.recorder(*asked, questions=names, **changes))
    given = setting.value(HOMES[SPECS[0], 2], 5), A, 2 if where == "otherwise" else 1, "a"
    result = call(*given, x=token)
    assert dropped == [token]
    assert (result is True) if where in ("otherwise", "wrap") else (result.home is HOME)
    assert setting.numbers == ([] if where == "otherwise" else [3, 5, 1 if where == "see" else 7])
    del names, token, dropped[:], asked
    gc.collect()
    assert alive() is None


# Memory.


FIELDS = {
    "positional": lambda token: {"positional": (("same", token),)},
    "items": lambda token: {"positional": (("items", list, (("items", tuple, (("same", token),)),)),)},
    "named": lambda token: {"names": ("a",), "named": (("constant", {}, token, None),)},
    "homes": lambda token: {"homes": (token,)},
    **{
        name: lambda token, name=name: {name: token}
        for name in ("wrap", "memory", "otherwise", "still", "grad_enabled", "autocast")
    },
}


@pytest.mark.parametrize("name", [*FIELDS, "ref"])
def test_a_recorder_in_a_cycle_is_collected(name, setting):
    token = Token()
    if name == "ref":
        setting.ref.token = token
        token.recorder = setting.recorder()
        del setting.ref
    else:
        token.recorder = setting.recorder(**FIELDS[name](token))
    alive = weakref.ref(token)
    del token
    gc.collect()
    assert alive() is None


def test_a_recorder_in_use_is_not_collected(setting):
    token = Token()
    token.recorder = recorder = setting.recorder(("same", token), otherwise=token)
    del token
    gc.collect()
    assert recorder(A) is True


@pytest.mark.parametrize("place", range(3, 8))
def test_a_reader_in_a_cycle_is_collected(place, way):
    fields: list[Any] = [int, int, Guard(), {}, {}, [], [], []]
    token = Token()
    token.reader = way.reader(*fields)
    if place < 5:
        fields[place][0] = token
    else:
        fields[place].append(token)
    alive = weakref.ref(token)
    del token, fields
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("place", range(3))
def test_a_reader_in_a_cycle_with_what_it_asks_is_collected(place, way):
    class Asked(Token):
        pass

    fields: list[Any] = [int, int, Guard(), {}, {}, [], [], []]
    fields[place] = Asked
    Asked.reader = way.reader(*fields)
    alive = weakref.ref(Asked)
    del Asked, fields
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("name", ["home", "memory"])
def test_a_value_in_a_cycle_is_collected(name, way):
    for cls in (way.value, type("Ref", (way.value,), {"__slots__": ()})):
        ref = cls()
        setattr(ref, name, [ref])
        alive = weakref.ref(ref)
        del ref
        gc.collect()
        assert alive() is None


def test_a_value_dies_with_its_last_reference(setting):
    told: list[str] = []

    class Ending(setting.ref):
        __slots__ = ()

        def __del__(self) -> None:
            told.append("ended")

    recorder = setting.recorder(ref=Ending)
    ref = recorder()
    alive = weakref.ref(ref, lambda _: told.append("unseen"))
    assert alive() is ref
    del ref
    assert alive() is None
    assert sorted(told) == ["ended", "unseen"]


def test_a_view_shares_the_memory_of_the_value_that_it_is_of(setting):
    homes = tuple(HOMES[SPECS[0], length] for length in (None, 2, 3))
    asked = ("home", HOME), ("items", list, (("same", A), ("home", HOME)))
    recorder = setting.recorder(*asked, homes=homes, ragged=(False,) * 3, views=(1, None, 1), wrap=tuple)
    first, second = setting.value(HOME, 1), setting.value(HOME, 2)
    one, other, third = recorder(first, [A, second])
    assert first.memory is other.memory is None
    assert type(second.memory) is Token
    assert one.memory is third.memory is second.memory
    again, *_ = recorder(first, [A, second])
    assert again.memory is second.memory  # the one that there is
    handed_over = recorder(second, [B, first])
    assert handed_over == "otherwise"
    assert first.memory is None


def workload(setting: Setting) -> tuple[list[Any], Callable[[], None]]:
    """Objects, and what makes calls with them: recorded, handed over, and failing ones."""
    spec, length = Spec(), 1000  # Python makes a new object of it each time
    homes = [Home(spec, length), Home(spec), Home(Spec(), length)]
    things = [Thing(), Thing(), Thing()]
    text, odd, number = "ab c", "a bc", 10.0**20
    refs = [setting.value(home, 2**40 + k) for k, home in enumerate(homes)]
    entry = 2**40
    seen = {id(things[0]): entry}
    see = lambda thing: entry if thing is not things[2] else None  # noqa: E731
    see_number = lambda number: fail() if number == 1 else 2**41  # noqa: E731
    lists, tuples = [refs[1], things[0]], (refs[0], things[1])
    asked = (
        ("home", homes[1]), ("rows", spec), ("same", things[0]), ("constant", seen, see, None),
        ("constant", seen, see, {entry: length}), ("number", {}, see_number, float), ("plain", str, text),
        ("items", list, (("home", homes[1]), ("constant", seen, see, None))),
        ("items", tuple, (("rows", spec), ("constant", seen, see, None))),
    )  # fmt: skip
    made = {length: homes[0]}
    handed: Any = lambda *args, **kwargs: None  # noqa: E731
    several = {"homes": (made, homes[1], homes[2]), "ragged": (True, False, False), "fixed": False}
    recorders = [
        setting.recorder(*asked, questions={"x": asked[3], "y": asked[0]}, otherwise=handed, **changes)
        for changes in (
            {},
            {**several, "wrap": tuple},
            {**several, "wrap": lambda made: made},
            {**several, "wrap": fail},
            {"views": (0,)},
            {**several, "wrap": tuple, "views": (3, None, 0)},
            {"views": (1,), "memory": fail},
            {"still": lambda: False},
            {"still": fail},
            {"homes": (NoLengths(),), "ragged": (True,)},
            {"homes": (homes[0], NoLengths()), "ragged": (False, True), "wrap": tuple},
        )
    ]
    good = [refs[1], refs[0], things[0], things[0], things[1], number, text, lists, tuples]
    changed = [[*good[:k], other, *good[k + 1 :]] for k, other in enumerate(
        [refs[0], refs[2], things[1], things[2], things[2], 1.0, odd, [refs[1], things[2]], (refs[0], things[2])]
    )]  # fmt: skip
    bad = (
        "ref", setting.stream, 1, True, True, (("same", text),), (), (), (homes[1],), (False,), None, (None,), Token,
        handed, None,
    )  # fmt: skip
    number_tensor, shared_tensor, vector = Number(), Number(), Number("dim")
    tables: Any = {}, [], [], []
    guards = Guard(), Guard("exit")
    shared = {id(shared_tensor): shared_tensor}
    readers = [setting.way.reader(Number, "int", guard, shared, *tables) for guard in guards]

    def run() -> None:
        for recorder in recorders:
            for args in (good, *changed, good[1:]):
                with suppress(SomeError):
                    recorder(*args, x=things[0], y=refs[1])
            recorder(*good, y=things[0], x=refs[1])
            recorder(*good, x=things[2], z=refs[1])
        with suppress(TypeError):
            setting.way.recorder(*bad, handed, handed)
        with suppress(TypeError):
            setting.stream.extend([number, text])
        for reader in readers:
            for tensor in (number_tensor, shared_tensor, vector, text):
                with suppress(SomeError):
                    reader(tensor)
        for noted in (*tables, *[guard.log for guard in guards]):
            noted.clear()

    watched = [
        spec, length, *homes, *things, *refs, text, odd, number, entry, lists, tuples, good, seen, see, see_number,
        made, handed, number_tensor, shared_tensor, vector, *tables, shared, *guards, *readers, -1, 0, Number,
        Number.dtype, Number.value, setting.ref, setting.stream, *recorders, *asked, tuple, list, None, True, False,
        fail, SomeError,
    ]  # fmt: skip
    return watched, run


def test_no_reference_is_lost_or_kept(setting):
    watched, run = workload(setting)
    for _ in range(3):
        run()
    assert len(setting.stream)
    gc.collect()
    gc.disable()  # what is tracked is to be the calls' own doing
    try:
        before, tracked = [sys.getrefcount(thing) for thing in watched], len(gc.get_objects())
        for _ in range(100):  # of more than a hundred calls each
            run()
        after = [sys.getrefcount(thing) for thing in watched]
        gc_objects = len(gc.get_objects())
    finally:
        gc.enable()
    for thing, was, now in zip(watched, before, after, strict=True):
        assert abs(was - now) < 20, f"{thing!r} had {was} references and has {now}"
    assert abs(gc_objects - tracked) < 20


def test_no_memory_is_kept(way):
    def whole() -> None:
        for _ in range(20):
            _, run = workload(Setting(way))
            for _ in range(5):
                run()

    whole()
    gc.collect()
    tracemalloc.start()
    try:
        whole()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        whole()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 10_000


# Without a C compiler.

PROGRAM = """
import sys

sys.modules["bale.batching.trace._recording"] = None  # as where it was not compiled

import torch
from torch.utils._pytree import tree_leaves

import bale
from bale.batching.trace import recording, ref, stream
from bale.data import random_functions
from bale.models import BiLSTMTagger, ChildSumTreeLSTM

assert recording.Recorder is recording.PythonRecorder
assert recording.Reader is recording.PythonReader
assert ref.Ref.__mro__[1] is recording.PythonValue
assert stream.Stream is recording.PythonStream
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # for which no kernels are compiled
torch.manual_seed(0)
sentences = [torch.randint(9, (n,)) for n in (3, 5, 2, 5, 3, 7)]
trees = [tree for tree, _ in random_functions(5, 0, kinds=30)]
for model, samples in ((BiLSTMTagger(9, 3, 4, 4, layers=2), sentences), (ChildSumTreeLSTM(30, 3, 4), trees)):
    batched = bale.batch(model)
    parameters = list(model.parameters())
    for _ in range(3):
        found, wanted = batched(samples), [model(sample) for sample in samples]
        torch.testing.assert_close(found, wanted)
        losses = [sum(leaf.square().sum() for leaf in tree_leaves(outputs)) for outputs in (found, wanted)]
        torch.testing.assert_close(*[torch.autograd.grad(loss, parameters) for loss in losses])
print("equal")
"""


def test_batching_does_the_same_without_the_c_module(tmp_path):
    paths = [str(Path(bale.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout
