"""Training a detector: the same with stops as without, nothing but what was asked, errors that name the picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bale.errors import CheckpointError, VideoError
from bale.train.detector import FineTuning, fine_tune
from bale.video.detectors.augment import Augmentation, crop
from bale.video.detectors.lite0 import Lite0Detector
from bale.video.detectors.sprites import TinyDetector, sprite_film

STEPS = 7
HOW = FineTuning(steps=STEPS, batch_size=2, rate=2e-3, seed=4)
CROPS = Augmentation(size=48, zoom=(0.8, 1.3))


@pytest.fixture(scope="module")
def film():
    film = sprite_film(6, (64, 72), seed=3)
    boxes, labels = ([torch.from_numpy(each) for each in which] for which in (film.boxes, film.labels))
    return list(film.images), boxes, labels


@pytest.fixture
def detector():
    torch.manual_seed(1)
    return TinyDetector()


def weights_of(detector):
    return {name: tensor.clone() for name, tensor in detector.state_dict().items()}


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


class Stop:
    """Raises KeyboardInterrupt after one step, and remembers what it was told."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.told: list[int] = []

    def __call__(self, step) -> None:
        self.told.append(step.step)
        if step.step == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_with_a_stop_it_ends_bit_for_bit_where_it_ends_without(film, tmp_path, stop):
    torch.manual_seed(1)
    straight, stopped = TinyDetector(), TinyDetector()
    stopped.load_state_dict(straight.state_dict())
    start = weights_of(straight)
    fine_tune(straight, *film, HOW, CROPS)
    told = Stop(stop)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(stopped, *film, HOW, CROPS, on_step=told, save=tmp_path, save_every=3)
    stopped.load_state_dict(start)  # as in a new process
    went_on = Stop(0)
    fine_tune(stopped, *film, HOW, CROPS, on_step=went_on, save=tmp_path, save_every=3)
    assert same(weights_of(straight), weights_of(stopped))
    assert told.told + went_on.told == list(range(1, STEPS + 1))


def test_a_finished_run_is_there_at_once(film, tmp_path, detector):
    fine_tune(detector, *film, HOW, CROPS, save=tmp_path)
    done = weights_of(detector)
    other, told = TinyDetector(), Stop(0)
    fine_tune(other, *film, HOW, CROPS, on_step=told, save=tmp_path)
    assert told.told == [] and same(done, weights_of(other))


def test_a_checkpoint_of_another_run_is_refused_and_stays(film, tmp_path, detector):
    fine_tune(detector, *film, HOW, CROPS, save=tmp_path)
    before = (tmp_path / "checkpoint.json").read_bytes()
    for settings, message in ((replace(HOW, seed=5), "seed 4 there, 5 here"), (replace(HOW, rate=0.1), "rate")):
        with pytest.raises(CheckpointError, match=message):
            fine_tune(detector, *film, settings, CROPS, save=tmp_path)
    with pytest.raises(CheckpointError, match="crop flip"):
        fine_tune(detector, *film, HOW, replace(CROPS, flip=0.0), save=tmp_path)
    with pytest.raises(CheckpointError, match="data '' there, 'other' here"):
        fine_tune(detector, *film, HOW, CROPS, save=tmp_path, data="other")
    assert (tmp_path / "checkpoint.json").read_bytes() == before
    index = json.loads(before)
    (tmp_path / "checkpoint.json").write_text(json.dumps({**index, "format": "other"}))
    with pytest.raises(CheckpointError, match="is of format other"):
        fine_tune(detector, *film, HOW, CROPS, save=tmp_path)


def test_the_loss_falls(film, detector):
    losses: list[float] = []
    how = FineTuning(steps=60, batch_size=2, rate=5e-3)
    fine_tune(detector, *film, how, CROPS, on_step=lambda step: losses.append(step.loss))
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])


def test_the_first_parts_and_all_statistics_stay_and_nothing_asks_for_gradients_later(film):
    pytest.importorskip("efficientnet_lite_pytorch")
    detector = Lite0Detector(["disc", "square", "triangle"], channels=8, width=8, hidden=8)
    before = weights_of(detector)
    fine_tune(detector, *film, FineTuning(steps=1, batch_size=1, frozen=10), replace(CROPS, size=32))
    after = weights_of(detector)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = ("stem", *(f"blocks.{index}." for index in range(9)))
    assert not any(name.startswith(frozen) or "running" in name or "num_batches" in name for name in moved)
    for part in ("blocks.9.", "blocks.15.", "laterals.0", "smooth.0", "points.hidden", "points.answer"):
        assert any(name.startswith(part) for name in moved)
    assert not any(parameter.requires_grad for parameter in detector.parameters()) and not detector.training


