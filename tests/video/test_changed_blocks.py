"""Does what is said to have changed cover every block in which a pair of images differs from the pair before?"""

import numpy as np
import torch
from benchmarks.video.toys import ToyDetector, toy_frame
from hypothesis import given
from hypothesis import strategies as st
from tests.video.made_streams import KeysAt, SteppedWorker

from bale.video.changed import ChangedBlocks
from bale.video.flow.estimator import Flow
from bale.video.frame import Frame
from bale.video.stream import VideoDetector

FRAMES, BLOCKS = 14, 6


class Recorded:
    """A flow that writes down which pairs it was asked of, and what was said of them."""

    def __init__(self):
        self.asked = []

    def start(self):
        return self

    def prepare(self, image):
        return round(float(image[0, 2, 0, 0]) * 255)  # a frame's index, in its first pixel's blue

    def flow(self, current, key, changed):
        self.asked.append((current, key, changed))
        return Flow(torch.zeros(1, 2, 1, 1))


class Masks:
    """Tells of each frame which blocks differ from the frame before."""

    def __init__(self, masks):
        self.masks = masks

    def start(self):
        return lambda frame, detections: self.masks[frame.index]


def frames_without(lost):
    frames = [toy_frame(index) for index in range(FRAMES)]
    for frame in frames:
        frame.image[0, 0, 2] = frame.index
    return [Frame(each.index, each.time, None) if each.index in lost else each for each in frames]


@given(
    st.lists(st.frozensets(st.integers(0, BLOCKS - 1)), min_size=FRAMES, max_size=FRAMES),
    st.frozensets(st.integers(0, FRAMES - 1)),
    st.frozensets(st.integers(1, FRAMES - 1), max_size=2),
    st.lists(st.integers(0, 5), max_size=FRAMES),
)
def test_changed_is_what_moved_on_the_way_of_the_current_frame_and_of_the_key(moved, keys, lost, polls):
    masks = [np.array([[block in blocks for block in range(BLOCKS)]]) for blocks in moved]
    flow = Recorded()
    detector = VideoDetector(ToyDetector(), flow, KeysAt(keys), worker=SteppedWorker(polls), sparse=Masks(masks))
    list(detector.stream(frames_without(lost)))
    unknown = {index + 1 for index in lost} | lost

    def between(first, last):
        """Blocks that moved after `first`, up to `last`; None where a frame between was lost, or came after one."""
        way = range(first + 1, last + 1)
        if unknown & set(way):
            return None
        return set().union(*(moved[index] for index in way))

    for (before, its_key, _), (current, key, changed) in zip(flow.asked, flow.asked[1:], strict=False):
        expected = between(before, current), between(its_key, key)
        if None in expected:
            assert changed is None
        else:
            assert set(np.flatnonzero(changed[0])) == expected[0] | expected[1]
    assert not flow.asked or flow.asked[0][2] is None


def test_nothing_is_kept_of_streams_of_keys_only():
    changed = ChangedBlocks()
    for index in range(100):
        changed.moved(np.ones((1, 1), bool))
        changed.mark(index)
        changed.take(index)
    assert len(changed._since) == 1


def test_a_mask_never_sees_boxes_of_another_resolution():
    seen = []

    class Watching:
        def start(self):
            return lambda frame, detections: seen.append((frame.size, len(detections)))

    frames = [toy_frame(0), toy_frame(1), toy_frame(2, (8, 8)), toy_frame(3, (8, 8))]
    list(VideoDetector(ToyDetector(), Recorded(), KeysAt(frozenset()), sparse=Watching()).stream(frames))
    assert seen == [((10, 14), 0), ((10, 14), 3), ((8, 8), 0), ((8, 8), 3)]


def test_without_masks_anything_may_have_changed():
    flow = Recorded()
    list(VideoDetector(ToyDetector(), flow, KeysAt(frozenset())).stream(frames_without(())))
    assert len(flow.asked) == FRAMES - 1 and all(changed is None for _, _, changed in flow.asked)
