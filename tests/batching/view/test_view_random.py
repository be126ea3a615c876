"""Random cells: independent per node, reproducible, independent of the policy, equal to the loop given equal masks."""

import pytest
import torch
import torch.nn.functional as F
from same import assert_all_close, assert_close, assert_same
from small import WIDTH, UseModel, sequences, vectors
from torch import nn

import bale

WIDE = 40


class Dropped(nn.Module):
    """A cell that returns what it dropped, so that its mask can be read from outside."""

    def __init__(self, p=0.5):
        super().__init__()
        self.linear = nn.Linear(WIDE, WIDE)
        self.drop = nn.Dropout(p)

    def forward(self, x):
        return self.drop(torch.tanh(self.linear(x)))


def chain(**parts):
    def use(model, xs):
        h, seen = torch.ones(WIDE), []
        for x in xs:
            h = model.cell(h + x)
            seen.append(h)
        return seen

    return UseModel(use, cell=parts.get("cell", Dropped()))


def wide_sequences():
    return [vectors(n, width=WIDE, seed=n) for n in (2, 4, 1, 3)]


def seeded(batched, samples, seed=3):
    torch.manual_seed(seed)
    return batched(samples)


RANDOM = {
    "nn.Dropout": lambda m, x: m.cell(x),
    "F.dropout": lambda m, x: F.dropout(m.cell.linear(x), 0.5, training=m.training),
    "rand_like": lambda m, x: m.cell.linear(x) + torch.rand_like(m.cell.linear(x)),
    "randn_like": lambda m, x: m.cell.linear(x) + torch.randn_like(x) * x,
    "randn": lambda m, x: m.cell.linear(x) + torch.randn(WIDE),
    "bernoulli": lambda m, x: torch.bernoulli(torch.sigmoid(m.cell.linear(x))),
    "normal_": lambda m, x: m.cell.linear(x).normal_(),
    "gumbel_softmax": lambda m, x: F.gumbel_softmax(m.cell.linear(x)),
    "rrelu": lambda m, x: F.rrelu(m.cell.linear(x), training=True),
    "alpha_dropout": lambda m, x: F.alpha_dropout(m.cell.linear(x), 0.3, training=True),
    "multinomial": lambda m, x: torch.multinomial(m.cell.linear(x).softmax(0), 8).double() + x.sum(),
}


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in RANDOM.items()])
def test_random_numbers(use):
    model = UseModel(use, cell=Dropped())
    x = vectors(1, width=WIDE)[0]
    batched = bale.batch(model, check="always")
    first = seeded(batched, [x] * 5)
    assert_all_close(seeded(batched, [x] * 5), first)
    assert not any(torch.equal(a, b) for k, a in enumerate(first) for b in first[:k]), "two nodes share their numbers"
    assert not torch.equal(seeded(batched, [x] * 5, seed=4)[0], first[0])
    for policy in bale.POLICIES:
        assert_all_close(seeded(bale.batch(model, policy=policy, check="always"), [x] * 5), first)


@pytest.mark.parametrize("policy", list(bale.POLICIES))
def test_dropout_does_not_depend_on_the_policy(policy):
    model, samples = chain(), wide_sequences()
    wanted = seeded(bale.batch(model, policy="height"), samples)
    assert_all_close(seeded(bale.batch(model, policy=policy), samples), wanted)


def test_dropout_is_independent_per_node():
    for out in bale.batch(chain())(wide_sequences()):
        masks = [h != 0 for h in out]
        assert not any(torch.equal(a, b) for k, a in enumerate(masks) for b in masks[:k])


def test_dropout_keeps_the_right_share():
    samples = [vectors(20, width=WIDE, seed=k) for k in range(5)]
    kept = torch.cat([h != 0 for out in bale.batch(chain(cell=Dropped(0.25)))(samples) for h in out])
    assert abs(kept.double().mean().item() - 0.75) < 0.03


def test_dropout_equals_the_loop_given_equal_masks():
    model, samples = chain(), wide_sequences()
    sources = [*model.parameters(), *(x for xs in samples for x in xs)]
    outputs = bale.batch(model)(samples)
    got = torch.autograd.grad(sum(h.square().sum() for out in outputs for h in out), sources)
    masks = iter([(h != 0).double() * 2 for out in outputs for h in out])

    class Masked(nn.Module):
        def forward(self, x):
            return torch.tanh(model.cell.linear(x)) * next(masks)

    loop = [chain(cell=Masked())(xs) for xs in samples]
    wanted = torch.autograd.grad(sum(h.square().sum() for out in loop for h in out), sources)
    assert_all_close(outputs, loop)
    assert_all_close(got, wanted)