def test_rates_rise_then_fall():
    shares = [FineTuning(steps=100).share(step) for step in range(100)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert shares[4:] == sorted(shares[4:], reverse=True) and 0 <= shares[-1] < 0.01


@given(seed=st.integers(0, 10_000), size=st.sampled_from((16, 32, 50)), zoom=st.floats(0.5, 3.0))
def test_a_crop_s_boxes_are_where_the_objects_went(seed, size, zoom):
    """An object of one colour on black is found again in the crop, at its box, to the softness of the resizing."""
    random = np.random.default_rng(seed)
    image = np.zeros((60, 70, 3), np.uint8)
    left, top = random.integers(5, 40, 2)
    width, height = random.integers(6, 18, 2)
    image[top : top + height, left : left + width] = 255
    boxes = torch.tensor(((left, top, left + width, top + height),)).float()
    how = Augmentation(size=size, zoom=(zoom, zoom), light=0, colour=0)
    picture, moved, labels = crop(image, boxes, torch.tensor((2,)), how, random)
    assert picture.shape == (3, size, size) and len(moved) == len(labels) <= 1
    for box in moved:
        assert bool((box >= 0).all() and (box <= size).all())
        bright = (picture[0] > 0.5).nonzero().float()
        found = torch.cat((bright.amin(0).flip(0), bright.amax(0).flip(0) + 1))
        assert float((found - box).abs().max()) <= max(1.0, size / 60)


def test_crops_are_flipped_coloured_and_laid_over_objects():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    boxes, labels = torch.tensor(((2.0, 3.0, 12.0, 15.0),)), torch.tensor((1,))
    plain = Augmentation(size=64, zoom=(1, 1), flip=0, light=0, colour=0)
    picture, moved, _ = crop(image, boxes, labels, plain, np.random.default_rng(0))
    torch.testing.assert_close(picture, torch.from_numpy(image).permute(2, 0, 1).float() / 255)
    mirrored, flipped, _ = crop(image, boxes, labels, replace(plain, flip=1), np.random.default_rng(0))
    assert torch.equal(mirrored, picture.flip(-1)) and flipped.tolist() == [[52, 3, 62, 15]]
    assert torch.equal(moved, boxes)
    near = Augmentation(size=16, zoom=(1, 1), on_objects=1, visible=0)
    assert all(len(crop(image, boxes, labels, near, np.random.default_rng(seed))[1]) for seed in range(20))


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[1.0, 1.0, 5.0]], [0], r"picture 1: boxes \[1, 3\]"),
        ([[1.0, 1.0, 5.0, 6.0]], [0, 1], r"labels \[2\]; expected"),
        ([[1.0, 1.0, 5.0, 6.0]], [3], r"picture 1: labels \[3\]; there are 3 classes"),
        ([[5.0, 1.0, 1.0, 6.0]], [0], "picture 1: a box has no area"),
        ([[float("nan"), 1.0, 1.0, 6.0]], [0], "picture 1: a box has no area"),
    ],
)
def test_boxes_that_do_not_fit_are_refused_before_anything_is_trained(film, detector, boxes, labels, message):
    images, all_boxes, all_labels = (list(each) for each in film)
    all_boxes[1], all_labels[1] = torch.tensor(boxes), torch.tensor(labels)
    before = weights_of(detector)
    with pytest.raises(VideoError, match=message):
        fine_tune(detector, images, all_boxes, all_labels, HOW, CROPS)
    assert same(before, weights_of(detector))


def test_numbers_out_of_range_are_refused(film, detector):
    for settings, message in (
        ({"steps": 0}, "steps must be at least 1"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"decay": -1.0}, "decay must be at least 0"),
        ({"backbone_rate": float("nan")}, "backbone_rate must be at least 0"),
        ({"frozen": -1}, "frozen must be at least 0"),
    ):
        with pytest.raises(VideoError, match=message):
            FineTuning(**settings)
    for settings, message in (
        ({"size": 0}, "size must be"),
        ({"zoom": (2.0, 1.0)}, "zoom must be"),
        ({"flip": 1.5}, "flip must be from 0 to 1"),
    ):
        with pytest.raises(VideoError, match=message):
            Augmentation(**settings)
    with pytest.raises(VideoError, match="size of the crops is 50; this detector needs a multiple of 4"):
        fine_tune(detector, *film, HOW, Augmentation(size=50))
    with pytest.raises(VideoError, match="at least one picture"):
        fine_tune(detector, [], [], [], HOW, CROPS)


def test_a_loss_that_is_not_finite_is_named(film, detector):
    with torch.no_grad():
        detector.points.answer.weight.fill_(float("nan"))
    with pytest.raises(VideoError, match="the loss is nan at step 1: a lower rate"):
        fine_tune(detector, *film, HOW, CROPS)
