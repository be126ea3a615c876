"""Gatherer: stacks and reductions of values that look alike are recorded at once, all else is handed over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.batching.recorded_calls import IS_COMPILED

from bale.batching.trace import recording

WAYS = {"Python": (recording.PythonGatherer, recording.PythonStream, recording.PythonValue)}
if IS_COMPILED:
    WAYS["C"] = (recording.Gatherer, recording.Stream, recording.Value)
HANDED_OVER = object()
HOME, OTHER, UNKNOWN = object(), object(), object()
BY_LENGTH = {1: "one", 2: "two", 3: "three"}


@pytest.fixture(params=WAYS)
def gathering(request: pytest.FixtureRequest) -> Any:
    """(stacker, reducer, value, numbers written so far)"""
    gatherer, stream_class, value_class = WAYS[request.param]
    ref = type("Ref", (value_class,), {"__slots__": ()})
    stream = stream_class()
    stream.extend([7, 7])

    def value(part: int, home: Any = HOME) -> Any:
        made = ref()
        made.home, made.part = home, part
        return made

    def otherwise(*args: Any, **kwargs: Any) -> Any:
        return HANDED_OVER, args, kwargs

    def written() -> list[int]:
        return np.frombuffer(stream.tobytes(), np.int64).tolist()[2:]

    grad = [True]
    stacker = gatherer(ref, stream, True, {HOME: (4, BY_LENGTH)}, {}, otherwise, lambda: grad[0])
    reducer = gatherer(ref, stream, False, {HOME: (5, "sum")}, {OTHER: (6, "cut")}, otherwise, lambda: grad[0])
    return stacker, reducer, value, written, grad


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("axis", [(), (0,)])
def test_stacks(gathering: Any, kind: type, axis: tuple[int, ...]) -> None:
    stacker, _, value, written, _ = gathering
    ref = stacker(kind([value(11), value(12 + (3 << 32)), value(11)]), *axis)
    assert (ref.home, ref.part, ref.memory) == ("three", 2, None)
    assert written() == [4, 3, 3, 11, 12 + (3 << 32), 11]


def test_reductions_by_grad_mode(gathering: Any) -> None:
    _, reducer, value, written, grad = gathering
    ref = reducer(value(9), 0)
    assert (ref.home, ref.part, ref.memory) == ("sum", 2, None)
    grad[0] = False
    assert reducer(value(9), 0)[0] is HANDED_OVER
    assert reducer(value(8, OTHER), 0).home == "cut"
    assert written() == [5, 1, 1, 9, 6, 1, 1, 8]


def test_everything_else_is_handed_over_as_it_is(gathering: Any) -> None:
    stacker, reducer, value, written, _ = gathering
    ours = value(1)
    calls = [
        (stacker, ([ours], 1), {}), (stacker, ([ours], False), {}), (stacker, ([ours], 2**70), {}),
        (stacker, ([ours],), {"dim": 0}), (stacker, ([],), {}), (stacker, (), {}), (stacker, (ours,), {}),
        (stacker, ([ours, value(1, OTHER)],), {}), (stacker, ([ours, 3],), {}), (stacker, ([3, ours],), {}),
        (stacker, ([value(1, UNKNOWN)],), {}), (stacker, ([ours], 0, 0), {}), (stacker, (iter([ours]),), {}),
        (reducer, (ours,), {}), (reducer, (ours, 1), {}), (reducer, (ours, True), {}), (reducer, (3, 0), {}),
        (reducer, (ours, 0), {"keepdim": True}), (reducer, (value(1, UNKNOWN), 0), {}), (reducer, ([ours], 0), {}),
    ]  # fmt: skip
    for gatherer, args, kwargs in calls:
        mark, given, named = gatherer(*args, **kwargs)
        assert mark is HANDED_OVER
        assert all(a is b for a, b in zip(given, args, strict=True))
        assert named == kwargs
    assert written() == []


def test_a_new_length_is_handed_over(gathering: Any) -> None:
    stacker, _, value, written, _ = gathering
    assert stacker([value(1)] * 4)[0] is HANDED_OVER
    assert written() == []


def test_an_error_on_the_way_leaves_the_stream_whole(gathering: Any) -> None:
    stacker, _, value, written, grad = gathering
    grad.clear()
    with pytest.raises(IndexError):
        stacker([value(1)])
    assert written() == []
