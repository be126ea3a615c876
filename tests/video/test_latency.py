"""Latencies, staleness and shares of computation are those that were put in."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
from tests.video.stream_results import MadeUp, made_up

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.frame import Frame
from bale.video.metrics.latency import LatencyStats, compute_share, stream_stats, without_image


def result(index, kind="carried", key=0, latency=0.01, seconds=None, problem="", wait=0.0):
    frame = Frame(index, index / 10, None)
    arrived = index / 10
    return MadeUp(frame, Detections.none(), kind, key, None, arrived, arrived + latency, seconds or {}, problem)


def test_the_first_frame_is_apart_and_p99_is_a_latency_that_occurred():
    latencies = [5.0, *np.random.default_rng(0).permutation(np.arange(1, 201))]
    stats = LatencyStats.of(latencies)
    assert stats == LatencyStats(frames=200, mean=100.5, median=100, p99=198, worst=200, first=5)


def test_a_single_frame_is_all_there_is():
    assert LatencyStats.of([2.0]) == LatencyStats(1, 2, 2, 2, 2, 2)
    with pytest.raises(VideoError, match="at least one frame"):
        LatencyStats.of([])


def test_a_stream_is_counted_by_kind():
    results = [
        result(0, "key", 0, 0.5),
        result(1, latency=0.02),
        result(2, "dropped", latency=9.0),
        result(3, "repeated", problem="damaged"),
        result(4, "key", 4, 0.3),
        result(5, key=4),
    ]
    stats = stream_stats(results)
    assert stats.kinds == {"key": 2, "carried": 2, "dropped": 1, "repeated": 1}
    assert (stats.frames, stats.keys, stats.problems, stats.dropped) == (6, 2, 1, 1)
    assert stats.key_rate == pytest.approx(2 / 6)
    assert stats.latency is not None
    assert (stats.latency.first, stats.latency.worst, stats.latency.frames) == pytest.approx((0.5, 0.3, 4))
    assert stats.staleness_mean == pytest.approx((0 + 1 + 3 + 0 + 1) / 5)
    assert stats.staleness_worst == 3
    assert stats.rate == pytest.approx(6 / 9.2)


def test_without_features_there_is_no_staleness_and_no_share():
    stats = stream_stats([result(0, "repeated", None), result(1, "dropped", None)])
    assert math.isnan(stats.staleness_mean)
    assert (stats.staleness_worst, stats.keys, stats.compute) == (0, 0, None)
    assert stream_stats([result(0, "dropped", None)]).latency is None
    with pytest.raises(VideoError, match="at least one result"):
        stream_stats([])


def test_the_share_is_work_against_the_detector_on_every_frame():
    key = {"features": 0.9, "head": 0.1}
    light = {"flow": 0.05, "warp": 0.05, "head": 0.1, "wait": 7.0}
    stats = stream_stats([result(0, "key", seconds=key), *(result(index, seconds=light) for index in range(1, 10))])
    assert stats.compute is not None
    assert stats.compute.spent == pytest.approx(1.0 + 9 * 0.2)
    assert stats.compute.every_frame == pytest.approx(10.0)
    assert stats.compute.share == pytest.approx(0.28)
    assert stats.seconds["wait"] == pytest.approx(63)


def test_a_workers_seconds_come_from_the_counts():
    light = {"flow": 0.1, "head": 0.1}
    counts = SimpleNamespace(keys_finished=2, key_seconds=1.8)
    stats = stream_stats([result(index, seconds=light) for index in range(10)], counts)
    assert (stats.keys, stats.key_rate) == (2, 0.2)
    assert stats.compute is not None
    assert stats.compute.spent == pytest.approx(1.8 + 10 * 0.2)
    assert stats.compute.every_frame == pytest.approx(10 * (0.9 + 0.1))
    alone = stream_stats([result(index, seconds=light) for index in range(10)], counts, detector_seconds=0.5)
    assert alone.compute is not None
    assert alone.compute.every_frame == pytest.approx(5)


def test_shares_of_other_units():
    assert compute_share(3e9, 1e9, 10).share == pytest.approx(0.3)
    with pytest.raises(VideoError, match="costs more than 0"):
        compute_share(1, 0, 10)


def test_results_are_kept_without_their_pixels():
    full = made_up(1)[0]
    light = without_image(full)
    assert light.frame.image is None
    assert (light.frame.index, light.finished, light.detections) == (0, full.finished, full.detections)
    assert dataclasses.replace(light, frame=full.frame).frame is full.frame
