"""One label for a sample or many: loss and accuracy count rows, and a row that has no label is an error."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from bale.batching.api import batch
from bale.data import lattice_samples, lattice_sizes, random_lattices
from bale.errors import BaleError
from bale.models import LatticeLSTM
from bale.train import TrainConfig, accuracy, accuracy_and_named, compare, fit
from bale.train.order import mini_batches
from bale.train.rows import labels_of, rows_of
from bale.train.step import classification_loss


@pytest.fixture
def lattices():
    """Twelve small lattices, with a tag for each of their characters."""
    return lattice_samples(random_lattices(12, seed=2, characters=6, words=12, tags=4, length=5))


@pytest.fixture
def make_tagger(lattices):
    """Make the same model at every call."""

    def make():
        torch.manual_seed(5)
        return LatticeLSTM(*lattice_sizes(lattices), embed=4, hidden=6)

    return make


def test_rows_of_every_sample_lie_one_after_another():
    torch.manual_seed(0)
    outputs = [torch.randn(3, 4), torch.randn(1, 4), torch.randn(2, 4)]
    labels = [(0, 1, 2), (3,), (1, 0)]
    rows, targets = rows_of(outputs, labels)
    assert torch.equal(rows, torch.cat(outputs)) and targets.tolist() == [0, 1, 2, 3, 1, 0]
    assert list(labels_of(zip(outputs, labels, strict=True))) == targets.tolist()
    loss, correct, count = classification_loss(outputs, labels)
    assert torch.equal(loss, cross_entropy(torch.cat(outputs), targets))
    assert (correct, count) == (int((torch.cat(outputs).argmax(-1) == targets).sum()), 6)


def test_one_label_is_one_row():
    outputs = [torch.tensor([0.0, 1.0]), torch.tensor([2.0, 0.0])]
    rows, targets = rows_of(outputs, [1, 1])
    assert torch.equal(rows, torch.stack(outputs)) and targets.tolist() == [1, 1]
    assert classification_loss(outputs, [1, 1])[1:] == (1, 2)


@pytest.mark.parametrize(
    ("shapes", "labels", "problem"),
    [
        # Together there are as many rows as labels: only a look at each sample shows that they do not belong together.
        (
            ((2, 3), (1, 3)),
            [(0,), (1, 2)],
            "sample 0 of a mini-batch: the model gave [2, 3] for 1 labels; expected [",
        ),
        (
            ((2, 3), (3,)),
            [(0, 1), (1, 2, 0)],
            "sample 1 of a mini-batch: the model gave [3] for 3 labels; expected [",
        ),
        (((3,), (1, 3)), [0, 1], "sample 1 of a mini-batch: the model gave [1, 3] for one label; expected [classes]"),
    ],
)
def test_rows_and_labels_that_do_not_belong_together(shapes, labels, problem):
    with pytest.raises(BaleError) as error:
        rows_of([torch.zeros(shape) for shape in shapes], labels)
    assert str(error.value).startswith(problem)


def test_the_loop_is_the_plain_one_with_a_mean_over_rows(lattices, make_tagger):
    config = TrainConfig(batch_size=5, epochs=1, lr=0.01)
    model, plain = make_tagger(), make_tagger()
    report = fit(model, lattices, config, valid=lattices)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    loss_sum, correct = 0.0, 0
    for indices in mini_batches(12, 5, config.seed, 0):
        optimizer.zero_grad()
        logits = torch.cat([plain(lattices[index][0]) for index in indices])
        target = torch.tensor([tag for index in indices for tag in lattices[index][1]])
        loss = cross_entropy(logits, target)
        loss_sum += loss.item() * len(target)
        correct += int((logits.argmax(-1) == target).sum())
        loss.backward()
        optimizer.step()
    right = sum(int((plain(lattice).argmax(-1) == torch.tensor(tags)).sum()) for lattice, tags in lattices)
    for trained, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-4, atol=1e-5)
    rows = sum(len(tags) for _, tags in lattices)
    (epoch,) = report.epochs
    assert (report.samples, report.rows, epoch.samples, epoch.rows) == (12, rows, 12, rows)
    assert epoch.loss == pytest.approx(loss_sum / rows, rel=1e-4) and epoch.accuracy == pytest.approx(correct / rows)
    assert report.best == epoch.valid == right / rows


def test_accuracy_is_the_share_of_right_rows(lattices, make_tagger):
    model = make_tagger()
    answers = [(row, tag) for lattice, tags in lattices for row, tag in zip(model(lattice), tags, strict=True)]
    batched = batch(model)
    expected = sum(int(row.argmax()) == tag for row, tag in answers) / len(answers)
    assert accuracy(batched, lattices, batch_size=5) == expected
    named = [(row[[0, 1, 3]].argmax(), (0, 1, None, 2)[tag]) for row, tag in answers if tag != 2]
    right = sum(int(answer) == tag for answer, tag in named) / len(named)
    assert accuracy_and_named(batched, lattices, batch_size=5, rest=2) == (expected, right)


def test_a_comparison_counts_rows_too(lattices, make_tagger):
    model = make_tagger()
    comparison = compare(model, batch(model), [lattices[:6]])
    assert comparison is not None and comparison.difference < 1e-5
