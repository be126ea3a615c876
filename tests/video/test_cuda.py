"""On a GPU, skipped where there is none: do streams and sparse networks find what they do without workers and masks?"""

import numpy as np
import pytest
import torch
from benchmarks.video.toys import ToyDetector
from tests.video.made_streams import assert_nothing_runs, assert_one_result_each
from torch import Tensor, nn

from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow
from bale.video.frame import Frame
from bale.video.images import image_tensor
from bale.video.keyframes import FixedInterval
from bale.video.propagate import propagate
from bale.video.sparse.flow import SparseFlowNetFlow
from bale.video.sparse.network import SparseConfig
from bale.video.stream import VideoDetector
from bale.video.worker_process import ProcessWorker
from bale.video.worker_thread import ThreadWorker

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
SIZE = (128, 192)


class SlowDetector(ToyDetector):
    """Convolutions before `ToyDetector`'s own, so many that a stream which does not wait for them reads what is not
    there yet."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        wide = [nn.Conv2d(256, 256, 5, padding=2) for _ in range(10)]
        self.before = nn.Sequential(nn.Conv2d(3, 256, 3, padding=1), *wide, nn.Conv2d(256, 3, 3, padding=1))
        self.eval().requires_grad_(False)

    def features(self, image: Tensor) -> Tensor:
        return nn.functional.conv2d(image + self.before(image), self.weight, stride=4)


@pytest.fixture(scope="module", autouse=True)
def exactly():
    """Sums of single precision, in the same order each time."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def parts():
    """A detector and a flow on the GPU."""
    return SlowDetector().cuda(), FlowNetFlow(FlowNetS(width=1 / 16, seed=1).eval().cuda())


def moving_square(frames: int) -> list[Frame]:
    """A bright square that goes to the right, over noise that stays."""
    noise = np.random.default_rng(0).integers(1, 120, (*SIZE, 3), np.uint8)
    noise[0, 0] = 0  # neither slow nor poisoned
    images = [noise.copy() for _ in range(frames)]
    for index, image in enumerate(images):
        image[40:72, 8 + 3 * index : 40 + 3 * index] = 250
    return [Frame(index, index / 25, image) for index, image in enumerate(images)]


def on_gpu(frame: Frame) -> Tensor:
    assert frame.image is not None
    return image_tensor(frame.image, 4, "cuda")


def by_hand(parts, frame: Frame, key: Frame):
    """What a frame's boxes are, from the features of `key`, without any stream."""
    detector, flow = parts
    with torch.inference_mode():
        image, of_key = on_gpu(frame), on_gpu(key)
        features = detector.features(of_key)
        if frame is not key:
            worker = flow.start()
            moved = worker.flow(worker.prepare(image), worker.prepare(of_key), None)
            features = propagate(features, moved, SIZE)
        return detector.head(features, SIZE)


def assert_like_by_hand(parts, frames, results):
    for frame, result in zip(frames, results, strict=True):
        expected = by_hand(parts, frame, frames[result.key_index])
        torch.testing.assert_close(result.detections.scores, expected.scores.cpu(), rtol=1e-4, atol=1e-5)
        assert result.detections.boxes.device.type == "cpu"


@pytest.mark.parametrize("worker", [None, ThreadWorker(), ProcessWorker()], ids=["in line", "CUDA stream", "process"])
def test_every_frame_is_what_its_key_gives(parts, worker):
    frames = moving_square(40)
    stream = VideoDetector(parts[0], parts[1], FixedInterval(3), worker=worker).stream(frames)
    results = list(stream)
    assert_one_result_each(frames, results, stream.counts)
    assert_like_by_hand(parts, frames, results)
    assert stream.counts.worker_failures == 0
    assert len({result.key_index for result in results}) > 1
    assert_nothing_runs()


def test_interval_one_is_the_detector_on_every_frame(parts):
    frames = moving_square(8)
    results = list(VideoDetector(parts[0], parts[1], FixedInterval(1)).stream(frames))
    assert [result.key_index for result in results] == list(range(8))
    assert_like_by_hand(parts, frames, results)


@pytest.mark.parametrize("above", [0.0, 1.0], ids=["dense", "tiles"])
def test_sparse_flow_is_the_dense_one_where_the_mask_covers_what_changed(parts, above):
    network = parts[1].network
    dense = FlowNetFlow(network).start()
    sparse = SparseFlowNetFlow(network, config=SparseConfig(dense_above=above)).start()
    key, *frames = (on_gpu(frame) for frame in moving_square(6))
    changed = np.zeros((8, 12), bool)
    changed[2:5, :5] = True  # where the square goes
    for image in frames:
        expected = dense.flow(dense.prepare(image), dense.prepare(key), None)
        found = sparse.flow(sparse.prepare(image), sparse.prepare(key), changed)
        torch.testing.assert_close(found.field, expected.field, rtol=1e-4, atol=1e-3)
