"""A stream's timeline shows every frame's latency, of a long stream none of the worst, and every loss."""

from dataclasses import replace

import numpy as np
import pytest
from tests.video.stream_results import made_up

from bale.errors import VideoError
from bale.report.video_pictures import draw_timeline


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def marks_of(axes):
    """Names of the rows, and of each its spans: first and last frame."""
    spans = {}
    for label, row in zip(axes.get_yticklabels(), axes.collections, strict=True):
        corners = [path.vertices[:, 0] for path in row.get_paths()]
        spans[label.get_text()] = [(corner.min() + 0.5, corner.max() - 0.5) for corner in corners]
    return spans


def test_each_frame_of_a_short_stream_is_a_point():
    results = made_up(60)
    figure = draw_timeline(results, "street", budget=0.05, period=0.04)
    axes = figure.axes[0]
    drawn = sorted(tuple(point) for points in axes.collections for point in points.get_offsets().tolist())
    assert drawn == [(result.frame.index, pytest.approx(1e3 * result.latency)) for result in results]
    assert legend_of(axes) == ["carried frame", "key frame", "budget 50.0 ms", "a frame comes every 40.0 ms"]
    assert figure.get_suptitle().startswith("street: 60 frames, 6 keys (10.0%); latency mean")
    assert len(figure.axes) == 4


def test_keys_and_losses_are_marked_where_they_are():
    results = made_up(30)
    results[4] = replace(results[4], kind="dropped")
    results[5] = replace(results[5], kind="dropped")
    results[8] = replace(results[8], kind="repeated", problem="damaged")
    marks = marks_of(draw_timeline(results).axes[1])
    assert marks["key"] == [(0, 0), (10, 10), (20, 20)]
    assert marks["dropped"] == [(4, 4), (5, 5)]
    assert marks["repeated"] == marks["problem"] == [(8, 8)]


def test_keys_of_a_worker_are_marked_although_their_frames_were_carried():
    results = [replace(result, kind="carried") for result in made_up(30)]
    assert marks_of(draw_timeline(results).axes[1])["key"] == [(0, 0), (10, 10), (20, 20)]


def test_of_a_long_stream_the_worst_is_still_there():
    results = made_up(20_000)
    results[12_345] = replace(results[12_345], finished=results[12_345].arrived + 0.9)
    results[300] = replace(results[300], kind="dropped")
    figure = draw_timeline(results)
    worst, mean = figure.axes[0].lines[:2]
    assert len(worst.get_xdata()) == 690
    assert np.max(worst.get_ydata()) == pytest.approx(900)
    assert abs(worst.get_xdata()[np.argmax(worst.get_ydata())] - 12_345) < 30
    assert (mean.get_ydata() <= worst.get_ydata()).all()
    assert legend_of(figure.axes[0])[0] == "worst of up to 29 frames"
    ((first, last),) = marks_of(figure.axes[1])["dropped"]
    assert first <= 300 <= last
    assert figure.axes[0].get_yscale() == "log"


def test_what_is_not_known_is_not_drawn(tmp_path):
    results = [replace(result, motion=None, kind="dropped", key_index=None) for result in made_up(3)]
    figure = draw_timeline(results)
    assert len(figure.axes) == 3
    assert "latency" not in figure.get_suptitle()
    figure.savefig(tmp_path / "timeline.png", dpi=30)
    with pytest.raises(VideoError, match="at least one result"):
        draw_timeline([])
