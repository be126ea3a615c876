"""Is sparse FlowNet-S the dense one, on a stream whose frames and keys change here and there?"""

import copy
import pickle

import numba
import numpy as np
import pytest
import torch

from bale.errors import VideoError
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow
from bale.video.sparse import copies
from bale.video.sparse import mask as mask_loops
from bale.video.sparse.flow import SparseFlowNetFlow
from bale.video.sparse.network import SparseConfig

EAGER = {"dense_above": 1.0}  # tiles wherever they can be


def network(scale_channels: int | None = None) -> FlowNetS:
    made = FlowNetS(width=1 / 16, scale_channels=scale_channels)
    if scale_channels is not None:
        torch.nn.init.normal_(made.layers["scale"].weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return made


def stream_of_frames(size, count, seed, share=0.1):
    """Frames [1, 3, height, width] in which some blocks change, and which: bool [rows, columns], of the first all."""
    rng, frame = np.random.default_rng(seed), None
    for _ in range(count):
        mask = rng.random((-(-size[0] // 16), -(-size[1] // 16))) < (share if frame is not None else 1.0)
        pixels = torch.from_numpy(np.kron(mask, np.ones((16, 16), bool))[: size[0], : size[1]])
        new = torch.from_numpy(rng.random((1, 3, *size), np.float32))
        frame = new if frame is None else torch.where(pixels, new, frame)
        yield frame, mask


def same(found, expected):
    torch.testing.assert_close(found.field, expected.field, rtol=1e-4, atol=1e-4)
    assert (found.scale is None) == (expected.scale is None)
    if found.scale is not None:
        torch.testing.assert_close(found.scale, expected.scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(128, 192), (144, 160), (100, 90)])  # of the last a block sees 8 pixels only about
@pytest.mark.parametrize("scale", [1 / 2, 1, 0.4])
def test_exact_growth_is_dense_flow(size, scale):
    flownet = network(scale_channels=3)
    dense, sparse = (
        FlowNetFlow(flownet, scale).start(),
        SparseFlowNetFlow(flownet, scale, SparseConfig(**EAGER)).start(),
    )
    assert sparse.work is None
    key, changed_key = None, None
    for index, (frame, mask) in enumerate(stream_of_frames(size, 6, 0, 0.03)):
        prepared = sparse.prepare(frame)
        if index in (0, 3):
            key, changed_key = prepared, np.ones_like(mask) if index else None
        changed = changed_key if index in (0, 3) else mask
        same(sparse.flow(prepared, key, changed), dense.flow(prepared, key, None))
    assert sparse.work is not None and sparse.work.share < 1


@pytest.mark.parametrize("grow", ["exact", "mask"])
@pytest.mark.parametrize("config", [{}, EAGER])
def test_a_full_mask_is_dense_flow(grow, config):
    flownet = network()
    dense, sparse = (
        FlowNetFlow(flownet).start(),
        SparseFlowNetFlow(flownet, 1 / 2, SparseConfig(grow=grow, **config)).start(),
    )
    frames = [sparse.prepare(frame) for frame, _ in stream_of_frames((128, 192), 3, 0, 1.0)]
    for frame in frames:
        same(sparse.flow(frame, frames[0], np.ones((8, 12), bool)), dense.flow(frame, frames[0], None))


def test_without_growth_a_still_pair_keeps_its_flow_and_the_work_is_the_masks_share():
    sparse = SparseFlowNetFlow(network(), 1 / 2, SparseConfig(tile=8, grow="mask", dilate=0, **EAGER)).start()
    first, second = (sparse.prepare(frame) for frame, _ in stream_of_frames((256, 256), 2, 0))
    before = sparse.flow(first, first, None)
    assert torch.equal(sparse.flow(first, first, np.zeros((16, 16), bool)).field, before.field)
    mask = np.zeros((16, 16), bool)
    mask[4:8, 4:12] = True  # 32 x 64 pixels of 128 x 128 that the network sees: also a whole cell of stride 64
    sparse.flow(second, first, mask)
    assert sparse.work is not None and 1 / 8 <= sparse.work.share < 1 / 4


def test_a_running_stream_is_not_copied():
    worker = SparseFlowNetFlow(network()).start()
    frame = worker.prepare(torch.rand(1, 3, 64, 64))
    worker.flow(frame, frame, None)
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(VideoError, match="start another instead"):
            copied(worker)


def test_frames_do_not_wait_for_a_compiler(monkeypatch):
    """numba compiles a loop once for each tuple of types: all that frames bring were met when the stream began."""
    met = set()
    for module, name in ((copies, "_gather"), (copies, "_scatter"), (mask_loops, "_touched"), (mask_loops, "_sums")):
        loop = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, n=name, f=loop: met.add((n, *map(numba.typeof, given))) or f(*given)
        )
    flow, random = (
        SparseFlowNetFlow(network(), config=SparseConfig(grow="mask", dense_above=1.0)),
        torch.get_rng_state(),
    )
    worker = flow.start()
    assert torch.equal(random, torch.get_rng_state())
    at_start = met.copy()
    assert {name for name, *_ in at_start} == {"_gather", "_scatter", "_touched", "_sums"}
    frames = [(worker.prepare(frame), mask) for frame, mask in stream_of_frames((64, 128), 3, seed=0)]
    frames[2] = frames[2][0], np.asfortranarray(frames[2][1])
    frames[2][1].flags.writeable = False
    for frame, mask in frames:
        worker.flow(frame, frames[0][0], mask)
    assert worker.work is not None and 0 < worker.work.share < 1
    assert met == at_start


def test_a_pair_that_failed_leaves_nothing_behind():
    flownet = network()
    dense, sparse = FlowNetFlow(flownet).start(), SparseFlowNetFlow(flownet).start()
    (first, _), (second, mask) = stream_of_frames((128, 128), 2, 0)
    first, second = sparse.prepare(first), sparse.prepare(second)
    sparse.flow(first, first, None)
    with pytest.raises(VideoError, match="expected a mask"):
        sparse.flow(second, first, np.ones(3, bool))
    same(sparse.flow(second, first, mask), dense.flow(second, first, None))


def test_a_key_that_failed_is_not_taken_for_the_one_before(monkeypatch):
    flownet = network()
    dense, sparse = FlowNetFlow(flownet).start(), SparseFlowNetFlow(flownet).start()
    first, other = (sparse.prepare(frame) for frame, _ in stream_of_frames((128, 128), 2, 0))
    sparse.flow(first, first, None)

    def fail(_):
        raise MemoryError

    with monkeypatch.context() as broken, pytest.raises(MemoryError):
        broken.setattr("bale.video.sparse.network.run_all", fail)
        sparse.flow(first, other, None)
    same(sparse.flow(first, first, np.zeros((8, 8), bool)), dense.flow(first, first, None))


def test_frames_of_two_sizes_are_refused():
    sparse = SparseFlowNetFlow(network()).start()
    small, large = (sparse.prepare(torch.zeros(1, 3, side, 128)) for side in (128, 120))
    with pytest.raises(VideoError, match="to a key frame of"):
        sparse.flow(small, large, None)
    sparse.flow(small, small, None)
    with pytest.raises(VideoError, match="start another stream"):
        sparse.flow(large, large, None)
    with pytest.raises(VideoError, match="scale must be above 0"):
        SparseFlowNetFlow(network(), 0.0)
