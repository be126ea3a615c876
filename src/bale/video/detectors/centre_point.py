"""How does a network say where objects are by the points of their centres?

Zhou, Wang, Krähenbühl, "Objects as Points" (CenterNet), 2019: for each class a heat map whose peaks are the objects'
centres, and at each place a size and the rest of the centre that the map's stride loses. Two things are not its own. A
size is learnt as its logarithm, as CenterFace does, so that an error costs the same on a near person and on a far one.
And places around a centre learn size and way to the centre too, by how near they are: so few steps suffice (the idea of
Liu et al., "Training-Time-Friendly Network", 2019), and a peak that is a place off still gives the right box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, max_pool2d

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.detector import Features

_LEAST_WEIGHT = 0.1  # of a place that learns size and offset
# Section 3 of the paper: exponents of the focal loss, weight of the sizes, and the overlap that a shifted box keeps.
_FOCUS, _NEAR_A_CENTRE, _SIZE_WEIGHT, _OVERLAP = 2, 4, 0.1, 0.7
_RARE = 0.02  # what the heat map says everywhere before training: centres are rare
_LARGEST = 12.0  # logarithm of a size in places beyond which nothing is believed; keeps exp finite


@dataclass(frozen=True, eq=False)
class CentreMaps:
    """What a head says of n frames.

    heat    [n, classes, rows, columns], logits: how much a place is the centre of an object of a class
    size    [n, 2, rows, columns]: logarithms of width and height, in places of the map
    offset  [n, 2, rows, columns]: by how much the nearest centre is right of and below the place's left top, in places
    """

    heat: Tensor
    size: Tensor
    offset: Tensor


@dataclass(frozen=True, eq=False)
class CentreTargets:
    """What a head should say of n frames that hold `objects` objects in all.

    heat    [n, classes, rows, columns]: 1 at a centre, a Gaussian around it, 0 far away
    size    [n, 2, rows, columns], offset alike: as in `CentreMaps`, of the object whose Gaussian is highest there
    weight  [n, 1, rows, columns]: how much they count: 1 at centres, less around them, 0 elsewhere
    """

    heat: Tensor
    size: Tensor
    offset: Tensor
    weight: Tensor


class CentrePointHead(nn.Module):
    """One 3 x 3 convolution and three of 1 x 1: a head that is cheap enough to run on every frame."""

    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, hidden, 3, padding=1)
        self.answer = nn.Conv2d(hidden, classes + 4, 1)
        with torch.no_grad():
            assert self.answer.bias is not None
            self.answer.bias[:classes] = log(_RARE / (1 - _RARE))
            self.answer.bias[classes : classes + 2] = log(4)
            self.answer.bias[classes + 2 :] = 0.5

    def forward(self, features: Tensor) -> CentreMaps:
        # The three of 1 x 1 are one: classes of heat, two of size, two of offset.
        answer = self.answer(self.hidden(features).relu())
        return CentreMaps(answer[:, :-4], answer[:, -4:-2], answer[:, -2:])


class CentrePointDetector(nn.Module):
    """A `bale.video.detector.Detector` whose head is of centre points; subclasses compute the features.

    Parameters take no gradients until `fine_tune` trains them, so that a stream of frames holds on to nothing.

    names      of the classes; a detection's label counts them from 0
    multiple   of what both sides of a frame must be
    stride     pixels of the frame from one place of the feature map to the next
    limit      objects that are found on a frame at most
    threshold  score from which on an object is told; low, so that a user's own threshold has something to choose from
    """

    def __init__(self, names: Sequence[str], channels: int, hidden: int, multiple: int, stride: float) -> None:
        super().__init__()
        if not names or len(set(names)) != len(names):
            raise VideoError(f"names: expected a different one for each class, got {list(names)}")
        self.names = tuple(names)
        self.multiple = multiple
        self.stride = stride
        self.limit = 100
        self.threshold = 0.05
        self.points = CentrePointHead(channels, len(names), hidden)

    def settings(self) -> dict[str, object]:
        """Return the keywords, as JSON can hold them, with which a detector of the same shape is made."""
        raise NotImplementedError

    def features(self, image: Tensor) -> Tensor:
        """Return the feature map [n, channels, height / stride, width / stride] of images [n, 3, height, width]."""
        raise NotImplementedError

    def head(self, features: Features, size: tuple[int, int]) -> Detections:
        """Return the objects on one frame of `size` (height, width); raises VideoError for several maps."""
        return decode(self.points(only_map(features)), self.stride, size, self.limit, self.threshold)

    def forward(self, image: Tensor) -> CentreMaps:
        """Return what the head says of images [n, 3, height, width], for training."""
        return self.points(self.features(image))


def only_map(features: Features) -> Tensor:
    """Return the features of a detector that has one map; raises VideoError where they are several."""
    if not isinstance(features, Tensor):
        raise VideoError(f"this detector's features are one map, got a {type(features).__name__}")
    return features


def decode(
    maps: CentreMaps, stride: float, size: tuple[int, int], limit: int = 100, threshold: float = 0.05
) -> Detections:
    """Return the objects that the maps of one frame show, best first.

    A peak is a place that no neighbour of its 3 x 3 exceeds; at most `limit` of all classes together are told.

    Args:
        maps: of one frame.
        stride: pixels from one place to the next.
        size: height and width of the frame, to which boxes are cut; a box that has nothing left is not told.
        limit: how many at most.
        threshold: the least score.

    Raises VideoError for maps of several frames.
    """
    if len(maps.heat) != 1:
        raise VideoError(f"decode takes the maps of one frame, got those of {len(maps.heat)}")
    heat = maps.heat[0].sigmoid()
    heat = torch.where(max_pool2d(heat, 3, stride=1, padding=1) == heat, heat, 0)
    rows, columns = heat.shape[-2:]
    scores, order = heat.flatten().topk(min(limit, heat.numel()))
    order = order[scores >= threshold]
    scores = scores[: len(order)]
    place = order % (rows * columns)
    across = maps.size[0].flatten(1)[:, place].clamp(max=_LARGEST).exp()  # [2, objects]
    centre = torch.stack((place % columns, place // columns)) + maps.offset[0].flatten(1)[:, place]
    corners = torch.cat((centre - across / 2, centre + across / 2)) * stride  # [4, objects]
    return visible(Detections(corners.T, scores, order // (rows * columns)), size)


def visible(found: Detections, size: tuple[int, int]) -> Detections:
    """Cut boxes to a frame of `size` (height, width), and leave out those of which nothing is left."""
    height, width = size
    boxes = found.boxes.float().clamp(min=0).minimum(found.boxes.new_tensor((width, height, width, height)))
    left = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes[left], found.scores[left].float(), found.labels[left])


def targets(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], classes: int, stride: float, shape: tuple[int, int]
) -> CentreTargets:
    """Return what a head should say of n frames.

    Where two objects have their centre at one place, that of the smaller one is learnt: the larger one's other
    places still say that there is something.

    Args:
        boxes: float [objects, 4] for each frame, in pixels: left, top, right, bottom.
        labels: int [objects] for each frame.
        classes: how many there are.
        stride: pixels from one place to the next.
        shape: rows and columns of the map.

    Raises VideoError for a label out of range, and for a box that is empty or has its centre outside the map.
    """
    rows, columns = shape
    heat = torch.zeros(len(boxes), classes, rows, columns)
    size, offset = torch.zeros(len(boxes), 2, rows, columns), torch.zeros(len(boxes), 2, rows, columns)
    weight = torch.zeros(len(boxes), 1, rows, columns)
    column, row = torch.arange(columns), torch.arange(rows)[:, None]
    for frame, (its_boxes, its_labels) in enumerate(zip(boxes, labels, strict=True)):
        across = ((its_boxes[:, 2:] - its_boxes[:, :2]) / stride).float()  # [objects, 2]
        # As rounded as the offsets will be: else one of almost 1 becomes 1, at a centre that is the next place's.
        centres = ((its_boxes[:, :2] + its_boxes[:, 2:]) / 2 / stride).float()
        for each in across.prod(1).argsort(descending=True).tolist():
            left, top, right, bottom = (its_boxes[each] / stride).tolist()
            (x, y), label = centres[each].tolist(), int(its_labels[each])
            _refuse(frame, its_boxes[each], label, classes, right > left and bottom > top)
            if not (0 <= x < columns and 0 <= y < rows):
                raise VideoError(f"frame {frame}: box {its_boxes[each].tolist()} has its centre outside the frame")
            spread = (2 * _radius(right - left, bottom - top) + 1) / 6
            near = (-((column - int(x)) ** 2 + (row - int(y)) ** 2) / (2 * spread**2)).exp()  # [rows, columns]
            heat[frame, label] = heat[frame, label].maximum(near)
            own = (near >= weight[frame, 0]) & (near >= _LEAST_WEIGHT)
            weight[frame, 0, own] = near[own]
            size[frame, :, own] = across[each].log()[:, None]
            offset[frame, :, own] = torch.stack(((x - column).expand(rows, -1), (y - row).expand(-1, columns)))[:, own]
    return CentreTargets(heat, size, offset, weight)


def centre_loss(maps: CentreMaps, wanted: CentreTargets) -> Tensor:
    """Return the loss, a scalar: penalty-reduced focal loss of the heat, and L1 of size and offset near centres.

    The first is divided by the number of objects, as in the paper, the others by the weights of the places that learn
    them; frames without any object teach what is nothing.
    """
    peak = wanted.heat == 1
    objects, places = peak.sum().clamp(min=1), wanted.weight.sum().clamp(min=1)
    score = maps.heat.sigmoid()
    # Logarithms of the score and of what is left of it, from the logit: neither is ever -inf.
    found = logsigmoid(maps.heat) * (1 - score) ** _FOCUS
    nothing = logsigmoid(-maps.heat) * score**_FOCUS * (1 - wanted.heat) ** _NEAR_A_CENTRE
    focal = -torch.where(peak, found, nothing).sum()
    size = ((maps.size - wanted.size).abs() * wanted.weight).sum()
    offset = ((maps.offset - wanted.offset).abs() * wanted.weight).sum()
    # A logarithm's error e is one of e x size in the paper's places; of a size of ten places, .1 of the paper is 1.
    return focal / objects + (10 * _SIZE_WEIGHT * size + offset) / places


def _refuse(frame: int, box: Tensor, label: int, classes: int, has_area: bool) -> None:
    if not 0 <= label < classes:
        raise VideoError(f"frame {frame}: label {label}; there are {classes} classes, counted from 0")
    if not has_area:
        raise VideoError(f"frame {frame}: box {box.tolist()} has no area; expected left, top, right, bottom")


def _radius(width: float, height: float) -> float:
    """How far a corner may be off for the box to overlap the true one by `_OVERLAP`: the least of three ways.

    Law and Deng, "CornerNet", 2018, whose rule the paper takes over: both corners move the same way, both inwards,
    both outwards.
    """
    total, area = width + height, width * height
    same_way = (total - sqrt(total**2 - 4 * area * (1 - _OVERLAP) / (1 + _OVERLAP))) / 2
    inwards = (total - sqrt(total**2 - 4 * area * (1 - _OVERLAP))) / 4
    outwards = (sqrt(total**2 * _OVERLAP**2 + 4 * _OVERLAP * (1 - _OVERLAP) * area) - _OVERLAP * total) / (4 * _OVERLAP)
    return max(0.0, min(same_way, inwards, outwards))
