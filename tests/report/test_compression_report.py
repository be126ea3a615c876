"""A compression's report says what was done, what came of it and whether that was wanted, and its bytes add up."""

import copy
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from bale.compress import ADCAwareConfig, BlockCirculantConfig, MagnitudeConfig, StructuredConfig, compress_
from bale.models import LeNet5
from bale.report import CompressionResult, compression_dict, compression_table
from bale.report.compression import method_text
from bale.train import PackedFile, Setting, Target, Try


@pytest.fixture(scope="module")
def lenet():
    torch.manual_seed(0)
    return LeNet5(size=16)


@pytest.fixture(scope="module")
def adc(lenet):
    config = ADCAwareConfig(4)
    return result_of(compress_(copy.deepcopy(lenet), config))


def result_of(report, target=None, tries=()):
    file = PackedFile(Path("lenet5.bale"), report.packed_bytes, 0.9, True)
    return CompressionResult("lenet5", report, 0.925, 400, file, target, tries)


def shown(result, width=80, **options):
    file = StringIO()
    Console(width=width, file=file).print(compression_table(result, **options))
    return file.getvalue()


def words(text):
    return " ".join(text.split())


def rows_of(text, first):
    return next(line.split() for line in text.splitlines() if line.split() and line.split()[0] == first)


def test_facts_of_a_result(adc):
    text = words(shown(adc, facts=[("data", "digits")], warnings=["beware"]))
    assert "model lenet5 data digits compressed adc-aware: adc_bits 4, rows 128" in text
    ratio = adc.report.dense_bytes / adc.file.size
    size = f"{adc.report.parameters:,} parameters, {adc.report.dense_bytes:,} bytes; {adc.file.size:,} packed"
    assert f"{size}: {ratio:.1f} times less" in text
    assert "92.50% before, 90.00% by the packed file: 2.50 points less, of 400 images of the test" in text
    assert "file lenet5.bale" in text and "WARNING beware" in text
    assert "target" not in text and "tried" not in text


@pytest.mark.parametrize(("after", "words_of_it"), [(0.925, "no difference"), (0.93, "0.50 points more")])
def test_accuracy_may_rise(adc, after, words_of_it):
    assert words_of_it in words(shown(replace(adc, file=replace(adc.file, accuracy=after))))


def test_bytes_and_parameters_add_up(adc):
    text = shown(adc, 120)
    table = text[text.index("weights as they are stored") : text.index("ratio: to 4 bytes")]
    lines = [line.split() for line in table.splitlines()[3:] if line.strip()]
    cells = {line[0]: [cell.replace(",", "") for cell in line] for line in lines}
    numbers = {name: [int(cell) for cell in line if cell.isdigit()] for name, line in cells.items()}
    weights = [numbers[row.name] for row in adc.report.weights]
    rest, everything = numbers["the"], numbers["all"]
    assert sum(row[0] for row in weights) + rest[0] == everything[0] == adc.report.parameters
    assert sum(row[3] for row in weights) + rest[1] == everything[1] == adc.file.size


def test_what_a_method_adds_has_columns_of_its_own(adc):
    text = shown(adc)
    facts = text[text.index("what the methods say") :]
    for row in adc.report.weights:
        values = [row.facts[name] for name in ("nonzeros", "adc_bits", "adc_bits_exact")]
        assert rows_of(facts, row.name) == [row.name, *(f"{value:g}" for value in values)]
    magnitude = result_of(compress_(LeNet5(size=16), MagnitudeConfig()))
    assert "what the methods say" not in shown(magnitude)


def test_layers_that_were_left_say_why(lenet):
    report = compress_(copy.deepcopy(lenet), BlockCirculantConfig(4))
    text = shown(result_of(report))
    assert report.skipped
    for name, why in report.skipped.items():
        assert f"{name}: {why}" in words(text)


