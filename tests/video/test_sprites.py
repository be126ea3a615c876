"""Are films of sprites what they say they are, and does a network learn them in seconds?"""

import numpy as np
import pytest
import torch

from bale.errors import VideoError
from bale.train import train_detector
from bale.video.detections import Detections, overlaps
from bale.video.detectors.sprites import SHAPES, SpriteFilm, TinyDetector, sprite_film


@pytest.fixture(scope="module")
def learnt() -> TinyDetector:
    return train_detector(steps=450)


def found_on(detector: TinyDetector, image: np.ndarray) -> Detections:
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        return detector.head(detector.features(pixels), image.shape[:2])


def average_precision(found: list[Detections], films: list[SpriteFilm]) -> float:
    """AP at an overlap of .5, all classes together: a box of another class is wrong."""
    truth = [
        (torch.from_numpy(boxes), torch.from_numpy(labels))
        for film in films
        for boxes, labels in zip(film.boxes, film.labels, strict=True)
    ]
    hits: list[tuple[float, bool]] = []
    for each, (boxes, labels) in zip(found, truth, strict=True):
        free = torch.ones(len(boxes), dtype=torch.bool)
        overlap = torch.from_numpy(overlaps(each.boxes.numpy(), boxes.numpy()))
        for index, score in enumerate(each.scores.tolist()):
            fits = torch.where(free & (labels == each.labels[index]), overlap[index], 0)
            best = int(fits.argmax()) if len(fits) else 0
            hit = bool(len(fits) and fits[best] >= 0.5)
            free[best : best + 1] &= not hit
            hits.append((score, hit))
    hits.sort(key=lambda each: -each[0])
    right = np.cumsum([hit for _, hit in hits])
    precision = np.maximum.accumulate((right / np.arange(1, len(hits) + 1))[::-1])[::-1]
    recall = np.concatenate(([0], right / sum(len(boxes) for boxes, _ in truth)))
    return float((np.diff(recall) * precision).sum())


@pytest.mark.parametrize("panning", [0.0, 2.5])
def test_a_detector_from_nothing_finds_sprites_of_films_that_it_has_not_seen(learnt, panning):
    films = [sprite_film(4, seed=10_000_000 + film, panning=panning) for film in range(15)]
    found = [found_on(learnt, image) for film in films for image in film.images]
    assert average_precision(found, films) > 0.8


def test_it_knows_frames_of_another_size(learnt):
    films = [sprite_film(3, (96, 160), seed=20_000_000 + film) for film in range(6)]
    found = [found_on(learnt, image) for film in films for image in film.images]
    assert average_precision(found, films) > 0.7


def test_the_same_seed_gives_the_same_film_and_another_one_another():
    one, same, other = (sprite_film(3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.images, same.images)
    assert not np.array_equal(one.images, other.images)
    assert all(np.array_equal(a, b) for a, b in zip(one.boxes, same.boxes, strict=True))


def test_boxes_hold_the_sprites_and_nothing_else_moves():
    film = sprite_film(6, (80, 112), seed=5, sprites=2)
    still = np.ones((80, 112), bool)
    for boxes in film.boxes:
        for left, top, right, bottom in boxes:
            still[max(0, int(top) - 1) : int(bottom) + 2, max(0, int(left) - 1) : int(right) + 2] = False
    assert still.any() and not still.all()
    assert (film.images[1:, still] == film.images[:-1, still]).all()
    assert all((film.images[0] != image).any() for image in film.images[1:])


def test_a_panning_background_moves_by_so_many_pixels():
    film = sprite_film(3, seed=0, sprites=0, panning=3.0)
    for earlier, later in zip(film.images[:-1], film.images[1:], strict=True):
        assert (earlier[:, 3:] == later[:, :-3]).all()


def test_sprites_move_by_parts_of_pixels_and_stay_inside():
    film = sprite_film(60, seed=3, sprites=1, speed=3.0)
    boxes = np.stack([boxes[0] for boxes in film.boxes])
    assert (boxes >= 0).all() and (boxes <= 96).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert np.allclose(sides, sides[0], atol=1e-4)
    steps = np.diff(boxes[:, :2], axis=0)
    assert 0 < np.abs(steps).max() <= 3.0 + 1e-4
    assert (np.abs(steps - np.round(steps)) > 0.05).any()


def test_a_sprite_behind_another_has_no_box():
    films = [sprite_film(10, (48, 48), seed=seed, sprites=6, sides=(14.0, 30.0)) for seed in range(4)]
    many = [len(boxes) for film in films for boxes in film.boxes]
    assert min(many) < 6
    assert all(
        len(boxes) == len(labels) for film in films for boxes, labels in zip(film.boxes, film.labels, strict=True)
    )


def test_features_are_a_map_of_the_stride_and_take_no_gradients():
    for stride in (4, 8):
        detector = TinyDetector(stride=stride)
        features = detector.features(torch.rand(1, 3, 32, 64))
        assert features.shape == (1, 16, 32 // stride, 64 // stride) and not features.requires_grad
        assert detector.multiple == detector.stride == stride and detector.names == SHAPES


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sprite_film(0), "at least one frame"),
        (lambda: sprite_film(1, (20, 20), sides=(10.0, 18.0)), "sides must be"),
        (lambda: TinyDetector(stride=16), "stride must be 4 or 8, got 16"),
    ],
)
def test_numbers_out_of_range_are_refused(call, message):
    with pytest.raises(VideoError, match=message):
        call()
