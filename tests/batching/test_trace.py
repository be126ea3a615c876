"""The quick way of recording writes what the long way writes; the ids of constants tell equal ones from others."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bale
from bale.batching.engine import trace_samples
from bale.batching.graph import WHOLE
from bale.batching.trace import functions, info, ragged, record, recording, shadow
from bale.batching.trace.stream import ROW, Format, decode
from bale.batching.trace.trace import Trace
from bale.data import random_functions
from bale.models import BiLSTMTagger, ChildSumTreeLSTM


def traced(model: nn.Module, samples) -> Trace:
    batched = bale.batch(model)
    trace_samples(model, samples, {}, batched.settings, batched.registry)
    return trace_samples(model, samples, {}, batched.settings, batched.registry).trace


class Plain(nn.Module):
    """Calls of many kinds: constants, numbers, keywords, rows, other grad modes, nested and ragged arguments."""

    def __init__(self):
        super().__init__()
        self.embed, self.cell, self.out = nn.Embedding(9, 4), nn.LSTMCell(4, 4), nn.Linear(4, 4)
        self.mix = nn.Bilinear(4, 4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, words):
        rows = self.embed(words)
        state = (self.scale, self.scale)
        seen = []
        for k in range(len(words)):
            state = self.cell(rows[k], state)
            seen.append(self.mix(self.out(input=state[0]) * self.scale, rows[-1 - k]) * 0.5 + float(k % 3))
        with torch.no_grad():
            seen.append(self.out(rows[0]) + rows[1])
        table = torch.stack(seen)
        best = torch.softmax(table, dim=-1).sum(0) + self.out(table).mean(0) + torch.cat([seen[0], seen[1]], -1)[:4]
        seen[0] += best
        return seen[0], torch.cat([table, self.out(table)], 1)


def sentences(generator: torch.Generator) -> list[torch.Tensor]:
    return [torch.randint(9, (n,), generator=generator) for n in (3, 5, 2, 5, 3, 7)]


WORKLOADS = {
    "plain": lambda: (Plain(), sentences(torch.Generator().manual_seed(0))),
    "tagger": lambda: (BiLSTMTagger(9, 3, 4, 4, layers=2), sentences(torch.Generator().manual_seed(0))),
    "child-sum": lambda: (ChildSumTreeLSTM(30, 3, 4), [tree for tree, _ in random_functions(5, 0, kinds=30)]),
}


@pytest.mark.parametrize("in_python", [False, True], ids=["default", "Python"])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_quick_way_and_the_long_way_write_the_same(workload, in_python, monkeypatch):
    if in_python:
        monkeypatch.setattr(recording, "Recorder", recording.PythonRecorder)
        monkeypatch.setattr(recording, "Gatherer", recording.PythonGatherer)
    torch.manual_seed(0)
    model, samples = WORKLOADS[workload]()
    quick = traced(model, samples)
    for module in (info, functions):
        monkeypatch.setattr(module, "make_recorder", lambda *args, **kwargs: None)
    monkeypatch.setattr(ragged, "quick_gather", lambda *args: args[-1])  # what it hands over to
    long = traced(model, samples)
    assert len(quick.graph) > 30
    assert quick.graph == long.graph
    for cell, use in quick.uses.items():
        other = next(o for o in long.uses.values() if o.index == use.index)
        assert cell.name == other.cell.name
        for mine, others in zip(use.constants.ravel(), other.constants.ravel(), strict=True):
            assert torch.equal(torch.as_tensor(use.table.entries[mine]), torch.as_tensor(other.table.entries[others]))


class Each(nn.Module):
    """A cell per constant, and one per number."""

    def __init__(self):
        super().__init__()
        self.embed, self.scale = nn.Embedding(9, 4), nn.Parameter(torch.ones(4))

    def forward(self, constants):
        return [
            self.embed(given)
            if isinstance(given, torch.Tensor) and not given.is_floating_point()
            else self.scale * given
            for given in constants
        ]


def same(*constants) -> list[list[bool]]:
    """Which constants have the same id as which."""
    start, ids = traced(Each(), [constants]).constant_ids()
    assert start.tolist() == list(range(len(constants) + 1))
    return (ids[:, None] == ids[None, :]).tolist()


def equal(*keys) -> list[list[bool]]:
    return [[a == b for b in keys] for a in keys]


class Functions(nn.Module):
    """Torch functions of many kinds, called again and again."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 4), nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, words):
        h = self.embed(words[0])
        for word in words:
            x = self.embed(word)
            h = torch.sigmoid(h + x * self.scale) * torch.cat([h, x], -1).sum() - 0.5 * x.tanh()
            h = torch.stack([h, x]).mean(0) + torch.stack([x]).sum(0)
        return self.out(h)