def test_dropout_in_eval_is_the_loop():
    assert_same(chain().eval(), wide_sequences())


def test_dropout_switched_between_calls():
    model, samples = chain(), wide_sequences()
    batched = bale.batch(model, check="always")
    for mode in (True, False, True, False):
        batched.train(mode)
        assert model.cell.drop.training is mode
        outputs = batched(samples)
        assert any((h == 0).any() for out in outputs for h in out) is mode
        if not mode:
            assert_all_close(outputs, [model(s) for s in samples])


def test_dropouts_probability_changed_between_calls():
    model, samples = chain(), wide_sequences()
    batched = bale.batch(model)
    batched(samples)
    model.cell.drop.p = 0.0
    assert_all_close(batched(samples), [model(s) for s in samples])
    model.cell.drop.p = 1.0
    assert not any(h.any() for out in batched(samples) for h in out)


def test_a_submodule_in_eval_inside_a_model_in_training():
    model = UseModel(lambda m, x: m.b(m.a(x)), a=Dropped(), b=Dropped())
    model.a.eval()
    x = vectors(1, width=WIDE)[0]
    assert all((out == 0).any() for out in bale.batch(model)([x, x]))
    model.b.eval()
    assert_same(model, [x, x])


def test_dropout_over_a_matrix_of_rows():
    rows = [torch.ones(n, WIDE) for n in (2, 5, 3)]
    model = UseModel(lambda m, x: m.drop(m.linear(x)), linear=nn.Linear(WIDE, WIDE), drop=nn.Dropout(0.5))
    masks = [row != 0 for out in bale.batch(model)(rows) for row in out]
    assert not any(torch.equal(a, b) for k, a in enumerate(masks) for b in masks[:k])


def test_a_mask_drawn_once_and_used_by_all_steps_of_a_sample():
    def use(model, xs):
        mask = model.drop(torch.ones(WIDE))
        return [model.linear(x) * mask for x in xs]

    model = UseModel(use, linear=nn.Linear(WIDE, WIDE), drop=nn.Dropout(0.5))
    outputs = bale.batch(model)(wide_sequences())
    masks = []
    for out in outputs:
        first = out[0] != 0
        assert all(torch.equal(h != 0, first) for h in out)
        masks.append(first)
    assert not torch.equal(masks[0], masks[1])


def test_random_state_after_a_call_does_not_depend_on_what_was_compiled():
    """The first call makes the types, which must not draw from the user's generator."""
    model, samples = chain(), wide_sequences()
    batched = bale.batch(model, check="always")
    first = seeded(batched, samples)
    after_first = torch.rand(3)
    second = seeded(batched, samples)
    assert_all_close(second, first)
    assert_close(torch.rand(3), after_first)


def test_a_model_that_draws_nothing_leaves_the_generator_alone():
    model = UseModel(lambda m, xs: sum(m.cell(x) for x in xs), cell=nn.Linear(WIDTH, WIDTH))
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    bale.batch(model, check="always")(sequences())
    assert torch.equal(torch.rand(3), wanted)


def test_a_generator_of_the_users_own():
    def use(model, x):
        return model.linear(x) + torch.randn(WIDTH, generator=model.generator)

    model = UseModel(use, linear=nn.Linear(WIDTH, WIDTH))
    model.generator = torch.Generator()
    model.generator.manual_seed(1)
    wanted = [model(x) for x in vectors(3)]
    model.generator.manual_seed(1)
    assert_all_close(bale.batch(model)(vectors(3)), wanted)


def test_dropout_of_zero_draws_the_law():
    assert_same(chain(cell=Dropped(0.0)), wide_sequences())


def test_an_lstm_with_dropout_between_its_layers():
    model = UseModel(lambda m, x: m.lstm(x)[0], lstm=nn.LSTM(WIDE, WIDE, num_layers=2, dropout=0.5))
    rows = [torch.ones(n, WIDE) for n in (2, 3)]
    batched = bale.batch(model)
    assert_all_close(seeded(batched, rows), seeded(batched, rows))
    assert_same(model.eval(), rows)
