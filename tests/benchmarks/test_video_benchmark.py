"""Do the passes and rows of the benchmark of video say what happened?"""

import numpy as np
import pytest
import torch
from benchmarks.video import detector as benchmark_detector
from benchmarks.video import material
from benchmarks.video.detector import read_images, trained_detector
from benchmarks.video.material import MEASURES, Clip, Stream
from benchmarks.video.picture import draw
from benchmarks.video.rows import claims, row
from benchmarks.video.runs import Pass, Seen, load, run, save
from benchmarks.video.toys import ShiftFlow, ToyDetector, toy_frame
from benchmarks.video.variants import Variant, as_often, timed, variants, video_detector

from bale.errors import BaleError
from bale.video.film.write import write_film
from bale.video.flow.flownet import FlowNetS
from bale.video.keyframes import FixedInterval
from bale.video.metrics.average_precision import FrameTruth
from bale.video.stream import VideoDetector

COSTS = {"detector_ms": 100.0, "threads_ms": {"1": 100.0}, "light_by_flow_ms": {"dis": 10.0}, "inline_threads": 1}
BOX = [10.0, 10.0, 30.0, 50.0]


def stream(clips: int) -> Stream:
    """Clips that all show frames 500 to 539 of a film, one box on each."""
    truth = [FrameTruth.of(np.array([BOX]))] * 40
    frames = [toy_frame(index) for index in range(40)]
    motions = {name: [[0.0, 1.0, 2.0]] for name in MEASURES}
    return Stream("made", 10.0, [Clip(frames, truth, range(500, 540))] * clips, motions)


def passed(clips: int, wrong: range = range(0), latency: float = 0.01) -> Pass:
    """A pass that finds the box on every frame but the `wrong` ones, of every clip."""
    seen = [
        Seen(
            [[0.0, 0.0, 5.0, 5.0, 0.9] if index in wrong else [*BOX, 0.8]],
            "key",
            staleness=index % 5,
            arrived=0.1 * index,
            latency=latency,
            seconds={"flow": latency},
        )
        for index in range(40)
    ]
    return Pass([seen] * clips, 8 * clips, 0.8 * clips, {"threads": 1, "paced": True})


def test_clips_that_show_the_same_frames_make_no_interval_narrower():
    way = Variant("dff-5", "dis")
    lines = [row(stream(clips), way, [passed(clips, range(10, 22))], COSTS) for clips in (1, 4)]
    assert lines[0] == lines[1]
    assert lines[0]["ap50_low"] < lines[0]["ap50"] < lines[0]["ap50_high"]
    # Eight keys of .1 s and 40 flows of .01 s against 40 times .1 s.
    assert lines[0]["compute_share"] == pytest.approx(0.3)
    assert lines[0]["key_rate"] == 0.2 and lines[0]["staleness_worst"] == 4


def test_a_figure_is_positive_where_the_part_helps():
    # The eight keys of vds-5 are compared with as many: 40 frames give seven at an interval of 5.58.
    ways = {name: Variant(name, "dis") for name in ("dff-5", "dff-5.57", "adff-5", "vds-5", "ssi-5")}
    good, bad = passed(1, latency=0.01), passed(1, range(40), latency=0.05)
    lines = claims(stream(1), {way: [bad if way.kind == "dff" else good] for way in ways.values()}, COSTS)
    assert [line["figure"] for line in lines] == [
        "p99 latency, dff-5 over adff-5",
        "AP50 points, vds-5 above dff-5.57",
        "flow time, dff-5 over ssi-5",
    ]
    slowest, better, cheaper = lines
    assert slowest["ours"] == slowest["worst"] == cheaper["ours"] == 5.0
    assert better["ours"] == better["low"] == better["high"] == 100.0 and better["p"] < 0.01


@pytest.mark.parametrize(("clips", "keys"), [(1, 8), (1, 9), (3, 25), (4, 160)])
def test_a_fixed_interval_has_no_fewer_keys_than_motion_chose(clips, keys):
    made = stream(clips)
    even = as_often(Variant("vds-5", "dis"), keys, made)

    def chosen(every):
        chooser = [FixedInterval(every).start() for _ in made.clips]
        return sum(each.choose(frame).is_key for each in chooser for frame in made.clips[0].frames)

    assert chosen(even.interval) >= keys > chosen(even.interval + 0.01)
    assert as_often(Variant("vds-5", "dis"), clips, made).interval == 40  # the least: one in a clip


def test_a_pass_is_of_all_clips_and_comes_back_from_its_file(tmp_path):
    watch = VideoDetector(ToyDetector(), ShiftFlow(), FixedInterval(5))  # pyright: ignore[reportArgumentType]
    told = []
    done = run(watch, stream(2), False, lambda: told.append(1))
    assert len(done.frames) == len(told) == 80 and done.keys == 16
    assert [seen.staleness for seen in done.frames] == [index % 5 for index in range(40)] * 2
    assert len(done.later) == 78 and done.latency().frames == 78
    save(done, tmp_path / "new" / "pass.json")
    assert load(tmp_path / "new" / "pass.json") == done
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pass.json"]


