"""Do spans, masks on other grids and receptive fields say what counting cell by cell says?"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bale.errors import VideoError
from bale.video.sparse.mask import (
    Spans,
    Window,
    boxes_mask,
    dilate,
    on_grid,
    receptive_field,
    sums_of,
    touched,
    union,
    windows_of,
)

masks = st.builds(
    lambda rows, columns, share, seed: np.random.default_rng(seed).random((rows, columns)) < share,
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.05, 0.3, 1.0]), st.integers(0, 99),
)  # fmt: skip


@st.composite
def windows(draw):
    kernel, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 2))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    if draw(st.booleans()):
        return Window(kernel, stride, padding, dilation)
    extra = draw(st.integers(0, max(stride, dilation) - 1))
    return Window(kernel, stride, min(padding, (kernel - 1) * dilation), dilation, True, extra)


def layer_of(window: Window) -> nn.Module:
    if window.transposed:
        made = nn.ConvTranspose1d(
            1, 1, window.kernel, window.stride, window.padding, window.extra, dilation=window.dilation, bias=False
        )
    else:
        made = nn.Conv1d(1, 1, window.kernel, window.stride, window.padding, window.dilation, bias=False)
    nn.init.ones_(made.weight)
    return made


def dependence(chain: list[Window], inputs: int) -> np.ndarray:
    """Whether each output of a chain of layers depends on each input, bool [outputs, inputs], by impulses."""
    with torch.no_grad():
        value = torch.eye(inputs)[:, None]
        for window in chain:
            value = layer_of(window)(value)
    return value[:, 0].numpy().T > 0


@given(st.lists(windows(), min_size=1, max_size=3), st.integers(1, 12))
@settings(max_examples=80)
def test_spans_through_layers_hold_all_inputs_that_an_output_depends_on(chain, inputs):
    spans, sizes = Spans.of_cells(inputs), [inputs]
    for window in chain:
        sizes.append(window.outputs(sizes[-1]))
        if sizes[-1] < 1:
            return
        spans = spans.read_through(window)
    depends = dependence(chain, inputs)
    assert len(spans.first) == len(depends) == sizes[-1]
    for output, row in enumerate(depends):
        read = np.flatnonzero(row)
        assert not read.size or (spans.first[output] <= read[0] and read[-1] < spans.beyond[output])
        if len(chain) == 1 and chain[0].dilation == 1 and not chain[0].transposed and read.size:
            assert (spans.first[output], spans.beyond[output]) == (read[0], read[-1] + 1)  # and none too many


@given(masks, st.fractions(Fraction(1, 4), 4, max_denominator=4))
def test_a_cell_of_another_grid_is_set_where_any_part_of_it_is(mask, side):
    size = (int(mask.shape[0] / side) + 2, int(mask.shape[1] / side) + 1)
    found = on_grid(mask, side, size)
    for row in range(size[0]):
        for column in range(size[1]):
            down = [min(r, mask.shape[0] - 1) for r in range(int(row * side), -int(-(row + 1) * side // 1))]
            across = [min(c, mask.shape[1] - 1) for c in range(int(column * side), -int(-(column + 1) * side // 1))]
            assert found[row, column] == mask[np.ix_(down, across)].any()


@given(masks, st.integers(0, 3))
def test_dilation_sets_what_is_within_reach(mask, cells):
    rows, columns = np.nonzero(mask)
    for (row, column), found in np.ndenumerate(dilate(mask, cells)):
        near = (abs(rows - row) <= cells) & (abs(columns - column) <= cells)
        assert found == near.any()


def test_sums_are_over_the_rectangle_above_and_left():
    mask = np.array([[1, 0, 1], [0, 1, 1]], dtype=bool)
    assert sums_of(mask).tolist() == [[0, 0, 0, 0], [0, 1, 1, 2], [0, 1, 2, 4]]


def test_nothing_is_touched_by_an_empty_span_even_beyond_the_mask():
    empty = Spans(np.array([0, 1, 5]), np.array([0, 1, 5])).in_blocks(1)
    whole = Spans(np.array([0]), np.array([2]))
    assert not touched(sums_of(np.ones((2, 2), bool)), empty.within(2), whole).any()


def test_receptive_field_of_the_encoder_of_flownet():
    kernels = [7, 5, 5, 3, 3, 3, 3, 3, 3, 3]
    strides = [2, 2, 2, 1, 2, 1, 2, 1, 2, 1]
    chain = [Window(kernel, stride, kernel // 2) for kernel, stride in zip(kernels, strides, strict=True)]
    first, count = receptive_field(chain)
    assert (first, count) == (-191, 383)
    assert receptive_field(chain, 1) == (first + 64, count)
    assert receptive_field([Window(4, 2, 1, transposed=True)], 0, 2) == (-1, 3)
    assert receptive_field([]) == (0, 1)


def test_boxes_cover_the_blocks_that_they_touch():
    boxes = np.array([[15.5, 0, 32, 16], [40, 30, 200, 34], [-50, -50, -1, 20], [90, 2, 99, 5]])
    expected = np.zeros((3, 4), bool)
    expected[0, :2] = True
    expected[1:3, 2:] = True
    assert (boxes_mask(boxes, (40, 64)) == expected).all()
    assert not boxes_mask(np.zeros((0, 4)), (40, 64)).any()


def test_a_union_is_set_where_any_mask_is():
    assert union([np.array([[1, 0, 0]], bool), np.array([[0, 0, 1]], bool)]).tolist() == [[True, False, True]]


def test_padding_that_is_not_zeros_is_refused():
    with pytest.raises(VideoError, match="only padding with zeros"):
        windows_of(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(VideoError, match="only padding with zeros"):
        windows_of(nn.Conv2d(1, 1, 3, padding="same"))
