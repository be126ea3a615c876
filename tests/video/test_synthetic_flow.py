"""Flow of synthetic scenes is exact: it brings one image to the other, and whole pixels to the very same numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import grid_sample

from bale.errors import VideoError
from bale.video.flow.synthetic import SceneConfig, Scenes, draw_pairs, draw_scenes
from bale.video.flow.textures import SIDE, Textures

TEXTURES = Textures.procedural(6, seed=0)
SIZE = (48, 80)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def warped(image, flow):
    """What the pixels of `image` show at the places that `flow` names; bilinear."""
    height, width = image.shape[2:]
    x = torch.arange(width) + flow[:, 0]
    y = torch.arange(height)[:, None] + flow[:, 1]
    grid = torch.stack((2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1), dim=-1)
    return grid_sample(image, grid, align_corners=True)


def scenes_of(displacements, sprite=None):
    """A scene whose background is moved by (dx, dy) in each frame, with a sprite moved by others in front of it."""
    moves = [displacements] if sprite is None else [displacements, sprite]
    layers, frames = len(moves), len(displacements)
    pose = torch.eye(2, 3, dtype=torch.float64).expand(frames, 1, layers, 2, 3).clone()
    start = torch.tensor([[0.0, 0.0], [30.3, 20.2]])
    for layer, each in enumerate(moves):
        pose[:, 0, layer, :, 2] = start[layer] + torch.tensor(each, dtype=torch.float64)
    return Scenes(
        size=SIZE,
        textures=TEXTURES,
        texture=torch.arange(layers)[None],
        origin=torch.tensor([[[100.25, 90.5], [20.125, 40.75]]])[:, :layers],
        tint=torch.ones(1, layers, 3),
        radius=torch.tensor([[[torch.inf, torch.inf], [9.0, 14.0]]])[:, :layers],
        power=torch.full((1, layers), 4.0),
        pose=pose,
    )


@given(st.integers(-20, 20), st.integers(-20, 20))
@settings(max_examples=15)
def test_whole_pixels_are_exact(dx, dy):
    scenes = scenes_of([(0, 0), (dx, dy)])
    flow, valid = scenes.flow(0, 1)
    assert torch.equal(flow, torch.tensor([dx, dy]).float()[None, :, None, None].expand(1, 2, *SIZE))
    current, key = scenes.images(0), scenes.images(1)
    height, width = SIZE
    here = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    there = slice(max(0, dy), height - max(0, -dy)), slice(max(0, dx), width - max(0, -dx))
    torch.testing.assert_close(current[..., here[0], here[1]], key[..., there[0], there[1]], atol=1e-4, rtol=0)
    assert valid[0, here[0], here[1]].all() and valid.sum() == (height - abs(dy)) * (width - abs(dx))


@pytest.mark.parametrize("seed", range(3))
def test_flow_brings_the_key_to_the_current_image(seed):
    # Interpolation between the key's pixels is what is left, and at edges of sprites two surfaces are mixed by it.
    pairs = draw_pairs(4, SceneConfig(SIZE, radius=(5, 15)), TEXTURES, generator(seed))
    error = (warped(pairs.key, pairs.flow) - pairs.current).abs().mean(dim=1)
    unmoved = (pairs.key - pairs.current).abs().mean(dim=1)
    moved = pairs.flow.norm(dim=1) > 1
    assert error[pairs.valid].median() < 2e-3
    assert error[pairs.valid].mean() < 0.01
    assert error[pairs.valid & moved].mean() < 0.25 * unmoved[pairs.valid & moved].mean()


def test_what_a_sprite_hides_is_not_valid():
    scenes = scenes_of([(0, 0), (0, 0)], sprite=[(0, 0), (25, 0)])
    flow, valid = scenes.flow(0, 1)
    now, then = (scenes.layers(frame)[0] == 1 for frame in (0, 1))
    assert now.any() and not (now & then).any()
    assert torch.equal(flow[0, 0], 25.0 * now) and not flow[0, 1].any()
    assert torch.equal(~valid[0], then)  # only the background behind the sprite's new place is hidden


def test_a_sprite_that_leaves_is_not_valid():
    scenes = scenes_of([(0, 0), (0, 0)], sprite=[(0, 0), (200, 0)])
    _, valid = scenes.flow(0, 1)
    assert torch.equal(valid, scenes.layers(0) == 0)


def test_flow_between_any_two_frames_adds_up():
    scenes = draw_scenes(2, SceneConfig(SIZE, sprites=0, standing=0), TEXTURES, generator(1), frames=4, gap=3)
    there, _ = scenes.flow(0, 3)
    back, _ = scenes.flow(3, 0)
    # From 0 to 3, and from where that is back to 0, is no motion; affine flow is read between pixels exactly.
    inside = (torch.stack(torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")).flip(0) + there).movedim(1, -1)
    inside = ((inside >= 0) & (inside <= torch.tensor([SIZE[1] - 1, SIZE[0] - 1]))).all(dim=-1)
    total = there + warped(back, there)
    assert total.abs().amax(dim=1)[inside].max() < 1e-3
    assert scenes.frames == 4 and len(scenes) == 2


def test_affine_flow_is_that_of_its_matrix():
    scenes = draw_scenes(3, SceneConfig(SIZE, sprites=0, standing=0), TEXTURES, generator(3))
    flow, _ = scenes.flow(0, 1)
    for scene in range(3):
        first, second = (torch.cat((pose[scene, 0], torch.tensor([[0.0, 0, 1]])), 0) for pose in scenes.pose)
        matrix = second @ torch.linalg.inv(first)
        for x, y in ((0, 0), (79, 0), (17, 40)):
            expected = matrix @ torch.tensor([x, y, 1.0], dtype=torch.float64) - torch.tensor([x, y, 1.0])
            torch.testing.assert_close(flow[scene, :, y, x].double(), expected[:2], atol=1e-4, rtol=1e-4)


def test_boxes_hold_their_sprites_tightly():
    config = SceneConfig((96, 128), sprites=1, radius=(10, 14), turn=0.5, standing=0)
    scenes = draw_scenes(24, config, TEXTURES, generator(4))
    checked = 0
    for frame in (0, 1):
        for layer, box in zip(scenes.layers(frame), scenes.boxes(frame)[:, 0], strict=True):
            left, top, right, bottom = box.tolist()
            if right - left < 2 or left < 0 or top < 0 or right > 128 or bottom > 96:
                continue  # not there, or not whole in the image
            rows, columns = (layer == 1).nonzero().unbind(1)
            found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            # Nearly a diamond ends in points, which may lie between pixels.
            assert (box[:2] - found[:2] <= 0.51).all() and (found[2:] - box[2:] <= 0.51).all()
            assert (found - box).abs().max() < 3
            checked += 1
    assert checked >= 8


def test_scenes_depend_on_the_generator_alone():
    config = SceneConfig(SIZE, noise=0.02, light=0.1)
    one, same, other = (draw_pairs(2, config, TEXTURES, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.key, same.key) and torch.equal(one.flow, same.flow)
    assert not torch.equal(one.key, other.key)


def test_noise_and_light_leave_the_flow_as_it_is():
    clean = SceneConfig(SIZE)
    first, second = (draw_pairs(2, c, TEXTURES, generator(7)) for c in (clean, replace(clean, noise=0.05, light=0.1)))
    assert torch.equal(first.flow, second.flow)
    assert 0 < (first.current - second.current).abs().max() < 0.3
    for image in (second.current, second.key):
        assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1


def test_standing_scenes_stand():
    pairs = draw_pairs(3, SceneConfig(SIZE, standing=1.0), TEXTURES, generator(8))
    assert pairs.flow.abs().max() < 1e-9 and pairs.valid.all() and torch.equal(pairs.current, pairs.key)


def test_textures_are_looked_up_between_pixels_and_mirrored():
    ramp = torch.arange(SIDE).float()[None, None, :, None].expand(1, SIDE, SIDE, 3) / SIDE
    textures = Textures(ramp.contiguous())
    x = torch.tensor([0.0, 10.25, SIDE - 1, SIDE, -3.5])
    found = textures.at(torch.zeros(5, dtype=torch.int64), torch.stack((x, torch.full((5,), 7.7)), dim=-1))
    expected = torch.tensor([0, 10.25, SIDE - 1, SIDE - 2, 3.5]) / SIDE
    torch.testing.assert_close(found, expected[:, None].expand(5, 3))


def test_pieces_of_images_are_textures():
    image = np.random.default_rng(0).integers(0, 256, (SIDE + 3, SIDE + 5, 3), dtype=np.uint8)
    textures = TEXTURES.with_images([image], pieces=2)
    assert len(textures) == len(TEXTURES) + 2
    piece = (255 * textures.pictures[-1]).round().to(torch.uint8).numpy()
    assert any((piece == image[y : y + SIDE, x : x + SIDE]).all() for y in range(4) for x in range(6))
    for wrong in (image[:, :, 0], image[:100], image.astype(np.float32)):
        with pytest.raises(VideoError, match=r"image 0: textures are cut from uint8 \[height, width, 3\]"):
            TEXTURES.with_images([wrong])


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"size": (1, 9)}, "sides"), ({"radius": (5, 2)}, "radius"), ({"standing": 2}, "standing"), ({"pan": -1}, "pan")],
)
def test_configs_out_of_range_are_refused(change, problem):
    with pytest.raises(VideoError, match=problem):
        SceneConfig(**change)
