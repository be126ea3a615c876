"""Is a layer, taken apart into vectors and products, the layer?"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bale.hardware.layers import kind_of
from bale.hardware.quantize import grouped_product


def apart(module: nn.Module, *args: object) -> tuple[object, list[tuple[str, Tensor]]]:
    """What the module gives when its matrices are multiplied outside, and the vectors that they were given."""
    kind = kind_of(module)
    assert kind is not None
    weights = {matrix.name: matrix.weight for matrix in kind.matrices("m", module)}
    seen = []

    def product(name: str, vectors: Tensor) -> Tensor:
        seen.append((name, vectors))
        return grouped_product(vectors, weights[name])

    return kind.run("m", module, product, *args), seen


def close(got: object, expected: object) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@given(st.data())
def test_a_convolution_is_windows_times_a_matrix(data) -> None:
    draw = data.draw
    axes = draw(st.integers(1, 2))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    options = {
        "kernel_size": draw(st.integers(1, 3)),
        "stride": draw(st.integers(1, 2)),
        "dilation": draw(st.integers(1, 2)),
        "padding": draw(st.integers(0, 2)),
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "circular", "reflect", "replicate"])),
    }
    if draw(st.booleans()):
        options |= {"padding": "same", "stride": 1, "kernel_size": 3}  # of even ones torch warns
    conv = (nn.Conv1d, nn.Conv2d)[axes - 1](2 * groups, groups * draw(st.integers(1, 3)), **options).double()
    sizes = [draw(st.integers(6, 8)) for _ in range(axes)]
    x = torch.randn(*([] if draw(st.booleans()) else [2]), 2 * groups, *sizes, dtype=torch.float64)
    got, seen = apart(conv, x)
    close(got, conv(x))
    # and what is said of its positions is so: each needs no input later than the one named
    kind = kind_of(conv)
    assert kind is not None
    (use,) = kind.uses("m", conv, x.shape)
    assert use.positions == len(seen[0][1])
    if options["padding_mode"] == "zeros" and x.dim() == axes + 2:
        moved = x.clone().requires_grad_()
        flat = conv(moved).flatten(2).sum(1).flatten()  # image after image, as the plane has them
        for position in draw(st.sets(st.integers(0, use.positions - 1), min_size=1, max_size=3)):
            (grad,) = torch.autograd.grad(flat[position], moved, retain_graph=True)
            touched = grad.abs().sum(1).flatten().nonzero()  # [images, places]
            if len(touched):
                assert int(touched.max()) <= use.last_input[position]


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_lies_as_torchs_does(form) -> None:
    """Else a mean over its positions is summed in another order, and what is rounded after it may be another number."""
    conv = nn.Conv2d(3, 5, 3)
    x = torch.randn(2, 3, 9, 8).contiguous(memory_format=form)
    got, _ = apart(conv, x)
    assert isinstance(got, Tensor)
    assert got.stride() == conv(x).stride()
    alone, _ = apart(conv, x[0])
    assert isinstance(alone, Tensor) and alone.is_contiguous() and conv(x[0]).is_contiguous()


def test_rows_of_a_matrix_are_ordered_by_channel_then_kernel_row_then_kernel_column() -> None:
    conv = nn.Conv2d(3, 5, (2, 3))
    kind = kind_of(conv)
    assert kind is not None
    (matrix,) = kind.matrices("m", conv)
    assert torch.equal(matrix.weight[0], conv.weight.flatten(1).T)
    assert matrix.weight[0, 1 * 6 + 1 * 3 + 2, 4] == conv.weight[4, 1, 1, 2]


@pytest.mark.parametrize("base", [nn.LSTM, nn.GRU])
@given(st.data())
def test_recurrent_layers(base, data) -> None:
    draw = data.draw
    batch_first, two_ways, layers = draw(st.booleans()), draw(st.booleans()), draw(st.integers(1, 2))
    module = base(3, 4, layers, bias=draw(st.booleans()), batch_first=batch_first, bidirectional=two_ways).double()
    steps, samples, batched = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(st.booleans())
    shape = ((samples, steps) if batch_first else (steps, samples)) if batched else (steps,)
    x = torch.randn(*shape, 3, dtype=torch.float64)
    args: list[object] = [x]
    if draw(st.booleans()):
        states = [torch.randn(layers * (1 + two_ways), *([samples] if batched else []), 4).double() for _ in range(2)]
        args.append(tuple(states) if base is nn.LSTM else states[0])
    close(apart(module, *args)[0], module(*args))


@pytest.mark.parametrize("base", [nn.LSTMCell, nn.GRUCell])
@pytest.mark.parametrize("shape", [(3,), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_cells(base, shape, bias) -> None:
    cell = base(3, 4, bias=bias).double()
    x = torch.randn(*shape, dtype=torch.float64)
    close(apart(cell, x)[0], cell(x))
    state = cell(x)
    close(apart(cell, x, state)[0], cell(x, state))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3)])
def test_linear(shape) -> None:
    linear = nn.Linear(3, 5).double()
    x = torch.randn(*shape, dtype=torch.float64)
    close(apart(linear, x)[0], linear(x))


def test_what_has_a_forward_of_its_own_is_no_matrix() -> None:
    class Scaled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    replaced = nn.Linear(2, 2)
    replaced.forward = lambda x: x  # type: ignore[method-assign]
    for module in (Scaled(2, 2), replaced, nn.Conv3d(1, 1, 1), nn.LSTM(2, 4, proj_size=1), nn.ReLU()):
        assert kind_of(module) is None
    assert kind_of(torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))) is not None
