"""What cannot work says so where it happens: the kind of error, the sample's index, the user's file and line."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from same import assert_all_close, assert_same, line_of, raises_at
from small import WIDTH, Tree, Use, UseModel, trees, vectors
from torch import nn

import bale
from bale.errors import BaleError, TraceError, ValueReadError


def only_second(act):
    """A model that does `act(h)` in the forward of sample 1 alone; samples are numbered vectors."""

    def use(model, sample):
        k, x = sample
        h = model.cell(x)
        if k == 1:
            act(h)
        return h

    return UseModel(use, cell=nn.Linear(WIDTH, WIDTH))


def numbered():
    return list(enumerate(vectors(3)))


READS = {
    "item": lambda h: h.sum().item(),  # <- item
    "bool": lambda h: 1 if h.sum() > 0 else 2,  # <- bool
    "not": lambda h: not h[0],  # <- not
    "and": lambda h: h[0] and h[1],  # <- and
    "tolist": lambda h: h.tolist(),  # <- tolist
    "numpy": lambda h: h.detach().numpy(),  # <- numpy
    "np.asarray": lambda h: np.asarray(h),  # <- np.asarray
    "float": lambda h: float(h[0]),  # <- float
    "int": lambda h: int(h[0]),  # <- int
    "index": lambda h: [1, 2, 3][h.argmax()],  # <- index
    "range": lambda h: range(h.argmax()),  # <- range
    "torch.tensor": lambda h: torch.tensor(h),  # <- torch.tensor
    "torch.tensor of a list": lambda h: torch.tensor([h[0], h[1]]),  # <- torch.tensor of a list
    "in": lambda h: 1.0 in h,  # <- in
    "max by Python": lambda h: max(h[0], h[1]),  # <- max by Python
    "sorted": lambda h: sorted(h),  # <- sorted
    "assert": lambda h: (_ for _ in ()).throw(AssertionError) if h.isnan().any() else None,  # <- assert
    "equal": lambda h: 1 if torch.equal(h, h) else 0,  # <- equal
    "allclose": lambda h: 1 if torch.allclose(h, h) else 0,  # <- allclose
    "nonzero": lambda h: h.nonzero(),  # <- nonzero
    "boolean index": lambda h: h[h > 0],  # <- boolean index
    "unique": lambda h: torch.unique(h),  # <- unique
    "multinomial count": lambda h: (h > 0).sum().item(),  # <- multinomial count
    "pickle": lambda h: pickle.dumps(h),  # <- pickle
    "deepcopy": lambda h: copy.deepcopy(h),  # <- deepcopy
}


@pytest.mark.parametrize("act", [pytest.param(f, id=name) for name, f in READS.items()])
def test_reading_a_value(act, request):
    marker = request.node.callspec.id
    with raises_at(ValueReadError, __file__, marker, sample=1):
        bale.batch(only_second(act))(numbered())


def test_reading_in_a_helper_names_the_helpers_line():
    def helper(h):
        return h.sum().item()  # <- in a helper

    with raises_at(ValueReadError, __file__, "in a helper", sample=1):
        bale.batch(only_second(helper))(numbered())


def test_reading_a_value_inside_a_module_that_is_descended_into():
    class Reader(nn.Module):
        def forward(self, h):
            return h * 2 if h.sum() > 0 else h  # <- in a module

    model = UseModel(lambda m, x: m.reader(m.cell(x)), cell=nn.Linear(WIDTH, WIDTH), reader=Reader())
    with raises_at(ValueReadError, __file__, "in a module", sample=0):
        bale.batch(model)(vectors(2))


def test_reading_a_value_inside_a_marked_cell():
    @bale.cell
    class Reader(nn.Module):
        def forward(self, h):
            return h * 2 if h.sum() > 0 else h

    model = UseModel(lambda m, x: m.reader(m.cell(x)), cell=nn.Linear(WIDTH, WIDTH), reader=Reader())
    with pytest.raises(TraceError, match=r"reader \(Reader\).*reads values"):
        bale.batch(model)(vectors(2))


WRITES = {
    "backward": lambda h: h.sum().backward(),  # <- backward
    "grad": lambda h: h.grad,  # <- grad
    "requires_grad_": lambda h: h.requires_grad_(False),  # <- requires_grad_
    "register_hook": lambda h: h.register_hook(print),  # <- register_hook
    "autograd.grad": lambda h: torch.autograd.grad(h.sum(), h),  # <- autograd.grad
    "data_ptr": lambda h: h.data_ptr(),  # <- data_ptr
    "set data": lambda h: setattr(h, "data", torch.ones(3)),  # <- set data
    "element": lambda h: h.__setitem__(0, 1.0),  # <- element
    "into a tensor": lambda h: torch.zeros(3).__setitem__(0, h[0]),  # <- into a tensor
    "copy_ into a tensor": lambda h: torch.zeros(3).copy_(h),  # <- copy_ into a tensor
}


@pytest.mark.parametrize("act", [pytest.param(f, id=name) for name, f in WRITES.items()])
def test_what_a_lazy_value_cannot_do(act, request):
    with raises_at(TraceError, __file__, request.node.callspec.id, sample=1):
        bale.batch(only_second(act))(numbered())


def test_writing_into_a_numpy_array():
    with pytest.raises(ValueError, match="array element") as caught:  # numpy's own error hides the cause
        bale.batch(only_second(lambda h: np.zeros(3).__setitem__(0, h[0])))(numbered())
    assert isinstance(caught.value.__cause__, ValueReadError)


def test_a_value_used_after_its_call():
    kept = []
    model = UseModel(lambda m, x: (kept.append(m.cell(x)), kept[-1])[1], cell=nn.Linear(WIDTH, WIDTH))
    bale.batch(model)(vectors(2))
    for use in (lambda h: h + 1, lambda h: torch.tanh(h), lambda h: h.sum().item(), lambda h: bool(h[0] > 0)):
        with pytest.raises(TraceError, match=__file__):
            use(kept[0])


def test_a_value_of_an_earlier_call_in_a_later_one():
    kept = []

    def use(model, sample):
        k, x = sample
        h = model.cell(x)
        if k == 1 and kept:
            h = h + kept[0]  # <- later call
        kept.append(h)
        return h

    batched = bale.batch(UseModel(use, cell=nn.Linear(WIDTH, WIDTH)))
    batched(numbered()[:1])
    with raises_at(TraceError, __file__, "later call", sample=1):
        batched(numbered())


def test_a_value_of_an_earlier_call_returned_by_a_later_one():
    kept = []

    def use(model, x):
        kept.append(model.cell(x))
        return kept[0]

    batched = bale.batch(UseModel(use, cell=nn.Linear(WIDTH, WIDTH)))
    batched(vectors(1))
    with pytest.raises(TraceError, match="earlier call"):
        batched(vectors(1))


def test_devices_that_disagree():
    def use(model, sample):
        k, x = sample
        h = model.cell(x)
        return h + torch.ones(WIDTH, device="meta") if k == 1 else h  # <- devices

    with raises_at(TraceError, __file__, "devices", sample=1) as caught:
        bale.batch(UseModel(use, cell=nn.Linear(WIDTH, WIDTH)))(numbered())
    assert "meta" in str(caught.value)
    assert "cpu" in str(caught.value)


def test_a_cell_on_another_device_than_its_argument():
    model = UseModel(lambda m, x: m.cell(x), cell=nn.Linear(WIDTH, WIDTH, device="meta"))  # <- cell's device
    with raises_at(TraceError, __file__, "cell's device", sample=0):
        bale.batch(model)(vectors(2))


# The user's own exceptions.


def test_an_exception_carries_the_index_of_its_sample():
    class MyError(Exception):
        pass

    def act(h):
        raise MyError("mine")

    with pytest.raises(MyError) as caught:
        bale.batch(only_second(act))(numbered())
    assert caught.value.args == ("mine",)
    assert any("sample 1" in note for note in caught.value.__notes__)


def test_a_wrong_shape_is_torchs_own_error_at_the_users_line(caplog):
    def act(h):
        return h + torch.ones(4)  # <- wrong shape

    with pytest.raises(RuntimeError, match=r"4.*3|3.*4") as caught:
        bale.batch(only_second(act))(numbered())
    assert any("sample 1" in note for note in caught.value.__notes__)
    lines = [(entry.path.name, entry.lineno + 1) for entry in caught.traceback]
    assert ("test_view_errors.py", line_of(__file__, "wrong shape")) in lines
    assert not caplog.records, "torch's internals are logged to the user's terminal"


def test_a_wrong_shape_into_a_cell():
    model = UseModel(lambda m, x: m.cell(x), cell=nn.Linear(WIDTH, WIDTH))
    with pytest.raises(RuntimeError) as caught:
        bale.batch(model)([torch.ones(3), torch.ones(4)])
    assert any("sample 1" in note for note in caught.value.__notes__)


def test_an_index_out_of_range_is_an_error_of_the_sample():
    with pytest.raises(IndexError) as caught:
        bale.batch(only_second(lambda h: h[3]))(numbered())
    assert any("sample 1" in note for note in caught.value.__notes__)


def test_a_word_id_out_of_range_is_an_error_that_names_samples():
    model = UseModel(lambda m, w: m.words(torch.tensor(w)), words=nn.Embedding(5, 3))
    with pytest.raises(IndexError) as caught:
        bale.batch(model)([1, 7, 2])
    assert any("sample" in note and "1" in note for note in caught.value.__notes__)


def test_an_attribute_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        bale.batch(only_second(lambda h: h.nonsense()))(numbered())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, StopIteration, SystemExit])
def test_nothing_is_left_half_recorded(error):
    fail = [True]

    def use(model, tree):
        if fail[0] and tree == ():
            raise error
        return Tree.forward(model, tree) if tree != () else model.leaf.bias * 2

    tree = Tree()
    model = UseModel(use, leaf=tree.leaf, inner=tree.inner)
    batched = bale.batch(model)
    with pytest.raises(error):
        batched(trees())
    fail[0] = False
    assert_same(model, trees())
    assert_all_close(batched(trees()), [model(t) for t in trees()])


def test_the_plain_model_works_after_an_error():
    model = only_second(lambda h: h.item())
    with pytest.raises(ValueReadError):
        bale.batch(model)(numbered())
    x = torch.ones(WIDTH)
    assert type(model.cell(x)) is torch.Tensor
    assert type(x + 1) is torch.Tensor


def test_attributes_written_before_an_error_are_not_carried_over():
    def use(model, k):
        model.seen = k
        if k == 2:
            raise ValueError("two")
        return model.cell(torch.ones(WIDTH))

    model = UseModel(use, cell=nn.Linear(WIDTH, WIDTH))
    model.seen = -1
    with pytest.raises(ValueError, match="two"):
        bale.batch(model)([0, 1, 2])
    assert isinstance(model.seen, int)


def test_an_error_while_batches_run_leaves_the_next_call_right():
    model = UseModel(lambda m, w: m.words(torch.tensor(w)), words=nn.Embedding(5, 3))
    batched = bale.batch(model)
    with pytest.raises(IndexError):
        batched([1, 9])
    assert_all_close(batched([1, 4]), [model(1), model(4)])


# Other threads.


def in_thread(function):
    """The result of `function`, run to its end in another thread."""
    found = []

    def run():
        torch.set_default_dtype(torch.float64)
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_another_thread_runs_the_plain_model_during_a_trace():
    tree, samples = Tree(), trees()
    seen = []

    def use(model, sample):
        h = tree_of(model, sample)
        seen.append(in_thread(lambda: [tree(s) for s in samples]))
        return h

    def tree_of(model, sample):
        return Tree.forward(model.tree, sample)

    batched = bale.batch(UseModel(use, tree=tree))
    got = batched(samples)
    wanted = [tree(s) for s in samples]
    assert_all_close(got, wanted)
    for plain in seen:
        assert all(type(out) is torch.Tensor for out in plain)
        assert_all_close(plain, wanted)


def test_another_thread_runs_the_same_batched_model_during_a_trace():
    tree, samples = Tree(), trees()
    seen = []
    box = {}

    def use(model, sample):
        if not seen:
            seen.append(None)
            seen[0] = in_thread(lambda: box["model"](samples))
        return model.tree.inner(torch.ones(WIDTH)) + Tree.forward(model.tree, sample)

    model = UseModel(use, tree=tree)
    box["model"] = bale.batch(model)
    got = box["model"](samples)
    wanted = [tree.inner(torch.ones(WIDTH)) + tree(s) for s in samples]
    assert_all_close(got, wanted)
    assert_all_close(seen[0], wanted)


def test_two_threads_trace_at_the_same_time():
    model, samples = Tree(), trees()
    wanted = [model(s) for s in samples]
    barrier, results = threading.Barrier(2), []

    def work():
        batched = bale.batch(model)
        barrier.wait()
        results.append(batched(samples))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    for result in results:
        assert_all_close(result, wanted)


def test_errors_are_bales_own():
    for kind in (TraceError, ValueReadError):
        assert issubclass(kind, BaleError)


def test_a_value_in_a_condition_says_what_to_do():
    with pytest.raises(ValueReadError, match=r"torch\.where"):
        bale.batch(Use(lambda h, x: h if h.sum() > 0 else x))(vectors(1))
