"""`bale simulate` trains or loads networks, runs them on chips, and says in one line what is wrong with its input."""

import importlib
import json

import pytest
import torch
from safetensors.torch import load_file

from bale.cli import networks
from bale.compress import BlockCirculantConfig, UniformQuantConfig, bake_, compress_, save_packed
from bale.data import digits, image_data
from bale.errors import CheckpointError
from bale.models import LeNet5
from bale.train import build_classifier, load_weights

command = importlib.import_module("bale.cli.simulate")  # the command has its name

OWN = """
import torch
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 10))

model = make()

class NoMatrix(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]

class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(784, 10))
        self.fc = nn.Linear(10, 10)
    def forward(self, x):
        return self.fc(x.flatten(1) @ self.weight)

class Colour(nn.Module):
    def forward(self, x):
        raise ValueError("expected images\\nof three channels")

number = 3
"""
FAST = ("--data", "digits", "--epochs", 0, "--samples", 4, "--threads", 1)


@pytest.fixture
def own(tmp_path):
    """A file with networks of the user's own."""
    path = tmp_path / "nets.py"
    path.write_text(OWN)
    return path


@pytest.fixture
def simulate(bale):
    def run(*arguments):
        return bale("simulate", *arguments, *FAST)

    return run


@pytest.fixture
def fails(bale):
    """Assert that a command fails as it should; return the line."""

    def run(*arguments, fast=FAST):
        result = bale("simulate", *arguments, *fast)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        return line

    return run


def words(text):
    return " ".join(text.split())


def test_a_report_on_stdout_and_progress_on_stderr(simulate):
    result = simulate("lenet5")
    assert result.exit_code == 0
    assert "lenet5: 5 matrices on crossbars" in result.stdout and "isaac_ce: 16,128 crossbars" in result.stdout
    assert "random weights: its accuracy means nothing" in words(result.stdout)
    assert "lenet5 on isaac_ce: sample 4/4" in result.stderr and "sample" not in result.stdout.splitlines()[-1]


def test_json_on_stdout_is_all_there_is(simulate):
    report = json.loads(simulate("lenet5", "--json", "-").stdout)
    assert (report["model"], report["chip"]["name"]) == ("lenet5", "isaac_ce")
    assert report["data"] == {"name": "digits", "calibration": 64}
    assert report["weights"] == {"epochs": 0, "random": True}
    assert report["run"]["samples"] == 4


def test_training_is_reported(bale):
    result = bale("simulate", "lenet5", "--data", "digits", "--epochs", 1, "--samples", 4)
    assert "trained here for 1 epoch on 1,437 images" in words(result.stdout)
    assert "training lenet5: step 1/23  loss" in result.stderr
    assert "random" not in result.stdout


def test_weights_are_saved_and_loaded(bale, tmp_path):
    path = tmp_path / "weights.safetensors"
    options = ("--data", "digits", "--samples", 30, "--json", "-")
    first = bale("simulate", "lenet5", "--epochs", 1, "--save", path, *options)
    again = bale("simulate", "lenet5", "--weights", path, *options)
    first, again = json.loads(first.stdout), json.loads(again.stdout)
    assert again["weights"] == {"file": str(path)}
    assert first["run"] == again["run"] and first["energy_pj"] == again["energy_pj"]
    torch.save(load_file(path), tmp_path / "weights.pt")
    third = bale("simulate", "lenet5", "--weights", tmp_path / "weights.pt", *options)
    assert json.loads(third.stdout)["run"] == first["run"]
    result = bale("simulate", "lenet5", "--save", path, *FAST)
    assert result.exit_code == 2 and "exists already" in result.stderr


@pytest.mark.parametrize(("given", "bound"), [("exact", "exact"), ("a-priori", "a_priori"), ("7", None)])
def test_converters_of_other_bits(simulate, tmp_path, given, bound):
    path = tmp_path / "report.json"
    simulate("lenet5", "--adc-bits", given, "--json", path)
    for layer in json.loads(path.read_text())["layers"]:
        bits = layer["adc_bits"]
        assert bits["chip"] == (max(bits[bound], 4) if bound else 7)


def test_converters_of_bits_that_are_none(fails):
    assert "--adc-bits: expected a number, exact or a-priori, got 'few'" in fails("lenet5", "--adc-bits", "few")
    assert "law saberi has figures for 4 to 10 bits, got 3" in fails("lenet5", "--adc-bits", "3")


