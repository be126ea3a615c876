"""A learned policy does what its table says, leaves to height what it does not hold, and is the same from a file."""

import json
import pickle
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from plain_policies import batches_of, table_steps
from random_graphs import chain, drawn, graphs, side_by_side
from test_frontier import reversed_graph

from bale.batching.graph import Graph
from bale.batching.schedule import Encoding, Policy, lower_bound, make_schedule
from bale.batching.schedule.encoding import SURE
from bale.batching.schedule.fingerprint import TypeKey, type_keys
from bale.batching.schedule.height import Variant, by_height
from bale.batching.schedule.learn import learn
from bale.batching.schedule.qlearning import QLearning
from bale.batching.schedule.states import NEW
from bale.batching.schedule.transitions import learned_transitions, transitions
from bale.errors import PolicyError

# A few samples over three types, in whose states every encoding meets ties and waits.
LESSON = side_by_side(
    chain([0, 1, 0, 2]),
    chain([1, 1, 0]),
    chain([2, 0, 1, 1]),
    Graph.of([0, 1, 0, 0, 2, 1], [[], [], [1], [1, 0], [2, 3], [3]]),
    Graph.of([1, 0, 2, 0], [[], [0], [0, 0], [1, 2]]),
)

every_way = pytest.mark.parametrize("backward", [False, True], ids=["forward", "reversed"])
every_encoding = pytest.mark.parametrize("encoding", Encoding, ids=str)


@cache
def learned(encoding, backward):
    return learn([LESSON], encoding, QLearning(episodes=60, every=20), backward=backward, seed=1)


def unknown_nodes(policy, graph):
    """How many nodes of a graph are of types that come after the policy's."""
    return int((graph.type >= len(policy.types)).sum())


def plain_steps(policy, graph):
    """What the table makes of a graph whose types have the policy's numbers: the type and the state of each step."""
    table = dict(zip(policy.states, policy.choices, strict=True))
    return table_steps(reversed_graph(graph) if policy.backward else graph, str(policy.encoding), table)


def expected(policy, graph):
    """The batches of those steps, and how many of them height had to choose."""
    kinds, places = zip(*plain_steps(policy, graph), strict=True) if len(graph) else ((), ())
    return batches_of(graph, kinds[::-1] if policy.backward else kinds), places.count("unseen")


@every_encoding
@every_way
@drawn
@given(graphs())
def test_a_policy_runs_what_its_table_says(encoding, backward, graph):
    # Graphs are random, of types 0 to 3, so that many states and at times the type 3 are new.
    policy = learned(encoding, backward)
    if 2 * unknown_nodes(policy, graph) > len(graph):
        with pytest.raises(PolicyError, match="learned on another network"):
            policy(graph)
        return
    schedule = policy(graph)
    schedule.check(graph)
    assert ([batch.tolist() for batch in schedule], schedule.unseen) == expected(policy, graph)
    assert schedule.policy == policy.name == f"fsm-{encoding}{' (reversed)' if backward else ''}"
    assert len(schedule) >= lower_bound(graph)
    kinds, states = (part.tolist() for part in policy.steps(graph))
    places = [{NEW: "unseen", SURE: "sure"}.get(state) or policy.states[state] for state in states]
    assert list(zip(kinds, places, strict=True)) == plain_steps(policy, graph)


@every_way
@drawn
@given(graphs(max_nodes=24))
def test_without_a_table_height_chooses(backward, graph):
    # Shares are left out: of several types that are sure they run the first, and height the one of highest soft share.
    height = by_height(graph, Variant.SURE_FIRST, backward)
    for encoding in (Encoding.BASE, Encoding.MAX, Encoding.SORT):
        schedule = Policy(type_keys(graph.types), encoding, backward, (), ())(graph)
        schedule.check(graph)
        assert np.array_equal(schedule.batch_type, height.batch_type)
        assert np.array_equal(schedule.order, height.order)
        assert schedule.unseen >= len(schedule)  # a reversed sequence may have steps to spare


