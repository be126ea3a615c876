"""Do centre points say what boxes do, and does the loss know when they are right?"""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from bale.errors import VideoError
from bale.video.detections import Detections, overlaps
from bale.video.detectors.centre_point import (
    CentreMaps,
    CentrePointHead,
    CentreTargets,
    centre_loss,
    decode,
    targets,
    visible,
)
from bale.video.detectors.suppress import suppress

ROWS, COLUMNS, CLASSES = 12, 16, 3


def maps_of(wanted: CentreTargets, sure: float = 1e-5) -> CentreMaps:
    """What a head would say that has learnt everything."""
    return CentreMaps(wanted.heat.clamp(sure, 1 - sure).logit(), wanted.size, wanted.offset)


@st.composite
def objects(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, tuple[int, int]]:
    """Boxes inside a frame with centres at different places, labels, stride, and the frame's height and width."""
    stride = draw(st.sampled_from((1, 4, 8)))
    width, height = COLUMNS * stride, ROWS * stride
    part = st.floats(0.02, 0.98)
    boxes: dict[tuple[int, int], tuple[float, float, float, float]] = {}
    for _ in range(draw(st.integers(0, 6))):
        x, y = draw(part) * width, draw(part) * height
        half_width, half_height = draw(part) * min(x, width - x), draw(part) * min(y, height - y)
        boxes[int(x / stride), int(y / stride)] = (x - half_width, y - half_height, x + half_width, y + half_height)
    labels = draw(st.lists(st.integers(0, CLASSES - 1), min_size=len(boxes), max_size=len(boxes)))
    return (
        torch.tensor(list(boxes.values())).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        stride,
        (height, width),
    )


@given(objects())
def test_decoding_the_targets_gives_the_boxes_back(drawn):
    boxes, labels, stride, size = drawn
    wanted = targets([boxes], [labels], CLASSES, stride, (ROWS, COLUMNS))
    found = decode(maps_of(wanted), stride, size, threshold=0.999)
    assert len(found) == len(boxes)
    # Equal scores come in any order.
    order, same = found.boxes.sum(1).argsort(), boxes.sum(1).argsort()
    torch.testing.assert_close(found.boxes[order], boxes[same], rtol=1e-4, atol=1e-3 * stride)
    assert sorted(found.labels.tolist()) == sorted(labels.tolist())


@given(objects())
@example((torch.tensor([[4.0, 0.8387, 12.0, 11.1613]]), torch.tensor([0]), 1, (12, 16)))  # a centre just above row 6
def test_targets_are_one_at_centres_and_nowhere_else(drawn):
    boxes, labels, stride, _ = drawn
    wanted = targets([boxes], [labels], CLASSES, stride, (ROWS, COLUMNS))
    centre = wanted.weight == 1
    assert int(centre.sum()) == len(boxes) == int((wanted.heat == 1).sum())
    assert torch.equal((wanted.heat == 1).any(1, keepdim=True), centre)
    assert bool(((wanted.heat >= 0) & (wanted.heat <= 1)).all())
    assert bool(((wanted.offset >= 0) & (wanted.offset < 1) | ~centre).all())


def test_places_around_a_centre_count_less_the_further_away_they_are():
    wanted = targets([torch.tensor([[4.0, 8.0, 44.0, 40.0]])], [torch.tensor([0])], 1, 1, (48, 48))
    around = wanted.weight[0, 0, 24, 24:30]
    assert around[0] == 1 and (around.diff()[around[1:] > 0] < 0).all() and (around[1:3] > 0).all()
    assert int((wanted.weight == 1).sum()) == 1 and bool((wanted.weight[wanted.weight > 0] >= 0.1).all())


@given(objects())
def test_every_place_that_learns_says_where_one_of_the_boxes_is(drawn):
    boxes, labels, stride, _ = drawn
    wanted = targets([boxes], [labels], CLASSES, stride, (ROWS, COLUMNS))
    row, column = (wanted.weight[0, 0] > 0).nonzero(as_tuple=True)
    centre = torch.stack((column, row)) + wanted.offset[0, :, row, column]
    half = wanted.size[0, :, row, column].exp() / 2
    said = torch.cat((centre - half, centre + half)).T * stride
    if len(said):
        assert float(torch.cdist(said, boxes.float(), p=torch.inf).min(1).values.max()) < 1e-3 * stride


def test_best_first_cut_to_the_frame_above_the_threshold_and_no_more_than_the_limit():
    heat = torch.full((1, 1, 6, 6), -9.0)
    for row, column, logit in ((0, 0, 1.0), (0, 3, 3.0), (3, 0, -0.5), (4, 4, 2.0)):
        heat[0, 0, row, column] = logit
    maps = CentreMaps(heat, torch.full((1, 2, 6, 6), 1.5), torch.full((1, 2, 6, 6), 0.5))
    found = decode(maps, 4, (22, 21), threshold=0.5)
    torch.testing.assert_close(found.scores, torch.tensor((3.0, 2.0, 1.0)).sigmoid())
    assert found.boxes[2].tolist()[:2] == [0, 0] and found.boxes[1].tolist()[2:] == [21, 22]
    assert len(decode(maps, 4, (22, 21), limit=2, threshold=0.0)) == 2
    assert len(decode(maps, 4, (22, 21), threshold=0.99)) == 0


def test_only_the_higher_of_two_neighbours_is_told():
    heat = torch.full((1, 2, 4, 4), -9.0)
    heat[0, 0, 1, 1], heat[0, 0, 1, 2], heat[0, 1, 2, 2] = 2.0, 1.0, 0.5
    found = decode(CentreMaps(heat, torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)), 8, (32, 32), threshold=0.1)
    assert found.labels.tolist() == [0, 1]


