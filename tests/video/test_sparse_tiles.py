"""Is a convolution of some tiles the dense one there, and nothing elsewhere?"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.errors import VideoError
from bale.video.sparse.convolution import sparse_conv2d, sparse_conv_transpose2d
from bale.video.sparse.copies import Gather, Scatter
from bale.video.sparse.mask import Window
from bale.video.sparse.tiles import Tiles, Tiling

MARK = 7.0


def some_tiles(size: tuple[int, int], tile: int, share: float, seed: int, ahead: int = 0) -> tuple[Tiles, torch.Tensor]:
    """An index, and which cells its tiles hold, bool [rows, columns]."""
    tiling = Tiling(size, tile, (ahead, ahead))
    active = np.random.default_rng(seed).random(tiling.grid) < share
    cells = active.repeat(tile, 0).repeat(tile, 1)[ahead : ahead + size[0], ahead : ahead + size[1]]
    return tiling.index(active), torch.from_numpy(cells)


def check(sparse, dense, window, x, weight, bias, tile, groups, share, seed):
    size = window.outputs(x.shape[2]), window.outputs(x.shape[3])
    if min(size) < 1:
        return
    tiles, cells = some_tiles(size, tile, share, seed, window.ahead)
    expected = F.leaky_relu(dense(x, weight, bias, window.stride, window.padding, groups=groups), 0.1)
    out = torch.full_like(expected, MARK)
    given = sparse(x, weight, bias, window.stride, window.padding, tiles, out, groups, lambda y: F.leaky_relu_(y, 0.1))
    assert given is out
    torch.testing.assert_close(out[..., cells], expected[..., cells], rtol=1e-5, atol=1e-5)
    assert (out[..., ~cells] == MARK).all()


sizes = st.tuples(st.integers(3, 19), st.integers(3, 19))
shares = st.sampled_from([0.0, 0.3, 1.0])


@given(sizes, st.integers(1, 5), st.integers(1, 3), st.integers(0, 3), st.integers(1, 6), st.integers(1, 2),
       st.booleans(), shares, st.integers(0, 99))  # fmt: skip
@settings(max_examples=120)
def test_a_convolution_of_tiles_is_the_dense_one_there(
    size, kernel, stride, padding, tile, groups, biased, share, seed
):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 2 * groups, *size, generator=draw)
    weight = torch.randn(3 * groups, 2, kernel, kernel, generator=draw)
    bias = torch.randn(3 * groups, generator=draw) if biased else None
    check(sparse_conv2d, F.conv2d, Window(kernel, stride, padding), x, weight, bias, tile, groups, share, seed)


@given(sizes, st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(1, 3), st.integers(1, 2),
       st.booleans(), shares, st.integers(0, 99))  # fmt: skip
@settings(max_examples=120)
def test_a_transposed_convolution_of_tiles_is_the_dense_one_there(
    size, kernel, stride, padding, units, groups, biased, share, seed
):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 2 * groups, *size, generator=draw)
    weight = torch.randn(2 * groups, 3, kernel, kernel, generator=draw)
    bias = torch.randn(3 * groups, generator=draw) if biased else None
    window = Window(kernel, stride, min(padding, kernel - 1), transposed=True)
    dense = lambda x, weight, bias, stride, padding, groups: F.conv_transpose2d(  # noqa: E731
        x, weight, bias, stride, padding, groups=groups
    )
    check(sparse_conv_transpose2d, dense, window, x, weight, bias, units * stride, groups, share, seed)


def test_an_output_in_channels_last_is_written_in_place():
    x, weight = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0)), torch.ones(2, 3, 3, 3)
    out = torch.zeros(1, 2, 12, 12).contiguous(memory_format=torch.channels_last)
    tiles, _ = some_tiles((12, 12), 4, 1.0, 0)
    sparse_conv2d(x, weight, None, 1, 1, tiles, out)
    torch.testing.assert_close(out, F.conv2d(x, weight, padding=1))


def cut(memory: torch.Tensor, tiling: Tiling) -> torch.Tensor:
    """Every tile of a map [rows, columns, channels] that reads what lies under it, a view."""
    down, across, channel = memory.stride()
    shape, side = (*tiling.grid, tiling.tile, tiling.tile, memory.shape[2]), tiling.tile
    return memory.as_strided(shape, (side * down, side * across, down, across, channel), memory.storage_offset())


@given(sizes, st.integers(1, 5), st.integers(0, 2), st.booleans(), shares, st.integers(0, 99),
       st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))  # fmt: skip
@settings(max_examples=60)
def test_the_loops_copy_what_indexing_does(size, tile, ahead, some_channels, share, seed, dtype):
    tiles, cells = some_tiles(size, tile, share, seed, min(ahead, tile - 1))
    draw = torch.Generator().manual_seed(seed)
    memory = torch.randn(size[0] + 2 * tile, size[1] + 2 * tile, 6, generator=draw).to(dtype)
    source = memory[..., 1:4] if some_channels else memory
    planes = source.permute(2, 0, 1).contiguous().permute(1, 2, 0)  # which no loop copies
    every_tile, of_planes = (cut(each, tiles.of) for each in (source, planes))
    gathered = Gather.of(tiles.of, every_tile)(tiles)
    assert torch.equal(Gather.of(tiles.of, of_planes)(tiles), gathered)
    assert gathered.is_contiguous()
    assert torch.equal(gathered, every_tile[torch.from_numpy(tiles.rows), torch.from_numpy(tiles.columns)])
    target, by_index = torch.zeros(*size, 8, dtype=dtype)[..., :6], torch.zeros(6, *size, dtype=dtype).permute(1, 2, 0)
    for each in (target, by_index):  # of which only the first one's channels lie side by side
        Scatter.of(tiles.of, each[..., : source.shape[2]])(gathered, tiles)
    assert torch.equal(target, by_index)
    assert not target[~cells].any()


def test_a_kernel_need_not_be_square():
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 2, 9, 11, generator=draw), torch.randn(3, 2, 2, 5, generator=draw)
    expected = F.conv2d(x, weight, stride=2, padding=1)
    for tile in (1, 2, 3):
        tiles, _ = some_tiles((expected.shape[2], expected.shape[3]), tile, 1.0, 0)
        out = torch.zeros_like(expected)
        torch.testing.assert_close(sparse_conv2d(x, weight, None, 2, 1, tiles, out), expected)


def test_sizes_that_disagree_are_refused():
    x, weight, out = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 8, 8)
    tiles, _ = some_tiles((6, 6), 2, 1.0, 0)
    with pytest.raises(
        VideoError, match=r"makes one map of \(8, 8\); out is \(1, 1, 8, 8\), the tiles are of \(6, 6\)"
    ):
        sparse_conv2d(x, weight, None, 1, 1, tiles, out)
    with pytest.raises(VideoError, match="a map of"):
        Tiling((4, 4), 2).index(np.ones((3, 2), bool))
    tiles, _ = some_tiles((9, 9), 3, 1.0, 0)
    with pytest.raises(VideoError, match="stride 2 needs a multiple of it, 0 ahead"):
        sparse_conv_transpose2d(x, weight, None, 2, 0, tiles, out)


def test_an_index_of_another_map_is_refused():
    tiles, _ = some_tiles((6, 6), 2, 1.0, 0)
    with pytest.raises(VideoError, match=r"there are \[2, 3\] tiles to gather from, the map has \[3, 3\]"):
        Gather.of(tiles.of, torch.zeros(2, 3, 2, 2, 1))
    with pytest.raises(VideoError, match=r"tiles of a map of \[6, 6\] cannot be written to \[6, 5, 1\]"):
        Scatter.of(tiles.of, torch.zeros(6, 5, 1))
    gather, scatter = Gather.of(tiles.of, torch.zeros(3, 3, 2, 2, 1)), Scatter.of(tiles.of, torch.zeros(6, 6, 1))
    for other in (Tiling((6, 5), 2), Tiling((6, 6), 3), Tiling((6, 6), 2, (1, 1))):
        theirs = other.index(np.ones(other.grid, bool))
        with pytest.raises(VideoError, match="an index of Tiling"):
            gather(theirs)
        with pytest.raises(VideoError, match="an index of Tiling"):
            scatter(torch.zeros(len(theirs), 2, 2, 1), theirs)
    for shape in ((8, 2, 2, 1), (9, 2, 2, 2)):
        with pytest.raises(VideoError, match=r"values of .*: 9 tiles here are \[9, 2, 2, 1\]"):
            scatter(torch.zeros(shape), tiles)


def test_gathers_that_share_memory_overwrite_each_other():
    tiles, _ = some_tiles((4, 4), 2, 1.0, 0)
    memory = torch.zeros(100)
    first, second = (Gather.of(tiles.of, torch.full((2, 2, 2, 2, 3), value), memory) for value in (1.0, 2.0))
    gathered = first(tiles)
    assert (gathered == 1).all()
    assert (second(tiles) == 2).all() and (gathered == 2).all() and not memory[48:].any()


def test_memory_that_does_not_fit_is_refused():
    tiling, every_tile = Tiling((4, 4), 2), torch.ones(2, 2, 2, 2, 3)
    for memory in (torch.zeros(47), torch.zeros(48, dtype=torch.float64), torch.zeros(200)[::2], torch.zeros(6, 8)):
        with pytest.raises(VideoError, match=r"48 values of torch.float32 do not fit"):
            Gather.of(tiling, every_tile, memory)