@every_encoding
@every_way
def test_on_its_own_lesson_a_policy_meets_nothing_new(encoding, backward):
    policy = learned(encoding, backward)
    schedule = policy(LESSON)
    assert schedule.unseen == 0
    assert len(schedule) == policy.learned["batches"]
    assert set(policy.learned) == {"mini_batches", "nodes", "bound", "batches", "episodes", "seed", "transitions"}
    assert policy.learned["nodes"] == len(LESSON)
    assert policy.learned["bound"] == lower_bound(LESSON)


@every_encoding
@every_way
def test_transitions_are_the_steps_of_the_last_run(encoding, backward):
    policy = learned(encoding, backward)
    numbers = {state: number for number, state in enumerate(policy.states)}
    path = [f"sure {kind}" if place == "sure" else numbers[place] for kind, place in plain_steps(policy, LESSON)]
    assert policy.learned["transitions"] == transitions(policy, [LESSON])
    counted = {(source, target): count for source, target, count in policy.learned["transitions"]}
    assert counted == Counter(pairwise(["begin", *path, "end"]))
    twice = {(source, target): count for source, target, count in transitions(policy, [LESSON, LESSON])}
    assert twice == {pair: 2 * count for pair, count in counted.items()}


@pytest.mark.parametrize(
    "row", [["begin", 99, 1], [-1, 0, 1], ["begin", "middle", 1], ["sure 9", "end", 1], [0, 0, 0], [0, 0, 0.5], [0, 0]]
)
def test_transitions_that_are_none_are_refused(row):
    policy = learned(Encoding.SORT, False)
    kept = [["begin", 0, 1], row]
    with pytest.raises(PolicyError, match=r"learned\.transitions\[1\] is .*; expected two places of this policy"):
        learned_transitions(replace(policy, learned={"transitions": kept}))
    assert learned_transitions(replace(policy, learned={})) == ()
    assert learned_transitions(policy) == policy.learned["transitions"]


def test_transitions_tell_what_height_chose_and_come_in_order():
    policy = Policy(type_keys(LESSON.types), Encoding.BASE, False, ((0,), (1,)), (1, 1))
    graph = replace(chain([0, 1, 0, 1]), types=LESSON.types)
    assert transitions(policy, [graph]) == (("begin", "unseen", 1), (1, "unseen", 1), (1, "end", 1), ("unseen", 1, 2))


def test_a_choice_that_is_not_ready_is_left_to_height():
    policy = Policy(type_keys(LESSON.types), Encoding.BASE, False, ((0,), (1,)), (1, 1))
    graph = chain([0, 0, 1])
    assert policy(replace(graph, types=LESSON.types)).unseen == 2
    kinds, states = policy.steps(replace(graph, types=LESSON.types))
    assert (kinds.tolist(), states.tolist()) == ([0, 0, 1], [NEW, NEW, 1])


def test_types_are_known_by_what_they_are_not_by_their_numbers():
    policy = learned(Encoding.SORT, False)
    for order in ([2, 0, 1], [1, 2, 0], [2, 1, 0]):
        number = np.argsort(order)  # type k of the lesson is type number[k] of the other graph
        other = replace(
            LESSON, types=tuple(LESSON.types[kind] for kind in order), type=number[LESSON.type].astype(np.int32)
        )
        schedule = policy(other)
        schedule.check(other)
        assert np.array_equal(schedule.order, policy(LESSON).order)
        assert schedule.batch_type.tolist() == number[policy(LESSON).batch_type].tolist()


def test_a_type_that_the_graph_lacks_is_not_missed():
    policy = learned(Encoding.SHARE, False)
    graph = Graph.of([0, 0, 1, 1], [[], [0], [1], [2]], names=("2", "0"))
    policy(graph).check(graph)
    assert policy(Graph.of([], [])).order.size == 0


@pytest.mark.parametrize("encoding", [Encoding.BASE, Encoding.SHARE], ids=str)
def test_a_new_type_is_fine_while_few_nodes_have_it(encoding):
    policy = learned(encoding, False)
    graph = side_by_side(LESSON, chain([0, 3]))
    schedule = policy(graph)
    schedule.check(graph)
    assert ([batch.tolist() for batch in schedule], schedule.unseen) == expected(policy, graph)
    assert schedule.unseen > 0 and "choices left to height" in str(schedule)
    # half of the nodes are still no majority
    policy(chain([0, 3, 1, 3])).check(chain([0, 3, 1, 3]))


