"""Does the picture of a mesh show every router and link, and the data what was estimated?"""

import numpy as np
import pytest
import torch

from bale.hardware import estimate_noc, put_on_chip, simulate_noc, small_tiles
from bale.models import ResNet20
from bale.report import draw_noc, noc_dict


@pytest.fixture(scope="module")
def on_chip():
    torch.manual_seed(0)
    return put_on_chip(ResNet20(width=8), small_tiles(), torch.rand(1, 1, 28, 28), copy=False)


@pytest.mark.parametrize(("torus", "links"), [(False, 4 * 100 - 40), (True, 4 * 100)])
def test_the_picture_has_every_router_and_link(on_chip, torus, links) -> None:
    estimate = estimate_noc(on_chip, torus=torus)
    figure = draw_noc(estimate, "resnet20")
    axes = figure.axes[0]
    assert len(axes.patches) == 100
    arrows = [text for text in axes.texts if getattr(text, "arrow_patch", None) is not None]
    labels = [text.get_text() for text in axes.texts if text.get_text()]
    assert len(arrows) == links and len(labels) == 47
    assert "stage1.0\nconv1" in labels and labels.count("fc") == 1
    widest = max(arrows, key=lambda arrow: arrow.arrow_patch.get_linewidth())
    node, _ = np.unravel_index(estimate.loads.argmax(), estimate.loads.shape)
    column, row = node % 10, node // 10
    assert np.hypot(widest.xyann[0] - column, widest.xyann[1] - row) < 0.5
    assert figure.get_suptitle().startswith(f"resnet20 on small_tiles, a {'torus' if torus else 'mesh'} of 10 x 10")


def test_data_are_those_of_the_estimate(on_chip) -> None:
    estimate = estimate_noc(on_chip, multicast=True)
    packets = estimate.packets(0.4)
    run = simulate_noc(estimate.mesh, packets)
    report = noc_dict(estimate, run)
    assert report["energy_pj"] == pytest.approx(estimate.energy_pj.sum())
    assert report["simulated"]["busiest_link_flits"] == run.link_flits.max()
    assert report["simulated"]["flits"] == packets.flits.sum()
    assert [layer["name"] for layer in report["layers"]] == list(estimate.matrices)
    assert {name for names in report["routers"].values() for name in names} == set(estimate.matrices)
    for link in report["links"]:
        place = ("east", "west", "south", "north").index(link["direction"])
        assert link["bits"] == estimate.loads[link["from"], place] > 0
    assert noc_dict(estimate)["simulated"] is None
