"""`bale watch` runs a film from end to end: boxes, film, picture and report agree with one another."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.video.stream_results import made_up

from bale.cli.watch import annotated
from bale.video.film.source import stream_info
from bale.video.film.write import write_film
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.weights import save_flownet

OWN = '''
import torch
from torch import nn

from bale.video.detections import Detections


class Bright(nn.Module):
    """Finds what is bright: one box round it."""

    multiple = 8
    names = ("lamp",)

    def features(self, image):
        return nn.functional.avg_pool2d(image.mean(1, keepdim=True), 8)

    def head(self, features, size):
        rows, columns = (features[0, 0] > 0.5).nonzero(as_tuple=True)
        if not len(rows):
            return Detections.none()
        box = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]) * 8.0
        return Detections(box.float(), torch.tensor([0.9]), torch.zeros(1, dtype=torch.int64))


def make():
    return Bright().eval()
'''


@pytest.fixture
def film(tmp_path):
    """A bright square that moves two pixels a frame over a dark ground of some texture."""
    ground = np.random.default_rng(0).integers(0, 60, (64, 96, 3), np.uint8)
    images = []
    for place in range(24):
        image = ground.copy()
        image[16:40, 8 + 2 * place : 32 + 2 * place] = 230
        images.append(image)
    write_film(tmp_path / "lamp.mp4", images, 25)
    return tmp_path / "lamp.mp4"


@pytest.fixture
def watch(bale, film, monkeypatch):
    (film.parent / "own_detector_of_watch.py").write_text(OWN)
    monkeypatch.chdir(film.parent)  # where a module of one's own is found

    def run(*arguments):
        options = ("--detector", "own_detector_of_watch:make", "--threads", 1)
        result = bale("watch", film, *options, *arguments)
        assert result.exit_code == 0, result.output
        return result

    return run


def test_a_folder_gets_everything_that_can_be_written(watch, film, tmp_path):
    text = " ".join(watch("--policy", "interval", "--every", 4, "--out", tmp_path / "out").stdout.split())
    assert "key frames one in 4 frames" in text
    assert "frames 24: 6 key, 18 carried" in text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["frames"], report["keys"], report["interrupted"]) == (24, 6, False)
    lines = [json.loads(line) for line in (tmp_path / "out" / "boxes.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(24))
    assert sum(len(line["boxes"]) for line in lines) == report["boxes"] > 0
    assert {box["label"] for line in lines for box in line["boxes"]} == {"lamp"}
    info = stream_info(tmp_path / "out" / "video.mp4")
    assert (info.width, info.height, info.frames) == (96, 64, 24)
    assert (tmp_path / "out" / "timeline.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "options",
    [
        ["--key-rate", 0.25],
        ["--tau", 6, "--measure", "blocks", "--flow", "none"],
        ["--async", "--policy", "interval"],
        ["--latency-budget", 10_000],
    ],
)
def test_every_way_to_choose_keys_gives_every_frame_a_result(watch, options):
    report = json.loads(watch(*options, "--json", "-", "--limit", 20).stdout)
    assert report["frames"] == 20
    assert sum(report["kinds"].values()) == 20
    assert report["keys"] >= 1


def test_a_flow_network_comes_from_a_file_and_runs_on_parts_of_frames(watch, tmp_path):
    save_flownet(FlowNetS(width=1 / 64), tmp_path / "flow.safetensors")
    options = ("--flow", f"flownet:{tmp_path / 'flow.safetensors'}", "--policy", "interval", "--limit", 6)
    text = watch(*options, "--sparse").stdout
    assert "flow flownet:flow.safetensors, where something moved" in " ".join(text.split())
    assert json.loads(watch(*options, "--json", "-").stdout)["frames"] == 6


def test_nothing_is_dropped_where_a_full_queue_makes_the_source_wait(watch):
    report = json.loads(watch("--realtime", "--when-full", "block", "--limit", 5, "--json", "-").stdout)
    assert (report["frames"], report["kinds"]["dropped"]) == (5, 0)


@pytest.mark.parametrize("side", [16, 40])
def test_flow_of_small_frames_is_of_their_whole_size_or_refused(bale, watch, film, tmp_path, side):
    write_film(film, np.random.default_rng(0).integers(0, 255, (4, side, 96, 3), np.uint8), 25)
    if side == 40:
        assert json.loads(watch("--json", "-").stdout)["kinds"]["carried"] > 0
        return
    refused = bale("watch", film)
    assert refused.exit_code == 2 and "96 x 16; give --flow none" in refused.stderr
    assert json.loads(watch("--flow", "none", "--json", "-").stdout)["frames"] == 4


def test_what_is_watched_is_never_written_to(bale, film, tmp_path):
    before = film.read_bytes()
    folder = tmp_path / "images"
    folder.mkdir()
    link = tmp_path / "link.mp4"
    link.symlink_to(film)
    for options in (
        [film, "--video", film],
        [film, "--video", link],
        [folder, "--out", folder],
        [film, "--json", tmp_path / "a.jsonl", "--boxes", tmp_path / "a.jsonl"],
    ):
        result = bale("watch", *options)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert "write it somewhere else" in result.stderr or "a file of its own" in result.stderr
    assert film.read_bytes() == before


def test_a_film_with_boxes_goes_on_where_frames_change_their_size_or_are_lost():
    results = made_up(4)
    sizes = [(32, 48), (16, 16), None, (32, 48)]
    for place, size in enumerate(sizes):
        image = None if size is None else np.full((*size, 3), 50 * place, np.uint8)
        results[place] = replace(results[place], frame=replace(results[place].frame, image=image))
    images = list(annotated(results, None))
    assert [image.shape for image in images] == [(32, 48, 3)] * 4
    assert np.array_equal(images[1], images[2]) and not np.array_equal(images[0], images[3])