def test_the_loss_is_least_for_the_targets_themselves():
    boxes = [torch.tensor(((4.0, 6.0, 20.0, 40.0), (60.0, 50.0, 90.0, 70.0))), torch.zeros(0, 4)]
    labels = [torch.tensor((0, 2)), torch.zeros(0, dtype=torch.int64)]
    wanted = targets(boxes, labels, CLASSES, 8, (ROWS, COLUMNS))
    # Near a centre nothing has to be said, so the best heat is 1 at centres and 0 elsewhere.
    heat = torch.where(wanted.heat == 1, 12.0, -12.0)
    best = centre_loss(CentreMaps(heat, wanted.size, wanted.offset), wanted)
    assert best < 1e-3
    for maps in (
        CentreMaps(-heat, wanted.size, wanted.offset),
        CentreMaps(heat, wanted.size + 0.1, wanted.offset),
        CentreMaps(heat, wanted.size, wanted.offset - 0.1),
    ):
        assert centre_loss(maps, wanted) > best + 0.1


def test_a_far_false_peak_costs_more_than_one_beside_a_centre():
    wanted = targets([torch.tensor(((30.0, 20.0, 90.0, 80.0),))], [torch.tensor((0,))], 1, 8, (ROWS, COLUMNS))
    row, column = (wanted.heat[0, 0] == 1).nonzero()[0].tolist()

    def loss(at: tuple[int, int]) -> float:
        heat = torch.where(wanted.heat == 1, 6.0, -6.0)
        heat[0, 0, at[0], at[1]] = 2.0
        return float(centre_loss(CentreMaps(heat, wanted.size, wanted.offset), wanted))

    assert loss((row, column + 1)) < loss((0, 0))


def test_no_logit_makes_the_loss_or_its_gradient_infinite():
    wanted = targets([torch.tensor(((4.0, 6.0, 20.0, 40.0),))], [torch.tensor((0,))], 1, 8, (ROWS, COLUMNS))
    heat = torch.linspace(-1e4, 1e4, ROWS * COLUMNS).reshape(1, 1, ROWS, COLUMNS).requires_grad_(True)
    loss = centre_loss(CentreMaps(heat, wanted.size, wanted.offset), wanted)
    loss.backward()
    assert heat.grad is not None and bool(torch.isfinite(loss) & torch.isfinite(heat.grad).all())


def test_the_smaller_of_two_objects_at_one_place_is_learnt():
    boxes = torch.tensor(((30.0, 30.0, 50.0, 50.0), (10.0, 10.0, 70.0, 70.0)))
    wanted = targets([boxes], [torch.tensor((0, 0))], 1, 8, (ROWS, COLUMNS))
    assert wanted.size[0, :, 5, 5].exp().tolist() == pytest.approx([2.5, 2.5])


def test_a_fresh_head_finds_nothing():
    torch.manual_seed(0)
    head = CentrePointHead(8, 2, 16)
    with torch.no_grad():
        assert len(decode(head(torch.rand(1, 8, 12, 16)), 8, (96, 128), threshold=0.2)) == 0


@pytest.mark.parametrize(
    ("box", "label", "message"),
    [
        ((1.0, 1.0, 9.0, 9.0), 3, "frame 0: label 3; there are 3 classes"),
        ((9.0, 1.0, 9.0, 9.0), 0, "frame 0: box .* has no area"),
        ((120.0, 1.0, 150.0, 9.0), 0, "has its centre outside the frame"),
    ],
)
def test_targets_refuse_what_no_map_can_say(box, label, message):
    with pytest.raises(VideoError, match=message):
        targets([torch.tensor((box,))], [torch.tensor((label,))], CLASSES, 8, (ROWS, COLUMNS))


def test_decode_takes_one_frame():
    maps = CentreMaps(torch.zeros(2, 1, 4, 4), torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4))
    with pytest.raises(VideoError, match="one frame, got those of 2"):
        decode(maps, 8, (32, 32))


def test_visible_cuts_boxes_and_leaves_out_those_outside():
    boxes = torch.tensor(((-5.0, 2.0, 8.0, 90.0), (40.0, 5.0, 60.0, 9.0), (1.0, 1.0, 3.0, 3.0)))
    found = visible(Detections(boxes, torch.tensor((0.9, 0.8, 0.7)), torch.tensor((0, 1, 2))), (30, 40))
    assert found.boxes.tolist() == [[0, 2, 8, 30], [1, 1, 3, 3]]
    assert found.labels.tolist() == [0, 2]


@given(objects(), st.floats(0.1, 0.9))
def test_suppression_keeps_the_best_and_nothing_that_it_overlaps(drawn, overlap):
    boxes, labels, _, _ = drawn
    scores = torch.linspace(0.2, 0.9, len(boxes))
    kept = suppress(Detections(boxes, scores, labels), overlap)
    assert kept.scores.tolist() == sorted(kept.scores.tolist(), reverse=True)
    same = kept.labels[:, None] == kept.labels[None, :]
    between = (torch.from_numpy(overlaps(kept.boxes.numpy(), kept.boxes.numpy())) * same).fill_diagonal_(0)
    assert not len(kept) or float(between.max()) < overlap
    # Whatever is left out overlaps a better one that stays.
    for box, score, label in zip(boxes, scores, labels, strict=True):
        if score not in kept.scores:
            better = (kept.scores > score) & (kept.labels == label)
            assert float(overlaps(box[None].numpy(), kept.boxes[better].numpy()).max()) >= overlap
