"""Does carrying features mean what Deep Feature Flow means by it? Against plain loops of bilinear sampling."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bale.errors import VideoError
from bale.video.flow.estimator import Flow
from bale.video.propagate import propagate, warp


def features_of(channels, rows, columns, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(1, channels, rows, columns)).astype(np.float32))


def constant_field(right, down, rows, columns):
    return torch.tensor([right, down], dtype=torch.float32).reshape(1, 2, 1, 1).expand(1, 2, rows, columns)


def bilinear(plane: np.ndarray, row: float, column: float) -> float:
    """The plane at a place between cell centres; beyond the edge it is what it is at the edge."""
    rows, columns = plane.shape
    row, column = min(max(row, 0.0), rows - 1.0), min(max(column, 0.0), columns - 1.0)
    top, left = min(int(row), max(rows - 2, 0)), min(int(column), max(columns - 2, 0))
    down, right = row - top, column - left
    bottom, beside = min(top + 1, rows - 1), min(left + 1, columns - 1)
    above = plane[top, left] * (1 - right) + plane[top, beside] * right
    below = plane[bottom, left] * (1 - right) + plane[bottom, beside] * right
    return above * (1 - down) + below * down


def warped_by_hand(features, field, frame_size):
    _, channels, rows, columns = features.shape
    out = np.zeros((channels, rows, columns))
    for row in range(rows):
        for column in range(columns):
            across, down = field[0, :, row, column]  # pixels of the frame
            place = row + down * rows / frame_size[0], column + across * columns / frame_size[1]
            out[:, row, column] = [bilinear(plane, *place) for plane in features[0]]
    return out


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from((4, 8)), st.integers(0, 2**16))
def test_warping_is_bilinear_sampling_where_the_flow_points(rows, columns, stride, seed):
    frame_size = rows * stride, columns * stride
    features = features_of(2, rows, columns, seed)
    field = features_of(2, rows, columns, seed + 1) * stride * 2
    expected = warped_by_hand(features.double().numpy(), field.double().numpy(), frame_size)
    assert np.allclose(warp(features, field, frame_size)[0].numpy(), expected, atol=2e-5)


@given(st.integers(1, 40), st.integers(1, 40))
def test_no_displacement_changes_nothing(rows, columns):
    features = features_of(3, rows, columns)
    field = torch.zeros(1, 2, 5, 3)
    assert torch.allclose(warp(features, field, (rows * 8, columns * 8)), features, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-2, 0), (0, 3), (2, -1)])
def test_whole_cells_are_moved_as_they_are(right, down):
    features = features_of(4, 9, 11)
    moved = warp(features, constant_field(right * 4, down * 4, 2, 2), (36, 44))
    for row in range(9):
        for column in range(11):
            source = min(max(row + down, 0), 8), min(max(column + right, 0), 10)
            assert torch.allclose(moved[0, :, row, column], features[0, :, source[0], source[1]], atol=1e-5)


def test_a_field_of_another_grid_lies_over_the_same_frame():
    # A displacement that grows evenly is the same function on every grid, but for the cells at the border.
    def even(rows, columns):
        row = (torch.arange(rows) + 0.5) * (64 / rows)
        column = (torch.arange(columns) + 0.5) * (96 / columns)
        return torch.stack([column.expand(rows, columns) / 8, row[:, None].expand(rows, columns) / 16])[None]

    features = features_of(2, 8, 12)
    exact = warp(features, even(8, 12), (64, 96))
    for grid in ((64, 96), (16, 24), (32, 48)):
        assert torch.allclose(warp(features, even(*grid), (64, 96)), exact, atol=1e-4)


def test_every_map_is_carried_and_scaled():
    features = {"fine": features_of(3, 8, 8), "coarse": features_of(3, 4, 4)}
    scale = features_of(3, 2, 2).abs()
    field = constant_field(3.0, -2.0, 4, 4)
    carried = propagate(features, Flow(field, scale), (32, 32))
    assert list(carried) == ["fine", "coarse"]
    for name, each in features.items():
        size = each.shape[-2:]
        there = torch.nn.functional.interpolate(scale, size, mode="bilinear", align_corners=False)
        assert torch.equal(carried[name], warp(each, field, (32, 32)) * there)


def test_a_scale_of_one_channel_serves_all_and_another_number_is_refused():
    features = [features_of(2, 4, 4), features_of(5, 4, 4)]
    field = constant_field(1.0, 1.0, 4, 4)
    halved = propagate(features, Flow(field, torch.full((1, 1, 1, 1), 0.5)), (16, 16))
    for each, half in zip(propagate(features, Flow(field), (16, 16)), halved, strict=True):
        assert torch.equal(half, each * 0.5)
    with pytest.raises(VideoError, match="2 channels, and a feature map 5"):
        propagate(features, Flow(field, torch.ones(1, 2, 4, 4)), (16, 16))


def test_half_precision_finds_its_places_in_single_precision():
    features = features_of(1, 2, 500)
    moved = warp(features.half(), constant_field(4.0, 0.0, 2, 500), (8, 2000))
    assert moved.dtype == torch.float16
    assert torch.allclose(moved.float(), warp(features, constant_field(4.0, 0.0, 2, 500), (8, 2000)), atol=2e-3)


def test_gradients_reach_features_field_and_scale():
    features = features_of(2, 3, 4).double().requires_grad_()
    field = (features_of(2, 3, 4, 1).double() * 0.3).requires_grad_()
    scale = features_of(2, 3, 4, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda f, d, s: propagate(f, Flow(d, s), (12, 16)), (features, field, scale))


def test_what_moves_right_is_found_to_the_left_in_the_key():
    key = torch.zeros(1, 1, 4, 8)
    key[0, 0, 2, 3] = 1
    # Content went right by 2 cells of 8 pixels: what is at p now was at p - 16 pixels in the key.
    moved = warp(key, constant_field(-16.0, 0.0, 1, 1), (32, 64))
    assert moved[0, 0, 2, 5] == pytest.approx(1, abs=1e-5) and math.isclose(moved.sum(), 1, abs_tol=1e-4)
