"""A picture of a policy has a box for each state and an arrow for each transition; one of a schedule, a bar a batch."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, Encoding, Policy, Schedule
from bale.batching.schedule.learn import learn
from bale.batching.schedule.qlearning import QLearning
from bale.batching.schedule.transitions import transitions
from bale.errors import PolicyError
from bale.report import draw_policy, draw_schedule

NAMES = ("leaf (Leaf)", "inner (Inner)", "head (Linear)")


@cache
def lattices(samples):
    """A few random graphs of three types beside one another."""
    rng = np.random.default_rng(samples)
    types, operands = [], []
    for _ in range(samples):
        first = len(types)
        for node in range(12):
            types.append(int(rng.integers(0, 3)))
            operands.append((first + rng.integers(0, node, rng.integers(1, 3))).tolist() if node else [])
    return Graph.of(types, operands, names=NAMES)


def chain(types):
    return Graph.of(types, [[node - 1] if node else [] for node in range(len(types))], names=NAMES)


@cache
def learned(encoding=Encoding.SORT):
    return learn([lattices(4)], encoding, QLearning(episodes=40, every=10), backward=False)


def boxes(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]


def arrows(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def texts(figure):
    return Counter(text.get_text() for text in figure.axes[0].texts)


@pytest.mark.parametrize("encoding", Encoding, ids=str)
def test_every_place_has_a_box_and_every_transition_an_arrow(encoding):
    policy = learned(encoding)
    found = policy.learned["transitions"]
    figure = draw_policy(policy, most=1000)
    assert isinstance(figure, Figure)
    places = {place for source, target, _ in found for place in (source, target)}
    assert len(boxes(figure)) == len(places)
    assert len(arrows(figure)) == len(found)
    written = texts(figure)
    assert all(written[str(count)] >= times for count, times in Counter(count for *_, count in found).items())
    heads = Counter(NAMES[policy.choices[place]].split(" ")[0] for place in places if isinstance(place, int))
    assert all(written[name] >= times for name, times in heads.items())
    assert written["begin"] == written["end"] == 1


def test_boxes_lie_inside_of_the_picture_and_beside_one_another():
    figure = draw_policy(learned(), most=1000)
    width, height = figure.get_size_inches()
    areas = [(box.get_x(), box.get_y(), box.get_width(), box.get_height()) for box in boxes(figure)]
    for k, (x, y, w, h) in enumerate(areas):
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
        for a, b, c, d in areas[:k]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y


def test_arrows_are_the_thicker_the_more_often_they_were_taken():
    policy = learned()
    found = policy.learned["transitions"]
    widths = [arrow.get_linewidth() for arrow in arrows(draw_policy(policy, most=1000))]
    most = max(count for *_, count in found)
    assert sorted(widths) == pytest.approx(sorted(max(0.6, 5 * count / most) for *_, count in found))


def test_other_transitions_than_those_of_learning():
    policy = learned()
    policy = replace(policy, states=policy.states[::2], choices=policy.choices[::2])  # so that it lacks some
    found = transitions(policy, [lattices(9)])
    assert "unseen" in {place for _, place, _ in found}
    figure = draw_policy(policy, found, most=1000)
    assert len(arrows(figure)) == len(found)
    assert texts(figure)["not in the table"] == 1


def test_the_title_counts_the_states_that_were_not_met():
    policy = learned()
    met = {place for _, place, _ in transitions(policy, [chain([0, 0])]) if isinstance(place, int)}
    title = f"{policy}; {len(policy.states) - len(met)} of them not met in this run"
    assert texts(draw_policy(policy, transitions(policy, [chain([0, 0])])))[title] == 1


def test_sure_types_are_no_states():
    policy = learned(Encoding.SHARE)
    sure = {place for _, place, _ in policy.learned["transitions"] if str(place).startswith("sure")}
    assert texts(draw_policy(policy))["sure"] == len(sure) > 0


def test_of_many_states_the_rare_share_a_box():
    policy = learned()
    found = policy.learned["transitions"]
    places = {place for _, place, _ in found if place != "end"}
    figure = draw_policy(policy, most=4)
    assert len(boxes(figure)) == 4 + 3  # the others, the begin and the end
    assert texts(figure)[f"{len(places) - 4} rarer states"] == 1
    counts = [int(text.get_text()) for text in figure.axes[0].texts if text.get_text().isdigit()]
    assert sum(counts) == sum(count for *_, count in found)


def test_without_transitions_there_are_the_states_alone():
    policy = replace(learned(), learned={})
    figure = draw_policy(policy)
    assert len(boxes(figure)) == len(policy.states)
    assert arrows(figure) == []
    assert any("What follows what is not known." in text for text in texts(figure))
    empty = draw_policy(Policy(policy.types, Encoding.BASE, False, (), ()))
    assert boxes(empty) == []


def test_transitions_that_a_file_made_up_are_refused():
    with pytest.raises(PolicyError, match=r"learned\.transitions\[0\]"):
        draw_policy(replace(learned(), learned={"transitions": [["begin", 999, 1]]}))


def bars(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_batch_has_a_bar_in_the_line_of_its_type(policy):
    graph = lattices(4)
    schedule = POLICIES[policy](graph)
    figure = draw_schedule(graph, schedule)
    found = sorted((bar.get_x(), bar.get_y() + bar.get_height(), bar.get_height()) for bar in bars(figure))
    assert len(found) == len(schedule)
    most = max(map(len, schedule))
    for step, (batch, kind, (left, bottom, height)) in enumerate(
        zip(schedule, schedule.batch_type, found, strict=True)
    ):
        assert left == pytest.approx(step + 0.05)
        assert bottom == pytest.approx(kind + 0.43)
        assert height == pytest.approx(0.86 * max((len(batch) / most) ** 0.5, 0.06))


def test_lines_are_named_and_counted_against_the_bound():
    graph = lattices(4)
    schedule = POLICIES["agenda"](graph)
    figure = draw_schedule(graph, schedule)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["leaf", "inner", "head"]
    (counts,) = axes.child_axes
    written = [label.get_text().split(" / ") for label in counts.get_yticklabels()]
    assert sum(int(batches) for batches, _ in written) == len(schedule)
    assert all(int(batches) >= int(bound) for batches, bound in written)
    assert str(schedule) in figure.get_suptitle()


def test_rows_count_and_not_nodes():
    graph = replace(Graph.of([0, 0], [[], [0]]), rows=np.array([9, 1], np.int32))
    heights = sorted(bar.get_height() for bar in bars(draw_schedule(graph, POLICIES["depth"](graph))))
    assert heights == pytest.approx([0.86 / 3, 0.86])


def test_a_schedule_of_nothing_is_drawn():
    nothing = Graph.of([], [])
    assert bars(draw_schedule(nothing, POLICIES["auto"](nothing))) == []
    long = chain([0] * 700)
    assert len(bars(draw_schedule(long, Schedule.from_sequence(long, [0] * 700, "by hand")))) == 700


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_pictures_can_be_saved(suffix, tmp_path):
    graph = lattices(2)
    for k, figure in enumerate([draw_policy(learned()), draw_schedule(graph, POLICIES["auto"](graph))]):
        path = tmp_path / f"{k}.{suffix}"
        figure.savefig(path)
        assert path.stat().st_size > 1000


def test_who_draws_nothing_does_not_wait_for_matplotlib():
    program = "import sys, bale.cli, bale.report; print([n for n in ('matplotlib', 'networkx') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
