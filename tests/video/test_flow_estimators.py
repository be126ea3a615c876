"""Estimators cover the whole frame in its own pixels, on any size, and find motions that are known."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from bale.errors import VideoError
from bale.train.flow_loss import endpoint_error
from bale.video.flow.dis import DisFlow, NoFlow
from bale.video.flow.flownet import FlowNetS, centred, pair
from bale.video.flow.learned import FlowNetFlow, first_cells, shrunk
from bale.video.flow.synthetic import SceneConfig, draw_pairs
from bale.video.flow.textures import Textures

SIZES = [(64, 128), (96, 160), (100, 104), (75, 141)]


class Places(nn.Module):
    """Stands in for the network: predicts at each cell its own place in the image, in pixels from the first edge."""

    def __init__(self, channels=None):
        super().__init__()
        self.channels, self.seen = channels, []
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        self.seen.append(images)
        rows, columns = (length // 4 for length in images.shape[2:])
        y, x = (4 * torch.arange(count) + 2.0 for count in (rows, columns))
        field = torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]
        return field, None if self.channels is None else field[:, :1].expand(-1, self.channels, -1, -1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 1 / 2, 1 / 3, 0.7])
def test_the_grid_lies_over_the_frame_whatever_was_padded(size, scale):
    stream = FlowNetFlow(Places(channels=2), scale).start()
    frame = stream.prepare(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))
    flow = stream.flow(frame, frame, None)
    rows, columns = flow.field.shape[2:]
    # The stand-in says where its cells are: in pixels of the frame that must be the middles of the grid's cells.
    x = (torch.arange(columns) + 0.5) * size[1] / columns
    y = (torch.arange(rows) + 0.5) * size[0] / rows
    # Cells that are a little smaller than the network's have no neighbour on the other side of an edge.
    inside = slice(1, -1)
    torch.testing.assert_close(flow.field[0, 0, :, inside], x.expand(rows, -1)[:, inside], atol=1e-3, rtol=0)
    torch.testing.assert_close(flow.field[0, 1, inside], y[:, None].expand(-1, columns)[inside], atol=1e-3, rtol=0)
    assert flow.scale is not None and flow.scale.shape == (1, 2, rows, columns)


def test_whole_cells_are_cut_off_and_not_interpolated():
    values = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first_cells(values, 4.0, 5.0), values[:, :, :4, :5])
    assert first_cells(values, 4.25, 5.0).shape == (1, 3, 5, 5)


def test_the_network_sees_both_frames_in_order_and_the_frame_where_it_is_not_padded():
    stream = FlowNetFlow(Places(), scale=1).start()
    current, key = torch.rand(2, 1, 3, 70, 130, generator=torch.Generator().manual_seed(0))
    stream.flow(stream.prepare(current), stream.prepare(key), None)
    (seen,) = stream.network.seen
    mean = torch.tensor([0.45, 0.432, 0.411])[:, None, None]
    assert seen.shape == (1, 6, 128, 192)
    assert torch.equal(seen[:, :3, :70, :130], current - mean) and torch.equal(seen[:, 3:, :70, :130], key - mean)
    assert torch.equal(seen[:, :, 70:, :130], seen[:, :, 69:70, :130].expand(-1, -1, 58, -1))


def test_a_half_is_the_mean_of_four():
    image = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    mean = (image[..., ::2, ::2] + image[..., ::2, 1::2] + image[..., 1::2, ::2] + image[..., 1::2, 1::2]) / 4
    torch.testing.assert_close(shrunk(image, 1 / 2), mean)
    assert shrunk(image, 1) is image
    assert shrunk(image, 0.4).shape == (1, 3, 2, 3)


def test_a_stream_keeps_the_network_it_began_with():
    network = FlowNetS(width=1 / 16, seed=1)
    stream = FlowNetFlow(network, scale=1).start()
    current, key = torch.rand(2, 1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    frames = stream.prepare(current), stream.prepare(key)
    flow = stream.flow(*frames, None).field
    layout = {name: each.stride() for name, each in network.named_parameters()}
    with torch.no_grad():
        torch.testing.assert_close(flow, network(pair(centred(current), centred(key)))[0], rtol=1e-4, atol=1e-4)
        for each in network.parameters():
            each.mul_(2)
    assert torch.equal(stream.flow(*frames, None).field, flow)
    assert not torch.allclose(FlowNetFlow(network, scale=1).start().flow(*frames, None).field, flow)
    assert (
        layout
        == {name: each.stride() for name, each in network.named_parameters()}
        != {name: each.stride() for name, each in stream.network.named_parameters()}
    )


def test_a_network_that_cannot_be_copied_is_refused():
    network = FlowNetS(width=1 / 64)
    network.kept = network(torch.zeros(1, 6, 64, 64))[0]  # torch copies no tensor that has a history
    with pytest.raises(VideoError, match="cannot be copied for a stream"):
        FlowNetFlow(network).start()


def test_inference_leaves_no_graph():
    stream = FlowNetFlow(FlowNetS(width=1 / 64)).start()
    frame = stream.prepare(torch.rand(1, 3, 64, 64))
    assert not stream.flow(frame, frame, None).field.requires_grad


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_dis_finds_a_pan(preset):
    scenes = SceneConfig((128, 192), sprites=0, standing=0, pan=6, turn=0)
    pairs = draw_pairs(3, scenes, Textures.procedural(4), torch.Generator().manual_seed(1))
    stream = DisFlow(preset, scale=1).start()
    for current, key, target, valid in zip(pairs.current, pairs.key, pairs.flow, pairs.valid, strict=True):
        flow = stream.flow(stream.prepare(current[None]), stream.prepare(key[None]), None)
        assert endpoint_error(flow.field, target[None], valid[None]) < 0.2


@pytest.mark.parametrize("size", [(128, 192), (96, 150), (101, 143)])
def test_dis_answers_in_pixels_of_the_frame_at_any_scale(size):
    scenes = SceneConfig(size, sprites=0, standing=0, pan=8, turn=0)
    pairs = draw_pairs(1, scenes, Textures.procedural(4, seed=1), torch.Generator().manual_seed(2))
    for scale in (1, 1 / 2, 0.6):
        stream = DisFlow(scale=scale).start()
        flow = stream.flow(stream.prepare(pairs.current), stream.prepare(pairs.key), None)
        assert endpoint_error(flow.field, pairs.flow, pairs.valid) < 0.5


def test_dis_is_opencvs_on_the_gray_frames():
    pairs = draw_pairs(1, SceneConfig((64, 96)), Textures.procedural(4), torch.Generator().manual_seed(0))
    stream = DisFlow(scale=1).start()
    flow = stream.flow(stream.prepare(pairs.current), stream.prepare(pairs.key), None)
    grays = [
        cv2.cvtColor((255 * image[0].permute(1, 2, 0).numpy()).astype(np.float32), cv2.COLOR_RGB2GRAY)
        for image in (pairs.current, pairs.key)
    ]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    expected = search.calc(*(gray.round().astype(np.uint8) for gray in grays), None)
    torch.testing.assert_close(flow.field[0].permute(1, 2, 0), torch.from_numpy(expected), atol=0.05, rtol=0)


def test_dis_is_scaled_by_each_side_s_own_ratio():
    stream = DisFlow(scale=1 / 2).start()
    frame = stream.prepare(torch.rand(1, 3, 65, 130, generator=torch.Generator().manual_seed(0)))
    assert frame.gray.shape == (32, 65)
    stream.search = SameEverywhere()
    field = stream.flow(frame, frame, None).field
    assert field[0, :, 0, 0].tolist() == [3 * 2, 5 * 65 / 32]


class SameEverywhere:
    """Finds that everything moved by 3 to the right and by 5 down."""

    def calc(self, current, key, _):
        return np.broadcast_to(np.array([3, 5], np.float32), (*current.shape, 2)).copy()


def test_fine_patterns_vanish_when_they_are_shrunk():
    checks = (torch.arange(60)[:, None] + torch.arange(80)).remainder(2)[None, None].float()
    assert shrunk(checks, 0.4).std() < 0.1 < 0.4 < checks.std()


def test_no_flow_is_0_over_the_frame():
    stream = NoFlow().start()
    flow = stream.flow(stream.prepare(torch.rand(1, 3, 8, 8)), stream.prepare(torch.rand(1, 3, 8, 8)), None)
    assert not interpolate(flow.field, (8, 8)).any() and flow.scale is None


@pytest.mark.parametrize("estimator", [FlowNetFlow(FlowNetS(width=1 / 64)), DisFlow()])
def test_frames_of_two_sizes_are_refused(estimator):
    stream = estimator.start()
    one, other = (stream.prepare(torch.rand(1, 3, height, 128)) for height in (64, 96))
    with pytest.raises(VideoError, match="a frame of 128 x 64 pixels to a key frame of 128 x 96"):
        stream.flow(one, other, None)


def test_settings_out_of_range_are_refused():
    for scale in (0, 1.5, float("nan")):
        with pytest.raises(VideoError, match="scale must be above 0 and at most 1"):
            DisFlow(scale=scale)
        with pytest.raises(VideoError, match="scale must be above 0 and at most 1"):
            FlowNetFlow(FlowNetS(width=1 / 64), scale)
    with pytest.raises(VideoError, match=r"preset 'slow' is unknown; known are ultrafast, fast, medium"):
        DisFlow("slow")


def test_a_frame_too_small_for_dis_is_refused():
    with pytest.raises(VideoError, match=r"200 x 62 pixels is 100 x 31 at scale 0\.5, and DIS needs 32"):
        DisFlow().start().prepare(torch.rand(1, 3, 62, 200))
    stream = DisFlow().start()
    frame = stream.prepare(torch.rand(1, 3, 64, 200))
    assert stream.flow(frame, frame, None).field.shape == (1, 2, 32, 100)
