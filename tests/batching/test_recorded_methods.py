"""Method, Switch and rows_from: in C and in Python they lead to the same recorders, and keep no memory."""

from __future__ import annotations

import gc
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.batching.recorded_calls import IS_COMPILED
from torch.overrides import TorchFunctionMode

from bale.batching.trace import recording

compiled = pytest.mark.skipif(not IS_COMPILED, reason="_recording.c is not compiled: only the Python classes are there")
PYTHON = SimpleNamespace(
    value=recording.PythonValue, method=recording.PythonMethod, switch=recording.PythonSwitch,
    rows_from=recording.python_rows_from,
)  # fmt: skip
C = SimpleNamespace(
    value=recording.Value, method=recording.Method, switch=recording.Switch, rows_from=recording.rows_from
)


@pytest.fixture(params=["Python", pytest.param("C", marks=compiled)])
def way(request: pytest.FixtureRequest) -> Any:
    return {"Python": PYTHON, "C": C}[request.param]


def told(name: str) -> Any:
    return lambda *args, **kwargs: (name, args, kwargs)


class World:
    """A class of values with one method, `double`, and a trace in which a recorder for it is known."""

    def __init__(self, way: Any):
        method = way.method(abs, told("otherwise"))
        self.ref = type("Ref", (way.value,), {"__slots__": (), "double": method, "__add__": method})
        self.trace = SimpleNamespace(quick=True, functions={abs: told("recorder")})
        self.value = self.ref()
        self.value.home, self.value.part, self.value.memory = SimpleNamespace(trace=self.trace), 1, None


@pytest.fixture
def world(way: Any) -> World:
    return World(way)


def test_a_method_asks_the_recorder_with_all_that_it_is_given(world):
    value = world.value
    assert value.double() == ("recorder", (value,), {})
    assert value.double(2, key=3) == ("recorder", (value, 2), {"key": 3})
    assert world.ref.double(value, 2) == ("recorder", (value, 2), {})
    bound = value.double
    assert bound(2) == ("recorder", (value, 2), {})
    assert value + 5 == ("recorder", (value, 5), {})


@pytest.mark.parametrize("change", [{"quick": False}, {"quick": 1}, {"functions": {}}], ids=str)
def test_a_method_goes_the_other_way_where_nothing_may_be_recorded_at_once(change, world):
    vars(world.trace).update(change)
    assert world.value.double(2, key=3) == ("otherwise", (world.value, 2), {"key": 3})


def test_a_methods_error_is_that_of_what_it_asked(world):
    world.trace.functions[abs] = fail
    with pytest.raises(ZeroDivisionError):
        world.value.double()
    del world.trace.functions
    with pytest.raises(AttributeError, match="functions"):
        world.value.double()
    del world.trace.quick
    with pytest.raises(AttributeError, match="quick"):
        world.value.double()


def fail(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


def mode_of(way: Any, world: World) -> Any:
    class Mode(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.__torch_function__ = way.switch(world.ref, world.trace, self.__torch_function__)

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return "otherwise", function, args, kwargs or {}

    return Mode()


def test_a_switch_is_the_torch_function_of_its_mode(way, world):
    world.ref.__torch_function__ = classmethod(told("no mode"))
    world.trace.functions = {torch.stack: told("recorder")}
    value, ones = world.value, torch.ones(2)
    with mode_of(way, world):
        assert torch.stack([value]) == ("recorder", ([value],), {})
        assert torch.stack([value], dim=1) == ("recorder", ([value],), {"dim": 1})
        assert torch.sigmoid(value) == ("otherwise", torch.sigmoid, (value,), {})
        assert torch.softmax(value, dim=1) == ("otherwise", torch.softmax, (value,), {"dim": 1})
        assert torch.stack([ones])[:2] == ("otherwise", torch.stack)  # without a value of the trace
        world.trace.quick = False
        assert torch.stack([value]) == ("otherwise", torch.stack, ([value],), {})
        world.trace.functions[torch.stack], world.trace.quick = fail, True
        with pytest.raises(ZeroDivisionError):
            torch.stack([value])
    assert torch.stack([ones]).shape == (1, 2)


def test_a_switch_takes_no_types_for_a_tuple_of_them(way, world):
    world.trace.functions = {torch.stack: told("recorder")}
    mode = mode_of(way, world)
    for types in ([world.ref], (world.ref,)):
        found = mode.__torch_function__(torch.stack, types, (1,), {})
        assert found[0] in ("recorder", "otherwise")
    assert mode.__torch_function__(torch.stack, (int,), (1,)) == ("otherwise", torch.stack, (1,), {})
    assert mode.__torch_function__.__self__ is mode


def test_a_mode_with_a_switch_is_collected(way, world):
    mode = mode_of(way, world)
    world.trace.mode = mode
    alive = weakref.ref(mode)
    del mode, world.trace.mode
    gc.collect()
    assert alive() is None


def test_rows_follow_the_first_one(way, world):
    first = world.value
    first.memory = shared = object()
    rows = way.rows_from(first, 3, 10)
    assert [row.part for row in rows] == [1, 11, 21]
    assert rows[0] is first
    assert all(type(row) is world.ref and row.home is first.home and row.memory is shared for row in rows)
    first.memory = None
    assert way.rows_from(first, 2, 1)[1].memory is None
    with pytest.raises(ValueError, match="at least"):
        way.rows_from(first, 0, 1)


@compiled
def test_rows_are_those_of_a_value():
    value = World(C).value
    for given in ((value, 2), (5, 2, 1), (value, "2", 1), (value, 2, None)):
        with pytest.raises(TypeError):
            recording.rows_from(*given)
    with pytest.raises(OverflowError):
        recording.rows_from(value, 2, 2**70)


@compiled
def test_what_methods_and_switches_need_is_asked_for():
    for cls in (recording.Method, recording.Switch):
        with pytest.raises(TypeError):
            cls()  # pyright: ignore[reportCallIssue]


def test_no_reference_is_lost_or_kept(way, world):
    value, mode = world.value, mode_of(way, world)
    number, home, recorder = 10.0**20, world.value.home, world.trace.functions[abs]
    world.trace.functions[torch.stack] = recorder
    watched = [value, number, home, world.trace, world.ref, recorder, mode, world.trace.functions, None, True]

    def run() -> None:
        for quick in (True, False):
            world.trace.quick = quick
            value.double(number, key=number)
            assert value + number is not None
            mode.__torch_function__(torch.stack, (world.ref,), (value, number), {"key": number})
            mode.__torch_function__(torch.stack, (world.ref,), (value,))
            mode.__torch_function__(torch.stack, (int,), (value,), {})
            way.rows_from(value, 5, 7)

    run()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in watched]
    for _ in range(100):
        run()
    for thing, was in zip(watched, before, strict=True):
        assert abs(sys.getrefcount(thing) - was) < 20, thing
