"""Tables of policies fit a terminal and hold what they should; what programs read holds the same."""

import io
import json
from dataclasses import replace
from functools import cache

import pytest
from rich.console import Console

from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, Encoding
from bale.batching.schedule.compare import compare_policies
from bale.batching.schedule.fingerprint import TypeKey
from bale.batching.schedule.learn import learn
from bale.batching.schedule.qlearning import QLearning
from bale.batching.schedule.transitions import transitions
from bale.report import comparison_table, policy_dict, policy_facts, policy_table

GRAPH = Graph.of([0, 1, 0, 1, 1, 0, 2, 1], [[], [0], [1], [], [3], [4], [2, 5], [6]], names=("leaf", "inner", "head"))


@cache
def learned(encoding=Encoding.SORT):
    policy = learn([GRAPH], encoding, QLearning(episodes=40, every=10), backward=False)
    # with names as long as real ones, two of them equal
    said = (("layers.0.character (Arc)", "row"), ("layers.0.character (Arc)", ""), ("head (Linear)", "row"))
    keys = [TypeKey(name, key.fingerprint, reads) for key, (name, reads) in zip(policy.types, said, strict=True)]
    facts = {"task": {"data": "identifiers", "model": "lattice-lstm", "hidden": 32, "limit": 100}, "batch_size": 64}
    return replace(policy, types=tuple(keys), learned={**policy.learned, **facts})


def printed(renderable, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("encoding", Encoding, ids=str)
def test_a_policy_fits_the_terminal(encoding, width):
    text = printed(policy_table(learned(encoding), every=True), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text  # nothing is cut off


def test_a_policy_says_what_is_known_of_it():
    text = " ".join(printed(policy_facts(learned()), 120).split())
    facts = learned().learned
    assert f"fsm-sort: {len(learned().states)} states over 3 types of calls" in text
    assert "from the first batch to the last" in text
    assert "identifiers, 100 samples; lattice-lstm, hidden 32" in text
    assert "on 1 mini-batch of 64 samples, 8 nodes" in text
    assert f"{facts['batches']} there; at least {facts['bound']} are needed" in text
    bare = printed(policy_facts(replace(learned(), learned={}, backward=True)))
    assert "from the last batch to the first" in bare and len(bare.splitlines()) == 2


def test_states_come_with_how_often_they_were_met():
    policy = learned()
    states = policy_dict(policy)["states"]
    lines = printed(policy_table(policy), 120).splitlines()
    met = [state for state in states if state["times"]]
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    others = len(states) - len(met)
    assert len(rows) == len(met) + bool(others)
    assert [int(row[0]) for row in rows][: len(met)] == sorted((state["times"] for state in met), reverse=True)
    assert sum(state["times"] for state in met) == len(policy(GRAPH))
    assert ("others" in lines[-1] or f"the other {others} states" in lines[-1]) == bool(others)
    every = [line for line in printed(policy_table(policy, every=True), 120).splitlines() if line.strip()[:1].isdigit()]
    assert len(every) == len(states)


def test_other_transitions_count_other_times():
    policy = learned()
    policy = replace(policy, states=policy.states[::2], choices=policy.choices[::2])  # so that it lacks some
    other = Graph.of([2, 0, 1, 0], [[], [], [0], [2]], names=("leaf", "inner", "head"))
    found = policy_dict(policy, transitions(policy, [other]))
    assert found["unseen"] + sum(state["times"] for state in found["states"]) == len(policy(other))
    assert found["unseen"] == policy(other).unseen > 0
    assert "(not in the table)" in printed(policy_table(policy, transitions(policy, [other])))


def test_sure_types_have_lines_of_their_own():
    policy = learned(Encoding.SHARE)
    found = policy_dict(policy)
    times = sum(row["times"] for row in found["sure"]) + sum(row["times"] for row in found["states"])
    assert times + found["unseen"] == len(policy(GRAPH))
    assert "(sure to shorten what remains)" in printed(policy_table(policy))


def test_without_transitions_all_states_are_shown():
    policy = replace(learned(), learned={})
    text = printed(policy_table(policy), 120)
    assert len([line for line in text.splitlines() if " (ready" not in line and line.startswith("       ")]) >= len(
        policy.states
    )


def test_what_programs_read_is_json():
    policy = learned()
    found = json.loads(json.dumps(policy_dict(policy)))
    assert found["types"] == [
        "layers.0.character (Arc) from row",
        "layers.0.character (Arc) from constants",
        "head (Linear)",
    ]
    assert (found["policy"], found["encoding"], found["backward"]) == ("fsm-sort", "sort", False)
    assert len(found["states"]) == len(policy.states)
    assert "transitions" not in found["learned"]
    assert all(state["run"] in found["types"] for state in found["states"])


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_comparison_fits_the_terminal(count):
    comparison = compare_policies(
        [GRAPH] * count, {**POLICIES, "a-rather-long-name.json": POLICIES["depth"]}, repeats=1
    )
    text = printed(comparison_table(comparison))
    assert all(len(line) <= 80 for line in text.splitlines())
    title, heading, bound, *rows = text.splitlines()
    assert f"batches of {count} mini-batch{'es' if count > 1 else ''} held out, {8 * count} nodes" in title
    assert [row.split()[0] for row in rows] == [*POLICIES, "a-rather-long-name.json"]
    each = heading.split()[1 : heading.split().index("total")]
    assert each == ([str(k + 1) for k in range(count)] if count <= 4 else ["fewest", "most"])
    assert bound.split()[2 : 2 + len(each)] == [str(comparison.bound[0])] * len(each)