def test_several_networks_and_chips_side_by_side(simulate, tmp_path):
    path = tmp_path / "report.json"
    result = simulate("lenet5", "lstm", "--chip", "isaac_ce", "--chip", "isaac_adc(4)", "--json", path)
    assert result.exit_code == 0
    reports = json.loads(path.read_text())
    assert [(report["model"], report["chip"]["name"]) for report in reports] == [
        ("lenet5", "isaac_ce"),
        ("lenet5", "isaac_adc(4)"),
        ("lstm", "isaac_ce"),
        ("lstm", "isaac_adc(4)"),
    ]
    assert "WARNING  lenet5, isaac_adc(4):" in result.stdout


def test_four_bits_are_warned_of(simulate):
    result = simulate("lenet5", "--chip", "isaac_adc:4", "--every-conversion")
    text = words(result.stdout)
    assert "beyond the ADC's 4 bits and were clipped" in text and "8 bits would be lossless" in text


def test_options_reach_the_simulation(simulate):
    options = ("--weight-bits", 4, "--input-bits", 5, "--noise", "variation=0.1", "--trials", 2, "--seed", 3)
    report = json.loads(simulate("resnet20", "--width", 2, "--no-copies", *options, "--json", "-").stdout)
    assert (report["chip"]["weight_bits"], report["chip"]["input_bits"]) == (4, 5)
    assert (report["run"]["trials"], report["run"]["seed"], report["run"]["noise"]["variation"]) == (2, 3, 0.1)
    assert {layer["copies"] for layer in report["layers"]} == {1}
    assert report["layers"][0]["outputs"] == 2


def test_turns_where_there_is_no_room(simulate, fails):
    assert "--multiplex" in fails("lenet5", "--crossbars", 32)
    report = json.loads(simulate("lenet5", "--crossbars", 32, "--multiplex", "--json", "-").stdout)
    assert report["turns"] > 1 and report["crossbars"] <= 32


def test_networks_of_the_users_own(simulate, own, tmp_path, monkeypatch):
    for name in ("make", "model"):
        result = simulate(f"{own}:{name}")
        assert result.exit_code == 0
        assert f"nets.py:{name}: 2 matrices on crossbars" in words(result.stdout)
        assert f"weights as nets.py:{name} made them" in words(result.stdout)
        assert "accuracy means nothing" not in words(result.stdout)
    monkeypatch.chdir(tmp_path)
    assert json.loads(simulate("nets:make", "--json", "-").stdout)["model"] == "nets:make"


