"""Are quantised numbers on their grid, is the grid a good one, and is it trained by the paper's gradients?"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bale.compress import BlockCirculantConfig, UniformQuantConfig, compress_
from bale.compress.layers import CompressedLinear
from bale.compress.quantizer import UniformQuantizer, best_scale

DTYPES = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
BITS = st.integers(2, 16)


@st.composite
def numbers(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> Tensor:
    """Channels of many sizes, some of them all 0."""
    shape = draw(st.tuples(*[st.integers(1, 5)] * draw(st.integers(3, 4))))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1 << 20)))
    values = torch.randn(shape, generator=generator, dtype=torch.float64) * draw(st.sampled_from([1e-3, 1.0, 30.0]))
    values[torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.5]))] = 0
    if draw(st.booleans()):
        values[0] = 0
    return values.to(dtype)


@given(st.data(), DTYPES, BITS, st.integers(0, 1 << 20))
def test_never_off_the_grid(data, dtype, bits, seed) -> None:
    """Whatever training makes of scale and numbers: whole multiples, of so many bits, of the scale."""
    values = data.draw(numbers(dtype))
    quantizer = UniformQuantizer(values, bits)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        quantizer.log_ratio.add_(torch.randn(quantizer.first.shape, generator=generator).to(dtype))
        quantized, codes = quantizer(values), quantizer.codes(values)
    assert codes.dtype == torch.int64 and int(codes.abs().max()) <= quantizer.highest == 2 ** (bits - 1) - 1
    assert quantized.isfinite().all() and quantized.dtype == dtype
    assert torch.equal(codes.to(dtype) * quantizer.step(), quantized)
    assert not quantized[values == 0].any()


@given(st.data(), BITS)
def test_a_number_becomes_the_nearest_of_the_grid(data, bits) -> None:
    values = data.draw(numbers())
    quantizer = UniformQuantizer(values, bits)
    assert quantizer.step().shape == (len(values), *[1] * (values.dim() - 1))
    got = quantizer(values).detach()
    held = torch.minimum(values.abs(), quantizer.highest * quantizer.step()) * values.sign()
    assert bool(((got - held).abs() <= quantizer.step() * (0.5 + 1e-9)).all())


@given(st.data(), DTYPES, BITS)
def test_the_scale_is_at_least_as_good_as_that_of_the_largest(data, dtype, bits) -> None:
    values = data.draw(numbers(dtype))
    axes, highest = tuple(range(1, values.dim())), 2 ** (bits - 1) - 1

    def error(scale: Tensor) -> Tensor:
        scale = scale.double()
        codes = torch.where(scale > 0, values.double() / scale, 0.0).round().clamp(-highest, highest)
        return (codes * scale - values.double()).square().sum(axes)

    largest = values.abs().amax(axes, keepdim=True) / highest
    slack = 1e-12 if dtype == torch.float64 else 1e-2
    total = values.double().square().sum(axes)
    assert bool((error(best_scale(values, bits)) <= error(largest) + slack * total).all())


@given(st.data(), st.integers(2, 8))
def test_gradients_are_those_of_learned_step_sizes(data, bits) -> None:
    values = data.draw(numbers()).requires_grad_()
    quantizer = UniformQuantizer(values, bits)
    with torch.no_grad():
        quantizer.log_ratio.sub_(0.4)  # so that some numbers are beyond the grid
    sent = torch.randn(values.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(bits))
    of_values, of_ratio = torch.autograd.grad(quantizer(values), [values, quantizer.log_ratio], sent)

    step, highest = quantizer.step().detach(), quantizer.highest
    ratio = values.detach() / step
    slope = torch.where(ratio.abs() <= highest, ratio.round() - ratio, highest * ratio.sign())  # LSQ, section 2.1
    want = (sent * slope).sum(tuple(range(1, values.dim())), keepdim=True) * step  # d exp(r) = exp(r) dr
    there = quantizer.first > 1e-30  # a channel of zeros has no scale to speak of
    torch.testing.assert_close(of_ratio[there], want[there], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(of_values, sent * (ratio.abs() <= highest), rtol=1e-12, atol=1e-12)


def test_a_step_of_adam_is_a_small_share_of_every_scale() -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 40) * torch.tensor([[1e-4], [1.0], [1e4]])
    quantizer = UniformQuantizer(values, 8)
    before = quantizer.step().detach()
    optimizer = torch.optim.Adam([quantizer.log_ratio], lr=3e-3)
    quantizer(values).square().sum().backward()
    optimizer.step()
    assert bool(((quantizer.step() / before - 1).abs() < 0.004).all())


def test_a_scale_is_trained_to_a_smaller_error() -> None:
    torch.manual_seed(0)
    values = torch.randn(4, 50)
    quantizer = UniformQuantizer(values, 3)
    with torch.no_grad():
        quantizer.log_ratio.add_(0.9)
    optimizer = torch.optim.SGD([quantizer.log_ratio], 0.02)
    errors = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (quantizer(values) - values).square().sum()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.5 * errors[0]


def test_a_circulant_weight_has_a_scale_for_each_block_row() -> None:
    model = nn.Sequential(nn.Linear(9, 10))
    compress_(model, BlockCirculantConfig(4))
    compress_(model, UniformQuantConfig(4))
    layer = model[0]
    assert isinstance(layer, CompressedLinear)
    quantizer = layer.code("weight").quantizer
    assert quantizer is not None and quantizer.step().shape == (3, 1, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_layer_with_an_output_of_zeros_may_become_of_half_type(dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight[1] = 0
    compress_(layer, UniformQuantConfig(8))
    layer.to(dtype)
    assert bool(layer.weight.isfinite().all()) and not layer.weight[1].any()
