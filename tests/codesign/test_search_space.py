"""Chips of other crossbars are the presets', designs go to JSON and back, and branches hold what they must."""

import pytest
from optuna.samplers import RandomSampler
from optuna.study import create_study
from tests.codesign.search_made import small_network
from torch import nn

from bale.codesign.search import STACKS, Design, Space, Structure
from bale.codesign.search.study import _quiet
from bale.compress import ADCAwareConfig, BlockCirculantConfig, UniformQuantConfig, compress_, parse_config
from bale.errors import BaleError
from bale.hardware import Encoding, isaac_ce, small_tiles
from bale.hardware.presets import crossbar_of, ima_units


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (128, 128), (256, 128), (64, 256)])
def test_units_grow_as_those_of_the_presets(rows, columns):
    chip = Structure(rows, columns, 2, Encoding.OFFSET, 8, 8).of(isaac_ce())
    assert chip.crossbar == crossbar_of(rows, columns)
    expected = ima_units(8, rows, columns)
    got = [unit for unit in chip.units if unit.per == "ima"]
    assert [(unit.name, unit.count) for unit in got] == [(unit.name, unit.count) for unit in expected]
    for own, other in zip(got, expected, strict=True):
        assert own.power_mw == pytest.approx(other.power_mw) and own.area_mm2 == pytest.approx(other.area_mm2)
        assert own.energy_pj == other.energy_pj
    assert [unit for unit in chip.units if unit.per != "ima"] == [u for u in isaac_ce().units if u.per != "ima"]


def test_flip_goes_with_an_offset():
    of = {encoding: Structure(64, 64, 2, encoding, 8, 8).of(small_tiles()).flip for encoding in Encoding}
    assert of == {Encoding.OFFSET: True, Encoding.DIFFERENTIAL: False, Encoding.SIGN_MAGNITUDE: False}


def designs(space, many):
    with _quiet():
        study = create_study(sampler=RandomSampler(seed=0))
        return [space.suggest(study.ask(), isaac_ce()) for _ in range(many)]


def test_designs_are_chips_that_can_be_and_go_to_json_and_back():
    stacks = set()
    for design in designs(Space(), 60):
        stacks.add(tuple(type(config) for config in design.methods))
        chip = design.structure.of(isaac_ce())
        again = Design.from_dict(design.to_dict())
        assert again == design and again.key == design.key
        if design.methods:
            assert tuple(map(parse_config, design.methods_text.split(" + "))) == design.methods
        for config in design.methods:
            if isinstance(config, ADCAwareConfig):
                assert chip.encoding is not Encoding.OFFSET
                assert (config.rows, config.weight_bits) == (chip.crossbar.rows, chip.weight_bits)
                assert config.adc_bits >= 4  # where the law saberi begins
            if isinstance(config, UniformQuantConfig):
                assert config.bits == chip.weight_bits
    assert stacks == set(STACKS.values())


def test_stacks_that_fit_no_layer_are_left_out():
    assert Space().that_fits(small_network()).stacks == Space().stacks
    two = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.ReLU(), nn.Linear(2, 10))
    fitting = Space().that_fits(two).stacks
    assert not any("block-circulant" in name for name in fitting) and "structured + adc-aware" in fitting
    with pytest.raises(BaleError, match="stacks: none of block-circulant fits a layer of Sequential"):
        Space(stacks=("block-circulant",)).that_fits(two)
    compress_(small_network(), BlockCirculantConfig(4))


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"rows": ()}, "rows: a space needs at least one choice"),
        ({"stacks": ("magic",)}, "stacks: 'magic' is unknown"),
        ({"encodings": ("offset",)}, "encodings: ADC-aware pruning needs"),
    ],
)
def test_a_space_without_designs_is_told(choices, told):
    with pytest.raises(BaleError) as caught:
        Space(**choices)
    assert told in str(caught.value)


def test_the_first_design_is_the_dense_network_on_the_base():
    first = Space().first(isaac_ce())
    assert first["stack"] == "dense" and first["encoding"] == "offset" and first["rows"] == 128
    assert Space(rows=(64,)).first(isaac_ce()) is None