def test_the_long_way_is_gone_once_for_calls_that_look_alike(monkeypatch):
    """However many there are: else every torch function of a forward costs what a first one does."""
    batched = bale.batch(Functions())
    calls = []
    long_way = record.record
    for user in (functions, shadow):
        monkeypatch.setattr(user, "record", lambda *given: calls.append(given[2]) or long_way(*given))

    def count(length: int) -> int:
        calls.clear()
        sample = list(torch.arange(length).unbind())
        trace_samples(batched.inner, [sample, sample], {}, batched.settings, batched.registry)
        return len(calls)

    count(3)  # proves the types
    assert count(8) == count(3) > 0, calls


def test_equal_whole_numbers_have_one_id():
    a, b, c, small = torch.tensor(3), torch.tensor(3), torch.tensor(4), torch.tensor(3, dtype=torch.int32)
    assert same(a, b, c, a, small) == equal("3", "3", "4", "3", "int32")


def test_other_tensors_have_ids_by_identity():
    a, b, longer = torch.tensor(0.5), torch.tensor(0.5), torch.tensor([3, 3])
    trained = torch.tensor(0.5, requires_grad=True)
    assert same(a, b, a, longer, longer.clone(), trained, trained) == equal("a", "b", "a", "x", "y", "t", "t")


def test_python_numbers_have_ids_by_type_and_value():
    numbers = [1.0, 1, True, 2.0, 1.0, 0.0, -0.0, float("nan"), 1]
    assert same(*numbers) == equal("1.", "1", "true", "2.", "1.", "0.", "-0.", "nan", "1")


class Written(nn.Module):
    """Uses a tensor of the sample's, writes to it, and uses it again."""

    def __init__(self, write):
        super().__init__()
        self.scale, self.write = nn.Parameter(torch.ones(2)), write

    def forward(self, x):
        x = x.clone()
        before = [self.scale * x, self.scale * x]
        self.write(x)
        return [*before, self.scale * x]


def assign(x):
    x.data = torch.full((2,), 7.0)


WRITES = {"add_": lambda x: x.add_(1), "setitem": lambda x: x.__setitem__(0, 5.0), "a view": lambda x: x[1:].mul_(3)}


@pytest.mark.parametrize("write", [*WRITES.values(), assign], ids=[*WRITES, "data"])
def test_a_write_between_calls(write):
    model, samples = Written(write), [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
    _, ids = traced(model, samples).constant_ids()
    assert [len(set(ids[3 * k : 3 * k + 3].tolist())) for k in range(2)] == [2, 2]
    assert len(set(ids.tolist())) == 4
    torch.testing.assert_close(bale.batch(model)(samples), [model(sample) for sample in samples])


@st.composite
def records(draw):
    """Formats, and nodes as (type, parts of each slot, entries of constants, length)."""
    formats = [
        Format(t, draw(st.integers(0, 3)), draw(st.integers(0, 2)), draw(st.integers(1, 5)), draw(st.booleans()))
        for t in range(draw(st.integers(1, 4)))
    ]
    nodes, values = [], []
    for _ in range(draw(st.integers(0, 12))):
        form = draw(st.sampled_from([f for f in formats if values or f.slots == 0 or not f.fixed] or [None]))
        if form is None:
            break
        some = st.tuples(st.integers(0, max(len(values) - 1, 0)), st.integers(WHOLE, 4))
        least, most = (1, 1) if form.fixed else (0, 3 if values else 0)
        slots = [draw(st.lists(some, min_size=least, max_size=most)) for _ in range(form.slots)]
        nodes.append((form, slots, draw(st.lists(st.integers(0, 9), min_size=form.constants, max_size=form.constants)),
                      1 if form.fixed else draw(st.integers(1, 5))))  # fmt: skip
        values += range(form.outputs)
    return formats, nodes


@given(records())
def test_what_is_written_is_read_again(drawn):
    formats, nodes = drawn
    stream = recording.Stream()
    codes: list[int] = []
    for form, slots, constants, length in nodes:
        parts = [[codes[value] + (index - WHOLE) * ROW for value, index in slot] for slot in slots]
        codes += [len(stream) + k for k in range(form.outputs)]
        stream.extend(form.record(parts, constants, length))
    found = decode(stream, formats)
    assert found.type.tolist() == [form.type for form, *_ in nodes]
    assert found.rows.tolist() == [length for *_, length in nodes]
    assert np.diff(found.slot_start).tolist() == [form.slots for form, *_ in nodes]
    assert np.diff(found.value_start).tolist() == [form.outputs for form, *_ in nodes]
    every = [slot for _, slots, *_ in nodes for slot in slots]
    assert np.diff(found.part_start).tolist() == [len(slot) for slot in every]
    assert found.part_value.tolist() == [value for slot in every for value, _ in slot]
    assert found.part_index.tolist() == [index for slot in every for _, index in slot]
    assert found.constant.tolist() == [entry for *_, constants, _ in nodes for entry in constants]
    assert np.diff(found.constant_start).tolist() == [form.constants for form, *_ in nodes]
    assert found.value_at[codes].tolist() == list(range(len(codes)))
