"""`bale simulate --chip smartdeal` counts on an array of MACs, and refuses what means nothing there."""

import json

import pytest

from bale.compress import SmartDealConfig, compress_, save_packed
from bale.models import LeNet5

FAST = ("--data", "digits", "--chip", "smartdeal", "--samples", 2, "--threads", 1)


@pytest.fixture
def simulate(bale):
    def run(*arguments, exit_code=0):
        result = bale("simulate", *arguments, *FAST)
        assert result.exit_code == exit_code, result.output
        return result

    return run


def words(text):
    return " ".join(text.split())


def test_dense_weights_are_compared_with_uniform_ones(simulate) -> None:
    text = words(simulate("lenet5", "--epochs", 0).stdout)
    assert "dense uniform, 4 bits" in text
    assert "decomposed none; `bale compress MODEL --method smartdeal` writes a .bale" in text
    assert "WARNING lenet5 has random weights" in text


def test_a_packed_file_shows_what_it_has_decomposed(simulate, tmp_path) -> None:
    path = tmp_path / "lenet5-smartdeal.bale"
    model = LeNet5(size=28)
    compress_(model, SmartDealConfig(), lambda module, name: name != "conv1")
    save_packed(model, path)
    plain = json.loads(simulate("lenet5", "--weights", path, "--json", "-").stdout)
    assert list(plain["forms"]) == ["dense", "uniform", "decomposed"]
    decomposed = plain["forms"]["decomposed"]
    assert [layer["form"] for layer in decomposed["layers"]] == ["dense", *["decomposed"] * 4]
    assert decomposed["weight_bits"] == pytest.approx(plain["forms"]["uniform"]["weight_bits"])
    assert "SmartDeal" in plain["training"]
    assert plain["weights"] == {"file": str(path), "decomposed": ["conv2", "fc1", "fc2", "fc3"]}
    assert plain["data"]["samples"] == 2


def test_several_networks_are_a_list(simulate, tmp_path) -> None:
    path = tmp_path / "report.json"
    text = simulate("lenet5", "lstm", "--epochs", 0, "--json", path).stdout
    assert [report["model"] for report in json.loads(path.read_text())] == ["lenet5", "lstm"]
    assert "lstm.weight_" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--noise", "read=0.1"], "--noise means nothing to smartdeal, an array of MACs of 8 bits; leave it out"),
        (["--crossbars", 3], "--crossbars means nothing to smartdeal"),
        (["--no-copies"], "--no-copies means nothing to smartdeal"),
        (["--every-conversion"], "--every-conversion means nothing to smartdeal"),
        (["--weight-bits", 4], "--weight-bits means nothing to smartdeal"),
        (["--chip", "isaac_ce"], "--chip smartdeal is an array of MACs, not of crossbars; give it by itself"),
        (["lstm", "--weights", "none.bale"], "--weights is for one network, got 2: lenet5, lstm"),
        (["--weights", "none.bale"], "none.bale: no such file"),
        (["--epochs", -1], "--epochs must be at least 0"),
    ],
)
def test_what_cannot_be_is_one_line(simulate, options, message) -> None:
    result = simulate("lenet5", *options, exit_code=2)
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith(f"error: {message}")