def test_another_network_is_refused_by_name():
    policy = learned(Encoding.SHARE, False)
    other = Graph.of([0, 1, 1], [[], [0], [1]], names=("0", "cell"))
    with pytest.raises(PolicyError, match=r"another network: 2 of 3 nodes .*\(cell\); it knows 0, 1, 2\. Learn one"):
        policy(other)
    with pytest.raises(PolicyError, match="another network"):
        policy.steps(other)
    with pytest.raises(PolicyError, match="another network"):
        make_schedule(other, policy)


def test_arrays_may_be_read_only():
    graph = side_by_side(LESSON, chain([0, 1]))
    frozen = pickle.loads(pickle.dumps(graph))
    for array in (frozen.type, frozen.part_start, frozen.part_value, frozen.slot_start, frozen.value_start):
        array.flags.writeable = False
    for way in (False, True):
        assert learned(Encoding.SHARE, way)(frozen) == learned(Encoding.SHARE, way)(graph)


@every_encoding
@every_way
def test_a_file_holds_the_policy(encoding, backward, tmp_path):
    policy = learned(encoding, backward)
    path = tmp_path / "policy.json"
    policy.save(path)
    again = Policy.load(str(path))
    assert again == policy
    assert again.learned == json.loads(json.dumps(policy.learned))
    assert (again.name, str(again)) == (policy.name, str(policy))
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    for graph in (LESSON, chain([0, 1, 2, 3]), side_by_side(LESSON, LESSON, chain([3, 1]))):
        assert again(graph) == policy(graph)
    assert pickle.loads(pickle.dumps(again)) == policy


@every_encoding
def test_a_file_is_for_people_too(encoding, tmp_path):
    policy = learned(encoding, False)
    policy = replace(policy, types=tuple(TypeKey(f"cell {key.name}", key.fingerprint) for key in policy.types))
    policy.save(tmp_path / "policy.json")
    lines = [line for line in (tmp_path / "policy.json").read_text().splitlines() if '"state":' in line]
    assert len(lines) == len(policy.states)
    for line, state, choice in zip(lines, policy.states, policy.choices, strict=True):
        row = json.loads(line.strip().rstrip(","))
        assert (row["state"], row["run"]) == (list(state), choice)
        assert row["means"].endswith(f": cell {choice}")
        assert all(f"cell {kind}" in row["means"] for kind in kinds_of(encoding, state))


