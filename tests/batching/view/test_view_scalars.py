"""A lazy value where torch's own argument parser expects a number: right, or an error, never a crash of the process."""

import contextlib

import pytest
import torch
from same import assert_same, in_child
from small import Use, vectors

from bale.errors import BaleError

MUST_WORK = {
    "where(mask, h, number)": lambda h, x: torch.where(h > 0, h, 0.0),
    "where(mask, number, h)": lambda h, x: torch.where(h > 0, 0.0, h),
    "where(mask of the sample, h, number)": lambda h, x: torch.where(x > 0, h, 1),
    "where(mask, h, 0-d tensor)": lambda h, x: torch.where(h > 0, h, torch.tensor(0.5)),
    "pow(number, h)": lambda h, x: torch.pow(2.0, h),
    "pow(x, h)": lambda h, x: torch.pow(x.abs(), h),
    "pow(h, number)": lambda h, x: torch.pow(h.abs(), 1.5),
    "float_power": lambda h, x: torch.float_power(2.0, h),
    "clamp(x, min=h)": lambda h, x: torch.clamp(x, min=h),
    "lerp(x, x, h)": lambda h, x: torch.lerp(x, x * 2, h),
    "mul(number-like, h)": lambda h, x: torch.mul(h, 2.5),
    "xlogy(number, h)": lambda h, x: torch.xlogy(2.0, h.abs()),
    "masked_fill(mask, 0-d h)": lambda h, x: x.masked_fill(x > 0, h.sum()),
    "x[mask] by where": lambda h, x: torch.where(x > 0, x, h.sum()),
    "dot with x first": lambda h, x: torch.dot(x, h),
    "full_like": lambda h, x: torch.full_like(h, 2.0) * h,
    "remainder(h, number)": lambda h, x: torch.remainder(h, 0.3),
    "copysign": lambda h, x: torch.copysign(x, h),
    "isclose": lambda h, x: torch.isclose(x, h),
    "bucketize": lambda h, x: torch.bucketize(h, torch.tensor([-0.5, 0.0, 0.5])),
}
MAY_BE_REFUSED = {
    "add(alpha=h)": lambda h, x: torch.add(x, x, alpha=h[0]),
    "full(h)": lambda h, x: torch.full((2,), h[0]),
    "full_like(x, h)": lambda h, x: torch.full_like(x, h[0]),
    "new_full(h)": lambda h, x: x.new_full((2,), h[0]),
    "arange(h)": lambda h, x: torch.arange(h[0]),
    "linspace(h)": lambda h, x: torch.linspace(h[0], 1, 3),
    "zeros(h)": lambda h, x: torch.zeros(h[0].long()),
    "eye(h)": lambda h, x: torch.eye(h[0].long()),
    "tensor(h)": lambda h, x: torch.tensor(h),
    "tensor([h])": lambda h, x: torch.tensor([h[0], 1.0]),
    "as_tensor(h)": lambda h, x: torch.as_tensor(h),
    "fill_(h)": lambda h, x: x.detach().clone().fill_(h[0]),
    "repeat_interleave(h)": lambda h, x: torch.repeat_interleave(x, h.long().abs()),
    "bucketize(number, h)": lambda h, x: torch.bucketize(0.3, h.sort().values),
    "searchsorted(h, number)": lambda h, x: torch.searchsorted(h.sort().values, 0.3),
    "dropout(p=h)": lambda h, x: torch.nn.functional.dropout(x, h[0].abs(), training=False),
    "reshape(h)": lambda h, x: x.reshape(h[0].long()),
    "sum(dim=h)": lambda h, x: x.sum(h[0].long()),
    "isin(h, number)": lambda h, x: torch.isin(h, 0.5),
    "topk(h)": lambda h, x: x.topk(h[0].long()),
    "clamp(min=0-d h)": lambda h, x: x.clamp(h[0], h[1]),
    "addcmul(value=h)": lambda h, x: torch.addcmul(x, x, x, value=h[0]),
    "manual_seed(h)": lambda h, x: torch.manual_seed(h[0]),
}


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in MUST_WORK.items()])
def test_a_number_beside_a_lazy_value(use):
    in_child(lambda: assert_same(Use(use), vectors(4)))


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in MAY_BE_REFUSED.items()])
def test_a_lazy_value_where_a_number_belongs(use):
    def run():
        try:
            [Use(use)(x) for x in vectors(3)]
        except Exception:  # what the plain loop cannot do, nobody has to
            return
        with contextlib.suppress(BaleError, TypeError):
            assert_same(Use(use), vectors(3))

    in_child(run)
