"""Detectors from files and names: the same back, and errors that name the file and what was expected."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.detectors.centerface import CenterFace
from bale.video.detectors.load import load_detector
from bale.video.detectors.split import SplitDetector
from bale.video.detectors.sprites import TinyDetector
from bale.video.detectors.store import FORMAT, read_detector, save_detector

SIZE = (96, 128)


@pytest.fixture
def detector():
    torch.manual_seed(2)
    return TinyDetector(stride=8, channels=8)


def test_what_is_read_is_what_was_saved(detector, tmp_path):
    save_detector(detector, tmp_path / "a.safetensors")
    for again in (
        read_detector(tmp_path / "a.safetensors"),
        load_detector(f"sprites:{tmp_path / 'a.safetensors'}", SIZE),
    ):
        assert isinstance(again, TinyDetector) and again.settings() == detector.settings()
        image = torch.rand(1, 3, *SIZE)
        assert torch.equal(again.features(image), detector.features(image))
        assert not again.training and not any(each.requires_grad for each in again.parameters())


def test_lite0_comes_back_without_imagenet_s_weights(tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    from bale.video.detectors.lite0 import Lite0Detector

    saved = Lite0Detector(["person"], scale=1.5, channels=8, width=16, hidden=16, pretrained=False)
    save_detector(saved, tmp_path / "lite0.safetensors")
    again = load_detector(f"lite0:{tmp_path / 'lite0.safetensors'}", SIZE)
    assert isinstance(again, Lite0Detector) and again.settings() == saved.settings() and again.names == ("person",)
    assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_faces_are_centerface_at_the_scale_of_the_frames():
    assert isinstance(found := load_detector("faces", (144, 176)), CenterFace) and found.scale == 2


def test_a_function_of_a_module_makes_a_detector(detector, monkeypatch, tmp_path):
    (tmp_path / "own_detector.py").write_text(
        "from bale.video.detectors.sprites import TinyDetector\n"
        "def make():\n    return TinyDetector()\n"
        "def nothing():\n    return 3\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(load_detector("own_detector:make", SIZE), TinyDetector)
    for name, message in (
        ("own_detector:nothing", "nothing returned a int without multiple"),
        ("own_detector:number", "number is a int, no function"),
        ("own_detector:other", "has no attribute 'other'; expected faces"),
        ("no_such_module:make", "No module named 'no_such_module'; expected faces"),
    ):
        with pytest.raises(VideoError, match=message):
            load_detector(name, SIZE)


@pytest.mark.parametrize("name", ["", "face", "lite0", "lite0:", ":x", "faces:x.safetensors:"])
def test_an_unknown_name_is_told_what_was_expected(name):
    with pytest.raises(VideoError, match="expected faces, lite0:FILE, sprites:FILE or MODULE:FUNCTION"):
        load_detector(name, SIZE)


def test_files_that_are_no_detector_s_are_refused(detector, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(VideoError, match="no such file; expected a detector"):
        read_detector(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(VideoError, match="cannot be read as"):
        read_detector(path)
    save_file(detector.state_dict(), path)
    with pytest.raises(VideoError, match=f"is of format None; expected '{FORMAT}'"):
        read_detector(path)
    save_detector(detector, path)
    with pytest.raises(VideoError, match="is a detector of kind sprites, not lite0"):
        load_detector(f"lite0:{path}", SIZE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"stride": 8, "channels": 9}', "is damaged: .*size mismatch"),
        ('{"stride": 8, "width": 9}', "is damaged: .*unexpected keyword"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(detector, tmp_path, settings, message):
    path = tmp_path / "a.safetensors"
    save_file(detector.state_dict(), path, metadata={"format": FORMAT, "kind": "sprites", "settings": settings})
    with pytest.raises(VideoError, match=message):
        read_detector(path)


def test_weights_that_are_not_finite_are_refused(detector, tmp_path):
    path = tmp_path / "a.safetensors"
    with torch.no_grad():
        detector.points.answer.bias[0] = np.nan
    save_detector(detector, path)
    assert torch.isnan(load_file(path)["points.answer.bias"]).any()
    with pytest.raises(VideoError, match=r"points\.answer\.bias has numbers that are NaN"):
        read_detector(path)


def test_what_cannot_be_saved_is_named(detector, tmp_path):
    class Other(TinyDetector):
        pass

    with pytest.raises(VideoError, match="Other cannot be saved; expected one of Lite0Detector, TinyDetector"):
        save_detector(Other(), tmp_path / "a.safetensors")
    with pytest.raises(VideoError, match="cannot be written"):
        save_detector(detector, tmp_path / "none" / "a.safetensors")


def test_two_callables_are_a_detector():
    backbone = nn.Conv2d(3, 2, 3, stride=4, padding=1)
    box = Detections(torch.tensor(((0.0, 0.0, 4.0, 4.0),)), torch.tensor((0.5,)), torch.tensor((0,)))
    split = SplitDetector(lambda image: {"fine": backbone(image)}, lambda features, size: box, multiple=4)
    image = torch.rand(1, 3, 8, 8)
    features = split.features(image)
    assert isinstance(features, dict) and torch.equal(features["fine"], backbone(image))
    assert split.head(features, (8, 8)) is box and split.multiple == 4


def test_what_is_no_detector_in_two_callables_is_refused():
    with pytest.raises(VideoError, match="multiple must be at least 1"):
        SplitDetector(lambda image: image, lambda features, size: Detections.none(), multiple=0)
    with pytest.raises(VideoError, match="head cannot be called: it is a int"):
        SplitDetector(lambda image: image, 3)  # pyright: ignore[reportArgumentType]
    wrong = SplitDetector(lambda image: image, lambda features, size: [])  # pyright: ignore
    with pytest.raises(VideoError, match="head returned a list; expected Detections"):
        wrong.head(torch.zeros(1), (8, 8))