def kinds_of(encoding, state):
    return [code // 2 for code in state] if encoding == Encoding.SHARE else state


def test_a_policy_without_states_has_a_file_too(tmp_path):
    policy = Policy((), Encoding.BASE, True, (), ())
    policy.save(tmp_path / "policy.json")
    assert Policy.load(tmp_path / "policy.json") == policy


def changed(**fields):
    return lambda file: {**file, **fields}


def without(name):
    return lambda file: {key: value for key, value in file.items() if key != name}


def with_state(**fields):
    return lambda file: {**file, "states": [{**file["states"][0], **fields}, *file["states"][1:]]}


DAMAGED = {
    "nothing": (lambda file: None, 'is no policy: expected an object whose "format" is "bale policy"'),
    "a list": (lambda file: [file], "is no policy"),
    "another format": (changed(format="checkpoint"), "is no policy"),
    "no format": (without("format"), "is no policy"),
    "another version": (changed(version=2), "is of version 2; this bale reads version 1: learn it again"),
    "no version": (without("version"), "is of version None"),
    "an unknown encoding": (changed(encoding="luck"), "encoding 'luck' is unknown; known are base, max, sort, share"),
    "a number as encoding": (changed(encoding=3), "encoding is 3; expected a string"),
    "no encoding": (without("encoding"), "encoding is missing"),
    "a word as direction": (changed(backward="false"), 'backward is "false"; expected true or false'),
    "no direction": (without("backward"), "backward is missing"),
    "no facts": (without("learned"), "learned is missing"),
    "a list of facts": (changed(learned=[1]), "learned is [1]; expected an object"),
    "no types": (without("types"), "types is missing"),
    "types as an object": (changed(types={}), "types is {}; expected a list"),
    "a type as a name": (changed(types=["leaf"]), 'types[0] is "leaf"; expected an object'),
    "a type without fingerprint": (changed(types=[{"name": "leaf"}]), "types[0].fingerprint is missing"),
    "a type without operands": (changed(types=[{"name": "leaf", "fingerprint": "f"}]), "types[0].reads is missing"),
    "a type with a number": (changed(types=[{"name": 3, "fingerprint": "f"}]), "types[0].name is 3; expected a string"),
    "too few types": (lambda file: {**file, "types": file["types"][:1]}, "expected some of the integers 0 to "),
    "a type twice": (
        lambda file: {**file, "types": [file["types"][0], *file["types"][:2]]},
        "types[1] (0) has the fingerprint of an earlier one",
    ),
    "no states": (without("states"), "states is missing"),
    "null as states": (changed(states=None), "states is null; expected a list"),
    "a state as a list": (changed(states=[[0]]), "states[0] is [0]; expected an object"),
    "a state without choice": (lambda file: {**file, "states": [{"state": [0]}]}, "states[0].run is missing"),
    "a word as choice": (with_state(run="leaf"), 'states[0].run is "leaf"; expected an integer'),
    "true as choice": (with_state(run=True), "states[0].run is true; expected an integer"),
    "a choice too high": (with_state(run=3), "states[0] runs type 3, but there are types 0 to 2"),
    "a choice too low": (with_state(run=-1), "states[0] runs type -1, but there are types 0 to 2"),
    "a state of words": (with_state(state=["leaf"]), 'states[0].state[0] is "leaf"; expected an integer'),
    "a state of halves": (with_state(state=[0, 0.5]), "states[0].state[1] is 0.5; expected an integer"),
    "a number as state": (with_state(state=0), "states[0].state is 0; expected a list"),
    "a state of no type": (with_state(state=[10**30]), f"states[0] is [{10**30}]; expected some of the integers 0 to"),
    "an empty state": (with_state(state=[]), "states[0] is []; expected some of the integers 0 to"),
    "a state twice": (
        lambda file: {**file, "states": [*file["states"], file["states"][0]]},
        "is an earlier one once more",
    ),
}


@pytest.mark.parametrize("encoding", [Encoding.MAX, Encoding.SHARE], ids=str)
@pytest.mark.parametrize(("damage", "problem"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_says_where(damage, problem, encoding, tmp_path):
    path = tmp_path / "policy.json"
    learned(encoding, False).save(path)
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(PolicyError) as error:
        Policy.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not the JSON of a policy"),
        (b'{"format": "bale policy", "ver', "is not the JSON of a policy"),
        (b"[" * 100_000, "is not the JSON of a policy"),
        (b"\x80\x02}q\x00.", "is no policy"),
    ],
    ids=["empty", "cut off", "brackets", "binary"],
)
def test_a_file_of_something_else(content, problem, tmp_path):
    (tmp_path / "policy.json").write_bytes(content)
    with pytest.raises(PolicyError, match=f"policy.json: {problem}"):
        Policy.load(tmp_path / "policy.json")


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(PolicyError, match=r"none\.json: cannot be read: No such file"):
        Policy.load(tmp_path / "none.json")
    with pytest.raises(PolicyError, match="cannot be read: Is a directory"):
        Policy.load(tmp_path)
    with pytest.raises(PolicyError, match="cannot be written: No such file"):
        learned(Encoding.BASE, False).save(tmp_path / "none" / "policy.json")


def test_a_policy_by_hand_is_checked_too():
    keys = (TypeKey("leaf", "a"), TypeKey("inner", "b"))
    with pytest.raises(PolicyError, match="there are 2 states, but 1 choices"):
        Policy(keys, Encoding.BASE, False, ((0,), (1,)), (0,))
    with pytest.raises(PolicyError, match=r"states\[0\] is \[4\]; expected some of the integers 0 to 3"):
        Policy(keys, Encoding.SHARE, False, ((4,),), (0,))
