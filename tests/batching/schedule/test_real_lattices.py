"""On the real lattices: bounds and batches as counted once for good, and every schedule runs its graph."""

import pytest
from lattice_sets import lattice_graph
from plain_policies import agenda_sequence, height_sequence, sufficient_sequence

from bale.batching.schedule import POLICIES, lower_bound, make_schedule
from bale.batching.schedule.agenda import by_agenda
from bale.batching.schedule.height import Variant, by_height, height_schedules
from bale.batching.schedule.sufficient import by_sufficient_condition

# Nodes; bound; share, soft share, sure first on the graph, then reversed; depth, agenda; beam.
COUNTS = {
    ("train", 0, 64): (6596, 149, [149, 168, 149, 149, 149, 149], 310, 243, 149),
    ("train", 0, 256): (25354, 174, [178, 195, 176, 175, 175, 175], 371, 294, 174),
    ("test", 64, 128): (9201, 199, [208, 230, 212, 205, 205, 204], 436, 324, 204),
    ("test", 0, 256): (29827, 219, [230, 249, 231, 227, 225, 225], 488, 343, 222),
    ("dev", 0, 64): (8527, 211, [217, 237, 213, 212, 212, 212], 438, 363, 212),
}
every_set = pytest.mark.parametrize("sentences", COUNTS, ids="{0[0]} {0[1]}-{0[2]}".format)


@every_set
def test_counts(sentences):
    graph = lattice_graph(*sentences)
    nodes, bound, by_variant, depth, agenda, beam = COUNTS[sentences]
    schedules = [schedule for backward in (False, True) for schedule in height_schedules(graph, Variant, backward)]
    for schedule in schedules:
        schedule.check(graph)
    assert (len(graph), lower_bound(graph)) == (nodes, bound)
    assert [len(schedule) for schedule in schedules] == by_variant
    assert len(make_schedule(graph)) == min(by_variant)
    assert [len(make_schedule(graph, policy)) for policy in ("depth", "agenda", "beam")] == [depth, agenda, beam]
    assert len(make_schedule(graph, "auto")) == min(by_variant)


@every_set
@pytest.mark.parametrize("policy", POLICIES)
def test_every_schedule_runs_its_graph(sentences, policy):
    graph = lattice_graph(*sentences)
    schedule = make_schedule(graph, policy)
    schedule.check(graph)
    assert lower_bound(graph) <= len(make_schedule(graph, "beam")) <= len(schedule)


def test_the_choices_of_a_few_sentences():
    graph = lattice_graph("train", 0, 3)
    assert by_agenda(graph).batch_type.tolist() == agenda_sequence(graph)
    assert by_sufficient_condition(graph).batch_type.tolist() == sufficient_sequence(graph)
    for variant in Variant:
        assert by_height(graph, variant).batch_type.tolist() == height_sequence(graph, str(variant))
