"""Intervals hold what they promise where frames resemble each other, and equal variants do not differ."""

import numpy as np
import pytest
import torch

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.metrics.average_precision import FramePrecision, FrameTruth, match_frame
from bale.video.metrics.bootstrap import (
    FrameMean,
    FrameQuantile,
    block_length,
    draw_counts,
    interval,
    paired,
)

FRAMES = 300


def autoregressive(generator, frames, memory):
    """A stationary series of mean 0: each value `memory` times the one before, and new noise."""
    noise = generator.normal(size=frames + 100)
    for place in range(1, len(noise)):
        noise[place] += memory * noise[place - 1]
    return noise[100:]


def coverage(block, series):
    intervals = [interval(FrameMean(each), FRAMES, block, 200, seed) for seed, each in enumerate(series)]
    return np.mean([each.low <= 0 <= each.high for each in intervals])


def test_blocks_cover_the_mean_of_frames_that_resemble_each_other_and_single_frames_do_not():
    generator = np.random.default_rng(0)
    series = [autoregressive(generator, FRAMES, 0.6) for _ in range(400)]
    assert 0.86 <= coverage(None, series) <= 0.99
    assert coverage(1, series[:100]) < 0.75


def test_each_sample_has_as_many_frames_as_there_are_in_blocks_of_successive_ones():
    counts = draw_counts(10, 4, 500, seed=1)
    assert (counts.sum(1) == 10).all()
    assert (counts >= 0).all()
    one = draw_counts(10, 10, 50, seed=1)  # a single block, round the circle
    assert (one == 1).all()
    assert counts.mean(0) == pytest.approx(np.ones(10), abs=0.25)  # the ends are drawn as often as the middle


def test_a_block_goes_on_at_the_beginning():
    counts = draw_counts(7, 3, 400, seed=2)
    literal = np.zeros_like(counts)
    starts = np.random.default_rng(2).integers(0, 7, (400, 3))
    for sample in range(400):
        drawn = [(start + step) % 7 for start in starts[sample] for step in range(3)][:7]
        literal[sample] = np.bincount(drawn, minlength=7)
    assert (counts == literal).all()


def test_a_seed_gives_the_same_interval():
    values = np.random.default_rng(3).normal(size=60)
    assert interval(FrameMean(values), 60, seed=4) == interval(FrameMean(values), 60, seed=4)
    assert interval(FrameMean(values), 60, seed=4) != interval(FrameMean(values), 60, seed=5)


def precision(seed, shift):
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(40):
        corner = generator.uniform(0, 100, (4, 2))
        boxes = np.concatenate([corner, corner + 20], 1).astype(np.float32)
        found = boxes + generator.normal(0, shift, (4, 4)).astype(np.float32)
        scores = torch.from_numpy(-np.sort(-generator.random(4).astype(np.float32)))
        detections = Detections(torch.from_numpy(found), scores, torch.zeros(4, dtype=torch.int64))
        frames.append(match_frame(detections, FrameTruth.of(boxes)))
    return FramePrecision(frames)


def test_equal_variants_differ_by_exactly_nothing():
    result = paired(precision(0, 1.0), precision(0, 1.0), 40, repeats=100)
    assert (result.difference.value, result.difference.low, result.difference.high, result.p) == (0, 0, 0, 1)


def test_a_better_variant_is_told_from_a_worse_one():
    result = paired(precision(0, 0.5), precision(0, 2.0), 40, repeats=400)
    assert result.difference.low > 0
    assert result.p < 0.01
    assert result.first - result.second == pytest.approx(result.difference.value)
    turned = paired(precision(0, 2.0), precision(0, 0.5), 40, repeats=400)
    assert (turned.difference.low, turned.p) == (pytest.approx(-result.difference.high), result.p)


def test_a_quantile_of_counted_frames_is_that_of_the_frames_drawn():
    generator = np.random.default_rng(6)
    values = generator.normal(size=20)
    counts = draw_counts(20, 3, 30, seed=7)
    for share in (0.5, 0.9, 0.99, 1.0):
        expected = [np.quantile(np.repeat(values, row.astype(int)), share, method="inverted_cdf") for row in counts]
        assert FrameQuantile(values, share)(counts) == pytest.approx(np.array(expected))


def test_blocks_are_the_square_root_or_two_seconds_and_a_quarter_at_most():
    assert block_length(300) == 18
    assert block_length(300, rate=10) == 20
    assert block_length(300, rate=30) == 60
    assert block_length(40, rate=30) == 10
    assert block_length(1) == 1


def test_numbers_without_a_meaning_are_refused():
    mean = FrameMean(np.ones(5))
    for wrong, message in (
        ({"block": 6}, "block: expected 1 to 5 frames, as many as there are, got 6"),
        ({"repeats": 0}, "repeats: expected at least 1, got 0"),
        ({"level": 1.0}, "level: expected between 0 and 1, got 1"),
    ):
        with pytest.raises(VideoError, match=message):
            interval(mean, 5, **wrong)
    with pytest.raises(VideoError, match="frames: expected at least 1"):
        draw_counts(0, 1, 1, 0)
    with pytest.raises(VideoError, match="share: expected above 0"):
        FrameQuantile(np.ones(5), 0)
    nothing = FramePrecision([match_frame(Detections.none(), FrameTruth.of(np.zeros((0, 4))))])
    with pytest.raises(VideoError, match="nothing to be found"):
        interval(nothing, 1, 1)