def test_frames_that_come_while_the_first_key_is_computed_are_of_the_start_up():
    # Frames come every .1 s; the first takes .25, so that the next two wait behind it.
    latencies = [0.25, 0.18, 0.11, 0.04, 0.03]
    seen = [Seen([], "key", 0, 0.1 * index, each, {}) for index, each in enumerate(latencies)]
    done = Pass([seen, seen], 2, 0.5, {})
    assert [each.latency for each in done.later] == [0.04, 0.03] * 2
    assert done.latency().worst == 0.04 and done.latency().first == 0.25


def test_every_variant_is_built_as_its_name_says():
    network, toy = FlowNetS(width=1 / 64), ToyDetector()
    ways = variants(["dense", "dff-3", "adff-3", "vds-3", "mv-3", "ssi-3", "all-3"], ["flownet", "dis"])
    assert [(way.name, way.flow) for way in ways if way.flow == "dis"] == [
        ("dff-3", "dis"),
        ("adff-3", "dis"),
        ("vds-3", "dis"),
        ("mv-3", "dis"),
    ]
    for way in ways:
        made = video_detector(way, toy, network, stream(1), pace=True)  # pyright: ignore[reportArgumentType]
        assert (made.worker is not None) == (way.kind in ("adff", "all"))
        assert (made.sparse is not None) == (way.kind in ("ssi", "all"))
        assert isinstance(made.policy, FixedInterval) == (way.kind not in ("vds", "mv", "all"))
        # All frames that wait in a queue arrive at once, so that latency would be the whole stream's.
        assert made.queue is not None
        assert video_detector(way, toy, network, stream(1), pace=False).queue is None  # pyright: ignore
    assert {way.name for way in timed(ways) if way.flow == "dis"} == {"dff-3", "adff-3"}
    assert Variant("dff-5", "dis") not in timed([*ways, Variant("dff-5", "dis")])
    with pytest.raises(BaleError, match="vds-0: expected"):
        variants(["vds-0"], ["dis"])


def test_a_picture_has_a_mark_for_each_variant_of_each_stream():
    facts = {"ap50_low": 0.6, "ap50_high": 0.8, "rate": 10.0}
    rows = [
        {"stream": stream, "variant": name, "flow": flow, "ap50": 0.7, "p99_ms": 20.0, **facts}
        for stream in ("vtest", "variable")
        for name, flow in (("dense", "flownet"), ("adff-5", "dis"), ("dff-4.59", "dis"))
    ]
    panels = draw([*rows, {"stream": "vtest", "figure": "p99", "flow": "dis"}]).axes
    assert [panel.get_title() for panel in panels] == [f"{name}, 10 frames a second" for name in ("vtest", "variable")]
    assert [len(panel.collections) for panel in panels] == [6, 6]  # a mark and an interval each
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [["", "5"]] * 2


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    images = [np.full((64, 96, 3), 20 * index, np.uint8) for index in range(10)]
    write_film(path, images, 10, options={"crf": "1", "bf": "0"})
    return path


def test_frames_of_a_film_are_the_ones_asked_for(film):
    assert [round(image.mean() / 20) for image in read_images(film, range(1, 10, 4))] == [1, 5, 9]
    with pytest.raises(BaleError, match=r"has 2 of the 4 frames from 8 to 11"):
        list(read_images(film, range(8, 12)))
    frames = list(material._frames(film, range(4, 7)))
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2])
    with pytest.raises(BaleError, match=r"has 2 of the 4 frames from 8 to 11"):
        list(material._frames(film, range(8, 12)))


def test_a_detector_that_is_trained_already_reads_no_frame(film, tmp_path, monkeypatch):
    truth = tmp_path / "gt.txt"
    truth.write_text("".join(f"{frame},1,5,5,20,40,1\n" for frame in range(1, 11)))
    lengths = []

    def learn(detector, images, boxes, labels, *_, **__):
        lengths.append((len(images), len(boxes), len(labels)))
        assert boxes[0].tolist() == [[5, 5, 25, 45]]

    def refuse(*_):
        raise AssertionError("a frame was read")

    class Small(torch.nn.Module):
        def __init__(self, names):
            super().__init__()

    monkeypatch.setattr(benchmark_detector, "fine_tune", learn)
    monkeypatch.setattr(benchmark_detector, "Lite0Detector", Small)
    monkeypatch.setattr(benchmark_detector, "save_detector", lambda *_: None)
    monkeypatch.setattr(benchmark_detector, "read_film", refuse)
    trained_detector(tmp_path, film, truth, range(2, 8))
    assert lengths == [(6, 6, 6)]
