"""Tables, files and the live line say what the results say."""

import csv
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from tests.video.stream_results import made_up, some_boxes

from bale.errors import VideoError
from bale.report.video_lines import CSV_COLUMNS, CsvLines, JsonLines, box_lines
from bale.report.video_live import LiveStatistics
from bale.report.video_tables import Variant, stream_dict, stream_table, variants_table
from bale.video.metrics.bootstrap import Interval
from bale.video.metrics.latency import stream_stats


@pytest.fixture
def results():
    results = made_up(40)
    results[7] = replace(results[7], kind="dropped", motion=None)
    results[9] = replace(results[9], kind="repeated", problem="frame 9 is damaged", detections=some_boxes(0))
    return results


def text_of(part, width=140):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(part)
    return " ".join(console.file.getvalue().split())


def test_the_table_says_what_became_of_the_frames(results):
    text = text_of(stream_table(stream_stats(results), [("input", "street.mp4")], ["nothing was found"]))
    assert "input street.mp4" in text
    assert "frames 40: 4 key, 34 carried, 1 repeated, 1 dropped" in text
    assert "1 with a problem" in text
    assert "keys 4, 10.0%" in text
    assert f"staleness {(4 * 45 - 7) / 39:.1f} frames, worst 9" in text
    assert "of what the detector alone would take" in text
    assert "WARNING nothing was found" in text


def test_as_data_nothing_is_lost_and_nothing_is_not_a_number(results):
    stats = stream_stats(results)
    plain = json.loads(json.dumps(stream_dict(stats), allow_nan=False))
    assert plain["kinds"] == {"key": 4, "carried": 34, "repeated": 1, "dropped": 1}
    assert plain["latency"]["worst"] == stats.latency.worst
    assert plain["compute"]["share"] == pytest.approx(stats.compute.share)
    nothing = stream_stats([replace(results[0], kind="dropped", key_index=None)])
    plain = json.loads(json.dumps(stream_dict(nothing), allow_nan=False))
    assert (plain["latency"], plain["staleness"]["mean"]) == (None, None)
    assert "latency" not in text_of(stream_table(nothing))


def test_variants_stand_side_by_side(results):
    stats = stream_stats(results)
    precise = Variant(stats, Interval(0.412, 0.38, 0.45, 0.95, 18, 1000), Interval(0.8, 0.75, 0.85, 0.95, 18, 1000))
    text = text_of(variants_table({"every frame": precise, "VDS": Variant(stats)}))
    assert "every frame 80.0 41.2" in text
    assert "75.0-85.0 38.0-45.0" in text
    assert "AP" not in text_of(variants_table({"VDS": Variant(stats)}))


def test_json_lines_hold_every_frame(results, tmp_path):
    with JsonLines(tmp_path / "boxes.jsonl", labels=["walker", "rider"]) as lines:
        for result in results:
            lines.write(result)
    read = [json.loads(line) for line in (tmp_path / "boxes.jsonl").read_text().splitlines()]
    assert [line["index"] for line in read] == list(range(40))
    first = read[0]["boxes"][0]
    assert first == {"left": 1.5, "top": 2.0, "right": 11.5, "bottom": 32.0, "score": 0.75, "label": "walker"}
    assert (read[9]["boxes"], read[9]["problem"], read[9]["staleness"]) == ([], "frame 9 is damaged", 9)
    assert (read[7]["motion"], read[0]["problem"]) == (None, None)


def test_csv_has_a_line_for_each_box_and_one_for_a_frame_without(results, tmp_path):
    with CsvLines(tmp_path / "boxes.csv") as lines:
        for result in results:
            lines.write(result)
    with (tmp_path / "boxes.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert tuple(read[0]) == CSV_COLUMNS
    assert len(read) == 39 * 2 + 1
    assert (read[1]["right"], read[1]["label"], read[1]["score"]) == ("52.25", "1", "0.5")
    alone = [row for row in read if row["index"] == "9"]
    assert [(row["left"], row["problem"]) for row in alone] == [("", "frame 9 is damaged")]


@pytest.mark.parametrize("name", ["boxes.jsonl", "boxes.csv"])
def test_what_is_written_is_whole_after_every_frame(results, tmp_path, name):
    lines = box_lines(tmp_path / name)
    for many, result in enumerate(results[:3], 1):
        lines.write(result)
        text = (tmp_path / name).read_text()  # while the writer is open, as after an interrupt
        assert text.endswith("\n")
        if name.endswith(".jsonl"):
            assert len([json.loads(line) for line in text.splitlines()]) == many
        else:
            assert len(list(csv.DictReader(io.StringIO(text)))) == 2 * many
    lines.close()


def test_files_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(VideoError, match=r"boxes\.txt: expected a name that ends in \.jsonl or \.csv"):
        box_lines(tmp_path / "boxes.txt")
    with pytest.raises(VideoError, match=r"boxes\.csv: cannot be written"):
        box_lines(tmp_path / "none" / "boxes.csv")


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_boxes_that_json_cannot_hold_are_named(tmp_path):
    result = made_up(1)[0]
    result.detections.boxes[0, 2] = float("nan")
    with JsonLines(tmp_path / "boxes.jsonl") as lines, pytest.raises(VideoError, match=r"boxes\.jsonl: frame 0 has a"):
        lines.write(result)
    assert (tmp_path / "boxes.jsonl").read_bytes() == b""


def test_a_name_is_shown_as_it_is():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    clock = iter(range(100))
    with LiveStatistics(console, "street[/red].mp4", clock=lambda: next(clock)) as live:
        live.show(made_up(1)[0])
    assert "street[/red].mp4" in console.file.getvalue()


def test_a_log_gets_a_line_now_and_then(results):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    clock = Clock()
    with LiveStatistics(console, "street.mp4", 40, clock) as live:
        for result in results:
            clock.now += 0.6
            live.show(result)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2  # of 24 seconds
    assert lines[0].startswith("street.mp4: frame 17/40  ")
    speed = 39 / (results[-1].finished - results[0].finished)
    assert live.state().startswith(f"frame 40/40  {speed:.1f} a second  latency ")
    assert "keys 10.0%  1 dropped  1 with a problem" in live.state()


def test_a_terminal_gets_a_line_that_goes_away(results):
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system=None)
    clock = Clock()
    with LiveStatistics(console, "street.mp4", clock=clock) as live:
        clock.now = 1
        live.show(results[0])
    assert "frame 1" in console.file.getvalue()
    kept = [result for result in results if result.kind != "dropped"]
    for result in results[1:]:
        live.show(result)
    mean = 1e3 * sum(result.latency for result in kept) / len(kept)
    assert f"latency {mean:.1f} ms" in live.state()
