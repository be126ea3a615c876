"""What a person reads: every layer and component, shares, warnings; nothing cut off at 80 columns."""

import re
from dataclasses import replace

import pytest
from rich.console import Console

from bale.hardware import CONSTANTS, PRESETS, Simulation, load_chip, simulate
from bale.report import chip_summary, chip_table, constants_table, simulation_table
from bale.report.hardware_texts import simulation_labels
from bale.report.quantities import ENERGY, TIME, column, digits, percent, quantity, unit_for


def printed(renderable, width=100):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def words(text):
    return " ".join(text.split())


def rows_of(text, name):
    """The cells of the first row that begins with a name."""
    line = next(line for line in text.splitlines() if line.startswith(name))
    return line.removeprefix(name).split()


def test_every_layer_and_component_is_there(lossless):
    text = printed(simulation_table([lossless]))
    for layer in lossless.cost.layers:
        assert re.search(rf"^{layer.name} +{layer.rows} x {layer.outputs} ", text, re.MULTILINE)
    for unit in lossless.cost.energy.by_unit():
        assert re.search(rf"^{re.escape(unit)} ", text, re.MULTILINE)
    assert quantity(lossless.cost.energy.total_pj, ENERGY) in text
    assert f"latency {quantity(lossless.cost.latency_ns, TIME)}" in text
    assert "WARNING" not in text
    assert "an integer product stood in" in words(text)


def test_shares_of_components_are_those_of_the_total(lossless):
    text = printed(simulation_table([lossless]))
    by_unit, total = lossless.cost.energy.by_unit(), lossless.cost.energy.total_pj
    table = text[text.index("energy of a sample by component") :]
    for unit, energy in by_unit.items():
        assert percent(energy, total) in rows_of(table, unit)
    assert rows_of(table, "all").count("100%") == 2


def test_clipping_is_seen(clipped):
    text = printed(simulation_table([clipped]))
    assert text.count("WARNING") >= 2
    assert "bits would be lossless" in words(text)
    assert "Every conversion was made." in text
    assert "all are the quantised network's integers" not in text


def test_converters_of_unlike_bits_are_shown_by_matrix(network, images):
    unlike = simulate(network, "isaac_ce", images.pixels(), images.labels, adc_bits={"fc1": 4}, images=1)
    text = printed(simulation_table([unlike]))
    table = text[text.index("bits that lose nothing, and what the chip's 4 to 8 did") :]
    assert (rows_of(table, "fc1")[2], rows_of(table, "fc2")[2]) == ("4", "8")
    assert "beyond the ADC's 4 bits and were clipped" in words(text)
    assert rows_of(printed(simulation_table([unlike, unlike])), "ADC bits")[:3] == ["4", "to", "8"]


def test_facts_and_warnings_of_the_caller(lossless):
    text = printed(simulation_table([lossless], [("data", "[some] data")], ["[red]beware[/red]"]))
    assert "[some] data" in text and "[red]beware[/red]" in text  # no markup: a path may have brackets


def test_trials_have_a_spread(noisy):
    text = words(printed(simulation_table([noisy])))
    assert f"{noisy.run.accuracy:.1%} +- {noisy.run.spread:.1%} (2 trials) on the chip" in text
    assert "variation=0.2" in text and "2 trials from seed 0" in text


def test_turns_are_shown(in_turns):
    text = printed(simulation_table([in_turns]))
    assert "in 2 turns" in words(text)
    assert rows_of(text, "lstm.weight_hh_l0")[-1] == "2"


def test_what_has_no_unit_is_left_out(bare_chip, network, images):
    text = words(printed(simulation_table([simulate(network, bare_chip, images.pixels())])))
    assert "digital operations without a unit on the chip: max_pool2d (2 calls" in text
    assert "events that no unit of the chip pays for: activation, pool" in text


def test_side_by_side(lossless, clipped, noisy):
    text = printed(simulation_table([lossless, clipped, noisy]))
    table = text[text.index("accuracy, floating point") :]
    assert rows_of(table, "ADC bits") == ["8", "4", "8"]
    totals = [each.cost.energy.total_pj for each in (lossless, clipped, noisy)]
    size, unit = unit_for(totals, ENERGY)
    assert rows_of(table, f"{unit} a sample, events") == column(totals, size)
    assert "WARNING  isaac_adc(4): " in text and "WARNING  isaac_ce" not in text


def test_columns_go_below_one_another_where_there_is_no_room(lossless):
    many = [Simulation(replace(lossless.cost, model=f"network{k}"), lossless.run) for k in range(9)]
    text = printed(simulation_table(many), 80)
    assert text.count("accuracy, quantised") > 1
    for k in range(9):
        assert text.count(f"network{k}") == 1


@pytest.mark.parametrize("width", [80, 100, 200])
def test_nothing_is_cut_off(lossless, clipped, noisy, in_turns, width):
    for simulations in ([lossless], [clipped], [noisy], [in_turns], [lossless, clipped, noisy]):
        text = printed(simulation_table(simulations), width)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
    for name in ("isaac_ce", "small_tiles"):
        assert "…" not in printed(chip_table(load_chip(name)), width)


def test_labels_tell_simulations_apart(lossless, clipped):
    other = Simulation(replace(lossless.cost, model="Other"), lossless.run)
    assert simulation_labels([lossless]) == ["LeNet5"]
    assert simulation_labels([lossless, clipped]) == ["isaac_ce", "isaac_adc(4)"]
    assert simulation_labels([lossless, other]) == ["LeNet5", "Other"]
    assert simulation_labels([lossless, clipped, other]) == [
        "LeNet5, isaac_ce",
        "LeNet5, isaac_adc(4)",
        "Other, isaac_ce",
    ]
    assert simulation_labels([lossless, lossless]) == ["LeNet5 (1)", "LeNet5 (2)"]


def test_a_chip_reads_as_its_table_says():
    text = printed(chip_table(load_chip("isaac_ce")))
    assert "65.8 W by the units' power (ADC 49.0%)" in text
    assert "41.3 TOPS" in text and "85.4 mm2" in text and "0.737 MiB/mm2" in text
    assert "ISAAC-CE (Shafiee et al., ISCA 2016) [published]" in text
    assert chip_summary(load_chip("isaac_ce")) == "a chip of 16,128 crossbars, 65.8 W, 85.4 mm2"


def test_a_chip_says_what_none_of_its_units_pays_for(bare_chip):
    assert "no unit pays for activation, pool" in printed(chip_table(bare_chip))


def test_every_constant_has_its_source():
    text = printed(constants_table(), 200)
    for constant in CONSTANTS:
        assert [constant.unit, constant.mark] == rows_of(text, f"{constant.name} ")[1:3]
    assert PRESETS


@pytest.mark.parametrize("value", [0, 1e-9, 0.00996, 0.9996, 9.999, 99.96, 999.6, 12345, 1e9])
def test_digits_are_close(value):
    assert float(digits(value).replace(",", "")) == pytest.approx(value, rel=0.005)


def test_a_column_has_one_number_of_decimals():
    assert column([1.0, 20.0, 99.0], 1) == ["1.000", "20.000", "99.000"]
    assert column([0.5, 250.0], 1) == ["0.5", "250.0"]
    assert column([], 1) == []