def test_products_that_stay_digital(simulate, fails, own):
    assert "products that are on no crossbar" in words(simulate(f"{own}:Product").stdout)
    assert "Product: calls matmul" in fails(f"{own}:Product", "--strict")


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_pictures(simulate, tmp_path, suffix):
    energy, pipeline = tmp_path / f"energy.{suffix}", tmp_path / f"pipeline.{suffix}"
    assert simulate("lenet5", "--energy-picture", energy, "--pipeline-picture", pipeline).exit_code == 0
    for path in (energy, pipeline):
        assert path.read_bytes().startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["lenet6"], "lenet6: unknown; known are lenet5, vgg8, resnet20, lstm, FILE.py:NAME"),
        (["lenet5", "--chip", "isaac"], "isaac: neither a file nor a preset; presets are isaac_ce"),
        (["lenet5", "--chip", "isaac_adc(12)"], "adc.bits: the law saberi has figures for 4 to 10 bits, got 12"),
        (["lenet5", "--energy-picture", "energy.gif"], "energy.gif: expected a name that ends in .svg, .png, .pdf"),
        (["lenet5", "--pipeline-picture", "/no/such/a.png"], "/no/such/a.png: cannot be written"),
        (["lenet5", "lstm", "--pipeline-picture", "a.png"], "--pipeline-picture draws one network on one chip"),
        (["lenet5", "--json", "/no/such/a.json"], "/no/such/a.json: cannot be written; --json expects - or a file"),
        (["lenet5", "--save", "a.pt"], "a.pt: expected a name that ends in .safetensors"),
        (["lenet5", "lstm", "--save", "a.safetensors"], "--save is for one network, got 2: lenet5, lstm"),
        (["lenet5", "lenet5"], "a network stands there twice"),
        (["lenet5", "--width", 8], "lenet5: has no width to choose; vgg8 and resnet20 have"),
        (["vgg8", "--width", 0], "vgg8: width must be at least 1, got 0"),
        (["lenet5", "--noise", "heat=1"], "noise: expected each of variation, stuck_off, stuck_on, read"),
        (["lenet5", "--noise", "variation=-1"], "noise.variation: must be from 0"),
        (["lenet5", "--trials", 0], "--trials must be at least 1, got 0"),
        (["lenet5", "--samples", 0], "--samples must be at least 1, got 0"),
        (["lenet5", "--samples", 5000], "digits: has 360 images, and 5000 of them were asked for"),
        (["lenet5", "--epochs", -1], "--epochs must be at least 0, got -1"),
        (["lenet5", "--threads", 0], "--threads must be at least 1, got 0"),
        (["lenet5", "--weight-bits", 1], "weight_bits: must be 2 to 16, got 1"),
        (["lenet5", "--duplicates", 2], "--duplicates says how often circulant blocks are stored; give --circulant"),
        (
            ["lenet5", "--circulant", 8, "--epochs", 1],
            "--circulant needs circulant weights, and training here makes",
        ),
        (["lenet5", "--circulant", 8], "circulant: no matrix is of circulant blocks of 8; compress the network with"),
        (["lenet5", "--circulant", 1], "circulant: block: must be at least 2, got 1"),
        (["lenet5", "--crossbars", 0], "crossbars: must be 1 to 16,128, which isaac_ce has; got 0"),
        (["lenet5", "--data", "cifar"], "images 'cifar' are unknown; known are fashion-mnist, digits, and idx:FOLDER"),
        (["lenet5", "--data", "idx:/no/such"], "/no/such: has no train-images-idx3-ubyte"),
        (["no.such.module:make"], "no.such.module:make: no module no here"),
        (["/no/such/nets.py:make"], "/no/such/nets.py:make: no such file /no/such/nets.py"),
    ],
)
def test_wrong_options(fails, arguments, problem):
    left = {str(argument) for argument in arguments}
    pairs = zip(FAST[::2], FAST[1::2], strict=True)
    fast = [part for name, value in pairs if name not in left for part in (name, value)]
    assert problem in fails(*arguments, fast=fast)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("base: isaac_ce\nadc:\n  bits: 0\n", "chip.yaml:3: adc.bits: must be 1 to 32, got 0"),
        ("base: isaac_ce\ntils: 3\n", "chip.yaml:2: tils: no such field; did you mean tiles?"),
        ("base: isaac_ce\ntiles: many\n", "chip.yaml:2: tiles: expected a whole number, got 'many'"),
    ],
)
def test_files_of_chips_that_are_wrong(fails, tmp_path, text, problem):
    (tmp_path / "chip.yaml").write_text(text)
    assert problem in fails("lenet5", "--chip", tmp_path / "chip.yaml")


def test_chips_of_one_name_are_told_apart(simulate, tmp_path):
    (tmp_path / "few.yaml").write_text("base: isaac_ce\ntiles: 20\n")
    result = simulate("lenet5", "--chip", "isaac_ce", "--chip", tmp_path / "few.yaml", "--json", "-")
    names = [report["chip"]["name"] for report in json.loads(result.stdout)]
    assert names == ["isaac_ce", str(tmp_path / "few.yaml")]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("NoMatrix", "NoMatrix: nothing of it is a matrix for crossbars"),
        ("Colour", "fails on images [2, 1, 28, 28] of digits: expected images of three channels"),
        ("number", "is a int; expected a module, or a function that returns one"),
        ("nothing", "has no nothing; there are make"),
    ],
)
def test_networks_of_the_users_own_that_are_none(fails, own, name, problem):
    assert problem in fails(f"{own}:{name}")


def test_what_the_users_own_file_raises_is_not_hidden(simulate, own):
    own.write_text("1 / 0")
    assert isinstance(simulate(f"{own}:make").exception, ZeroDivisionError)


