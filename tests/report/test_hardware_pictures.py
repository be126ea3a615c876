"""Pictures show what the numbers say: bars as long as energies, from starts to ends."""

from dataclasses import replace

import numpy as np
import pytest

from bale.hardware import Simulation
from bale.report import draw_energy, draw_pipeline
from bale.report.quantities import ENERGY, unit_for


def bars_of(figure):
    """(left, width, row) of every bar."""
    return [(bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in figure.axes[0].patches]


def names_of(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def legend_of(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_of_one_simulation_a_bar_is_a_layer(lossless):
    figure = draw_energy([lossless])
    by_layer = lossless.cost.energy.by_layer()
    size, unit = unit_for(by_layer.values(), ENERGY)
    assert figure.axes[0].get_xlabel() == f"{unit} a sample"
    assert names_of(figure) == list(by_layer)
    for place, energy in enumerate(by_layer.values()):
        length = sum(width for _, width, row in bars_of(figure) if round(row) == place)
        assert length * size == pytest.approx(energy)


def test_of_several_a_bar_is_a_simulation(lossless, clipped, noisy):
    simulations = [lossless, clipped, noisy]
    figure = draw_energy(simulations)
    size, _ = unit_for([simulation.cost.energy.total_pj for simulation in simulations], ENERGY)
    assert names_of(figure) == ["isaac_ce", "isaac_adc(4)", "small_tiles"]
    for place, simulation in enumerate(simulations):
        length = sum(width for _, width, row in bars_of(figure) if round(row) == place)
        assert length * size == pytest.approx(simulation.cost.energy.total_pj)


def test_small_components_are_joined(lossless):
    units = lossless.cost.energy.by_unit()
    names = legend_of(draw_energy([lossless]))
    assert names[0] == max(units, key=units.__getitem__)
    assert names[-1].startswith("other (") and len(names) < len(units)


def test_very_many_layers_are_joined(lossless):
    parts = {(f"layer{k}", "ADC"): 1e6 + k for k in range(50)}
    energy = replace(lossless.cost.energy, parts=parts)
    figure = draw_energy([Simulation(replace(lossless.cost, energy=energy), lossless.run)])
    assert len(names_of(figure)) == 31 and names_of(figure)[-1] == "20 others"


def test_a_pipeline_is_drawn_from_starts_to_ends(lossless):
    figure = draw_pipeline(lossless, images=3)
    times, calls = lossless.cost.timeline, lossless.cost.calls
    bars = bars_of(figure)
    assert names_of(figure) == list(calls)
    assert legend_of(figure) == ["image 1", "image 2", "image 3"]
    assert len(bars) == 3 * len(calls)
    drawn = np.array([(left, left + width) for left, width, _ in bars]).reshape(3, len(calls), 2)
    assert np.allclose(drawn[:, :, 0] * 1e3, times.start[:3]) and np.allclose(drawn[:, :, 1] * 1e3, times.end[:3])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert any("latency" in text for text in texts) and any("an image every" in text for text in texts)


def test_turns_are_marked(in_turns):
    figure = draw_pipeline(in_turns)
    texts = [text.get_text().strip() for text in figure.axes[0].texts]
    assert "turn 1" in texts and "turn 2" in texts
    assert not any("an image every" in text for text in texts)


def test_very_many_calls_are_drawn_by_matrix(lossless):
    times = lossless.cost.timeline
    many = replace(times, start=np.tile(times.start, 10), end=np.tile(times.end, 10))
    cost = replace(lossless.cost, timeline=many, calls=lossless.cost.calls * 10)
    assert names_of(draw_pipeline(Simulation(cost, lossless.run))) == list(lossless.cost.calls)
    cost = replace(lossless.cost, timeline=replace(times, start=np.tile(times.start, 2), end=np.tile(times.end, 2)))
    figure = draw_pipeline(Simulation(replace(cost, calls=lossless.cost.calls * 2), lossless.run))
    assert names_of(figure)[0] == "conv1, call 1"


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_they_can_be_written(lossless, tmp_path, suffix):
    for name, figure in (("energy", draw_energy([lossless])), ("pipeline", draw_pipeline(lossless))):
        path = tmp_path / f"{name}.{suffix}"
        figure.savefig(path)
        assert path.stat().st_size > 4000
