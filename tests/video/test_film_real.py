"""Do codec, block matching and flow agree on a film of people who walk?"""

from pathlib import Path

import numpy as np
import pytest

from bale.video.film.read import read_film
from bale.video.motion import BlockMatching, CodecMotion, DisMotion

VTEST = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")


@pytest.mark.skipif(not VTEST.is_file(), reason=f"no {VTEST}: it is in Debian's package opencv-doc")
def test_measures_agree_on_pedestrians():
    measures = [each.start() for each in (CodecMotion(), BlockMatching(), DisMotion())]
    found, unknown = [], []
    for frame in read_film(VTEST, motion=True):
        if frame.index == 60:
            break
        assert frame.size == (576, 768) and frame.time == pytest.approx(frame.index / 10)
        if frame.motion is None:
            unknown.append(frame.index)
        found.append([measure(frame) for measure in measures])
    assert unknown == [0]  # an I-frame
    agreement = np.corrcoef(np.array(found)[1:].T)
    assert agreement.min() > 0.7