def test_weights_that_are_not_the_networks(fails, bale, tmp_path):
    def loading(content, name="weights.pt"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        fast = ("--data", "digits", "--samples", 4)
        line = fails("lenet5", "--weights", path, fast=fast)
        assert str(path) in line
        return line

    right = LeNet5().state_dict()
    assert "has no conv1.weight, conv1.bias" in loading({})
    assert "has head.weight, that the network has not" in loading({**right, "head.weight": torch.ones(1)})
    wide = {**right, "fc3.bias": torch.ones(11)}
    assert "fc3.bias is [11]; the network's is [10]" in loading(wide)
    nan = {**right, "fc2.weight": right["fc2.weight"].clone().fill_(float("nan"))}
    assert "fc2.weight has numbers that are NaN or infinite" in loading(nan)
    assert "holds no state_dict" in loading([1, 2])
    assert "is damaged" in loading(b"nonsense")
    assert "is damaged" in loading(b"nonsense", "weights.safetensors")
    assert "is damaged" in loading(LeNet5())  # a pickled module, which is code
    assert "is no packed model" in loading(b"nonsense", "weights.bale")
    missing = fails("lenet5", "--weights", tmp_path / "none.pt", fast=("--data", "digits"))
    assert "none.pt: no such file" in missing
    assert "expected a name that ends in .safetensors, .pt, .pth, .bale" in fails("lenet5", "--weights", "weights.bin")
    both = fails("lenet5", "--weights", tmp_path / "weights.pt")
    assert "give one of them" in both


def test_a_packed_file_has_weights_as_any_other(tmp_path):
    model, other = LeNet5(), LeNet5()
    before = {key: tensor.clone() for key, tensor in other.state_dict().items()}
    with torch.no_grad():
        model.fc1.bias[0] = float("nan")
    save_packed(model, tmp_path / "nan.bale")
    with pytest.raises(CheckpointError, match=r"nan\.bale: fc1\.bias has numbers that are NaN or infinite"):
        load_weights(other, tmp_path / "nan.bale")
    assert all(torch.equal(tensor, before[key]) for key, tensor in other.state_dict().items())
    model = LeNet5()
    compress_(model, UniformQuantConfig(4))
    save_packed(model, tmp_path / "small.bale")
    load_weights(other, tmp_path / "small.bale")
    assert all(torch.equal(tensor, bake_(model).state_dict()[key]) for key, tensor in other.state_dict().items())


def test_circulant_blocks_are_stored_once(bale, tmp_path):
    torch.manual_seed(0)
    model = build_classifier("lenet5", image_data("digits")[0], width=None, seed=0)
    compress_(model, BlockCirculantConfig(4))
    save_packed(model, tmp_path / "circulant.bale")
    fast = ("--data", "digits", "--samples", 4, "--threads", 1, "--weights", tmp_path / "circulant.bale")
    result = bale("simulate", "lenet5", *fast, "--circulant", 4, "--duplicates", 2, "--no-copies", "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    layers = {layer["name"]: (layer["block"], layer["duplicates"]) for layer in report["layers"]}
    assert layers["conv1"] == (1, 1) and layers["fc1"] == (4, 2)
    assert report["run"]["exact"] and report["run"]["agreement"] == 1
    table = bale("simulate", "lenet5", *fast, "--circulant", 4)
    assert "circulant" in table.stdout and table.exit_code == 0, table.output


def test_a_failed_load_leaves_the_network_as_it_was(tmp_path):
    model = LeNet5()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.save({key: tensor + 1 for key, tensor in list(before.items())[:-1]}, tmp_path / "some.pt")
    with pytest.raises(CheckpointError, match=r"has no fc3\.bias"):
        load_weights(model, tmp_path / "some.pt")
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_without_fashion_mnist_there_are_digits(bale, monkeypatch):
    monkeypatch.setattr(networks, "default_image_data", lambda: "digits")
    result = bale("simulate", "lenet5", "--epochs", 0, "--samples", 4)
    assert result.exit_code == 0
    assert "data: digits (Fashion-MNIST is not installed; --download fetches it)" in result.stderr
    assert "Fashion-MNIST is not installed" in words(result.stdout)


def test_few_images_are_seen_more_often(bale, monkeypatch):
    train, test = digits("train").take(64), digits("test").take(8)
    monkeypatch.setattr(networks, "image_data", lambda name, download: (train, test))
    report = json.loads(bale("simulate", "lenet5", "--data", "digits", "--json", "-").stdout)
    assert report["weights"]["epochs"] == 30 and report["run"]["samples"] == 8


@pytest.mark.parametrize("step", ["train_images", "run_on_chip"])
def test_ctrl_c(bale, monkeypatch, step):
    def press(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(networks if step == "train_images" else command, step, press)
    result = bale("simulate", "lenet5", "--data", "digits", "--epochs", 1 if step == "train_images" else 0)
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n" and result.stdout == ""