def test_narrower_layers_have_no_error(lenet):
    text = shown(result_of(compress_(copy.deepcopy(lenet), StructuredConfig(0.5))))
    assert rows_of(text, "fc1")[-1] == "-"


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_console(width):
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 256, 3), nn.ReLU(), nn.Conv2d(256, 512, 3))
    lines = shown(result_of(compress_(wide, MagnitudeConfig(0.5, scope="layer"))), width).splitlines()
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if "512x256x3x3" in line)
    assert "1.18M" in row and "50.0%" in row


TARGETS = [
    (Target("ratio", 2), True, "times fewer bytes"),
    (Target("ratio", 100), False, "times fewer bytes"),
    (Target("accuracy", 0.9), True, "90.00%, and 90.00% was wanted"),
    (Target("accuracy", -0.025), True, "90.00%, and 90.00% was wanted"),
    (Target("accuracy", -0.02), False, "90.00%, and 90.50% was wanted"),
    (Target("adc_bits", 4), True, "4 bits a priori hold every column's sum"),
    (Target("adc_bits", 3), False, "4 bits a priori hold every column's sum"),
]


@pytest.mark.parametrize(("target", "met", "reached"), TARGETS)
def test_targets_are_looked_at(adc, target, met, reached):
    result = replace(adc, target=target)
    text = words(shown(result))
    assert result.met is met
    assert f"target {target}: {'met' if met else 'NOT met'}, " in text and reached in text
    assert ("WARNING" in text) is not met
    assert compression_dict(result)["target"] == {"kind": target.kind, "value": target.value, "met": met}


def test_bits_of_a_converter_that_no_method_cares_for(lenet):
    result = result_of(compress_(copy.deepcopy(lenet), MagnitudeConfig()), Target("adc_bits", 8))
    assert result.adc_bits is None and result.met is False


def test_a_file_that_differs_is_warned_of(adc):
    result = replace(adc, file=replace(adc.file, same=False))
    assert "another accuracy than the one that was read back" in words(shown(result))
    assert compression_dict(adc)["warnings"] == []
    (line,) = compression_dict(result)["warnings"]
    assert line.startswith("the network that was written")


def test_tries_are_told(adc):
    tries = [
        Try(Setting((ADCAwareConfig(3),), 100), 0.8, False),
        Try(Setting((StructuredConfig(0.7), ADCAwareConfig(4)), 200), 0.9, True),
    ]
    result = replace(adc, target=Target("accuracy", 0.85), tries=tries)
    text = words(shown(result))
    assert "tried adc-aware adc_bits 3: 80.00%, too little adc-aware adc_bits 4: 90.00%, enough" in text
    assert "enough (chosen by the same images of the test as the accuracy below" in text
    assert "chosen by" not in words(shown(adc))
    assert (compression_dict(result)["chosen_by"], compression_dict(adc)["chosen_by"]) == ("test", None)
    first, second = compression_dict(result)["tries"]
    assert first["config"] == ADCAwareConfig(3).to_dict() and first["packed_bytes_before_training"] == 100
    assert (second["accuracy"], second["holds"]) == (0.9, True)


def test_a_dict_has_the_same_numbers(adc):
    there = json.loads(json.dumps(compression_dict(adc), allow_nan=False))
    assert there["model"] == "lenet5" and there["target"] is None and there["tries"] == []
    assert {name: there[name] for name in adc.report.to_dict()} == adc.report.to_dict()
    assert there["accuracy"] == {"before": 0.925, "after": 0.9, "drop": pytest.approx(0.025), "samples": 400}
    assert there["file"] == {"path": "lenet5.bale", "bytes": adc.file.size, "ratio": adc.ratio}


def test_methods_in_words():
    assert method_text(MagnitudeConfig(0.2, None)) == "magnitude: density 0.2, scope network"
    assert method_text(ADCAwareConfig(3)).startswith("adc-aware: adc_bits 3, rows 128, weight_bits 8")
