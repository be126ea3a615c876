"""`bale watch` runs a film from end to end: boxes, film, picture and report agree with one another."""

import json

import numpy as np
import pytest

pytest.importorskip("bale.video.stream")
pytest.importorskip("bale.video.film.write")
pytest.importorskip("bale.video.flow.dis")
pytest.importorskip("bale.video.detectors.load")
pytest.importorskip("bale.video.sparse.where")

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
    from bale.video.film.write import write_film

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
    monkeypatch.syspath_prepend(film.parent)

    def run(*arguments):
        options = ("--detector", "own_detector_of_watch:make", "--threads", 1)
        result = bale("watch", film, *options, *arguments)
        assert result.exit_code == 0, result.output
        return result

    return run


def test_a_folder_gets_everything_that_can_be_written(watch, film, tmp_path):
    from bale.video.film.source import stream_info

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
    from bale.video.flow.flownet import FlowNetS
    from bale.video.flow.weights import save_flownet

    save_flownet(FlowNetS(width=1 / 64), tmp_path / "flow.safetensors")
    options = ("--flow", f"flownet:{tmp_path / 'flow.safetensors'}", "--policy", "interval", "--limit", 6)
    text = watch(*options, "--sparse").stdout
    assert "flow flownet:flow.safetensors, where something moved" in " ".join(text.split())
    assert json.loads(watch(*options, "--json", "-").stdout)["frames"] == 6


def test_nothing_is_dropped_where_a_full_queue_makes_the_source_wait(watch):
    report = json.loads(watch("--realtime", "--when-full", "block", "--limit", 5, "--json", "-").stdout)
    assert (report["frames"], report["kinds"]["dropped"]) == (5, 0)
