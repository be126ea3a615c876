"""The hash table of states is a dict from rows of integers to 0, 1, 2, ..., however often it grows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import drawn

from bale.batching.schedule.states import NEW, States, add, find, with_room

# Few integers, so that rows come again and are beginnings of one another; the ends of int32 among them.
rows = st.lists(st.sampled_from([0, 1, 2, 2**31 - 1, -1, -(2**31)]), max_size=4).map(tuple)


def padded(row):
    """A row as policies pass it: the beginning of a longer buffer, whose rest means nothing."""
    return np.array([*row, 7, 7, 7], np.int32), len(row)


@drawn
@given(st.lists(st.tuples(st.booleans(), rows), max_size=60))
def test_it_is_a_dict(steps):
    states, numbers = States.empty(), {}
    for adds, row in steps:
        if adds:
            states = with_room(states, 1, len(row))
            assert add(states, *padded(row)) == numbers.setdefault(row, len(numbers))
        else:
            assert find(states, *padded(row)) == numbers.get(row, NEW)
        assert states.rows() == list(numbers)
    assert all(find(states, *padded(row)) == number for row, number in numbers.items())


@drawn
@given(st.lists(rows, unique=True, max_size=30), rows)
def test_a_table_of_given_rows_holds_them_and_no_other(given_rows, other):
    states = States.of(given_rows)
    assert states.rows() == given_rows
    assert [find(states, *padded(row)) for row in given_rows] == list(range(len(given_rows)))
    assert find(states, *padded(other)) == (given_rows.index(other) if other in given_rows else NEW)


@drawn
@given(st.lists(rows, unique=True, max_size=12), st.integers(0, 12), st.integers(0, 30))
def test_room_is_made_only_where_it_lacks(given_rows, more, items):
    states = States.of(given_rows)
    larger = with_room(states, more, items)
    assert larger.rows() == given_rows
    assert larger.start.size - 1 >= len(given_rows) + more
    assert larger.item.size >= sum(map(len, given_rows)) + items
    assert 2 * (larger.start.size - 1) <= larger.slot.size or larger is states
    assert with_room(larger, more, items) is larger
    assert states.rows() == given_rows  # the smaller one stays as it was


def test_thousands_of_rows():
    # All rows of one to five integers below six: far more than slots at first, and hashes that must share slots.
    all_rows = [row for size in range(1, 6) for row in np.ndindex(*[6] * size)]
    states = States.empty()
    for number, row in enumerate(all_rows):
        states = with_room(states, 1, len(row))
        assert add(states, *padded(row)) == number
    assert states.rows() == all_rows
    assert 2 * len(all_rows) <= states.slot.size <= 16 * len(all_rows)
    assert all(find(states, *padded(row)) == number for number, row in enumerate(all_rows))
    assert find(states, *padded((6,))) == find(states, *padded(())) == NEW
