"""`bale watch` refuses, before it opens a film, what means nothing; Ctrl-C and scores do what the help says."""

import os
import signal

import pytest
import torch
from tests.video.stream_results import made_up

from bale.cli.watch import FirstInterrupt, watched


@pytest.fixture
def watch(bale, tmp_path):
    def run(*arguments):
        return bale("watch", tmp_path / "none.mp4", *arguments)

    return run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "motion"], "--policy: expected vds or interval, got 'motion'"),
        (["--measure", "sad"], "--measure: expected codec or blocks or dis or flow-error, got 'sad'"),
        (["--flow", "flownet"], "--flow: expected dis, flownet:FILE or none, got 'flownet'"),
        (["--flow", "flownet:"], "--flow: expected dis, flownet:FILE or none"),
        (["--worker", "thread"], "--worker says where keys are computed beside the stream; give --async, too"),
        (["--async", "--worker", "gpu"], "--worker: expected thread or process, got 'gpu'"),
        (["--every", 5], "--every is for --policy interval"),
        (["--policy", "interval", "--tau", 5], "--tau is for --policy vds"),
        (["--policy", "interval", "--measure", "dis"], "--measure is for --policy vds"),
        (["--policy", "interval", "--every", 0], "--every must be at least 1, got 0"),
        (["--tau", 5, "--key-rate", 0.1], "--key-rate and --tau both say when a key comes; give one of them"),
        (["--tau", 0], "--tau must be above 0, got 0"),
        (["--key-rate", 1.5], "--key-rate: expected keys a frame, above 0 and at most 1, got 1.5"),
        (["--async", "--latency-budget", 30], "with --async no frame waits for one"),
        (["--when-full", "block"], "--when-full is for --realtime"),
        (["--realtime", "--when-full", "drop"], "--when-full: expected block or drop-oldest, got 'drop'"),
        (["--sparse"], "--sparse computes parts of a flow network; give --flow flownet:FILE, not dis"),
        (["--threads", 0], "--threads must be at least 1, got 0"),
        (["--limit", 0], "--limit must be at least 1, got 0"),
        (["--score", 2], "--score: expected 0 to 1, got 2"),
        (["--video", "boxes.txt"], "boxes.txt: expected a name that ends in .mp4"),
        (["--boxes", "boxes.txt"], "boxes.txt: expected a name that ends in .jsonl, .csv"),
        (["--picture", "timeline.gif"], "timeline.gif: expected a name that ends in .svg"),
        (["--json", "none/report.json"], "none/report.json: cannot be written"),
        (["--out", "none/none"], "none/none: cannot be made"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(watch, options, message):
    result = watch(*options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_boxes_of_too_small_a_score_are_left_out_everywhere():
    seen = []
    with FirstInterrupt() as interrupt:
        results = list(watched(made_up(3), 0.6, [seen.append], interrupt))
    assert results == seen
    assert [result.detections.scores.tolist() for result in results] == [[0.75]] * 3
    assert torch.equal(results[0].detections.boxes, made_up(1)[0].detections.boxes[:1])


def test_the_first_interrupt_ends_the_stream_after_a_frame_and_the_second_at_once(python_handles_ctrl_c):
    def interrupt_at_second(result):
        if result.frame.index == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with FirstInterrupt() as interrupt:
        results = list(watched(made_up(5), 0.0, [interrupt_at_second], interrupt))
        assert interrupt.noted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [result.frame.index for result in results] == [0, 1]
