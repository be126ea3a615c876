"""`bale compress` trains, compresses, trains again, writes one file that is read back, and goes on where it stopped."""

import importlib
import json
import signal

import pytest
import torch

from bale.cli import networks
from bale.compress import load_packed_, read_packed
from bale.data import digits
from bale.models import LeNet5
from bale.train import image_accuracy, save_weights

command = importlib.import_module("bale.cli.compress")  # the command has its name

OWN = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))

model = make()

class NoMatrix(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]
"""
FAST = ("--data", "digits", "--epochs", 0, "--retrain-epochs", 0, "--threads", 1)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Packed files go where the command is run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def few(monkeypatch):
    """Few images, so that there are few steps."""
    train, test = digits("train").take(128), digits("test").take(100)
    monkeypatch.setattr(networks, "image_data", lambda name, download: (train, test))
    return train, test


@pytest.fixture
def own(here):
    """A network of the user's own, whose training takes no time."""
    (here / "nets.py").write_text(OWN)
    return "nets.py:make"


@pytest.fixture
def compress(bale):
    def run(*arguments, fast=FAST):
        return bale("compress", *arguments, *fast)

    return run


@pytest.fixture
def fails(compress):
    """Assert that a command fails as it should; return the line."""

    def run(*arguments, fast=FAST):
        result = compress(*arguments, fast=fast)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        return line

    return run


def words(text):
    return " ".join(text.split())


def test_a_report_on_stdout_and_a_file_beside(compress, here):
    result = compress("--model", "lenet5")
    assert result.exit_code == 0 and result.stderr == ""
    text = words(result.stdout)
    assert (
        "compressed block-circulant: block 8, kernel auto" in text
        and "fc3: is " in text
        and "a filter_fn can choose it" in text
    )
    assert "file lenet5-block-circulant.bale" in text
    assert "random weights: its accuracy means nothing" in text
    assert f"{(here / 'lenet5-block-circulant.bale').stat().st_size:,} packed" in text


def test_training_before_and_afterwards(compress, few):
    fast = ("--data", "digits", "--epochs", 2, "--retrain-epochs", 3)
    result = compress("--model", "lenet5", "--method", "adc-aware", fast=fast)
    assert "trained here for 2 epochs on 128 images" in words(result.stdout)
    assert "trained again 3 epochs by Adam, lr 0.003, seed 0" in words(result.stdout)
    assert "training lenet5: step 1/4  loss" in result.stderr
    assert "lenet5 (adc-aware, pulled): step 1/2  loss" in result.stderr
    assert "lenet5 (adc-aware): step 4/4  loss" in result.stderr


def test_the_accuracy_is_that_of_the_file(compress, few, own, here):
    fast = ("--data", "digits", "--epochs", 6, "--retrain-epochs", 2, "--json", "-")
    result = compress("--model", own, "--method", "structured:keep=0.5", "--method", "adc-aware:adc_bits=3", fast=fast)
    report = json.loads(result.stdout)
    path = here / "nets.py-make-structured-adc-aware.bale"
    assert report["file"] == {"path": path.name, "bytes": path.stat().st_size, "ratio": report["ratio"]}
    assert report["packed_bytes"] == path.stat().st_size
    read = command.build_classifier(own, few[1])
    packed = load_packed_(read, path)
    assert image_accuracy(read, few[1]) == report["accuracy"]["after"]
    assert [config["method"] for config in packed.configs] == ["structured", "adc-aware"]
    assert report["weights"][0]["adc_bits"] <= 3
    assert report["retraining"]["epochs"] == 2 and report["data"] == {"name": "digits"}


def test_networks_that_a_module_holds_are_not_changed(compress, own):
    first = compress("--model", "nets:model", "--method", "uniform", "--json", "-")
    again = compress("--model", "nets:model", "--method", "uniform", "--json", "-", "--force")
    assert first.exit_code == 0 and first.stdout == again.stdout


def test_weights_are_loaded(compress, here, tmp_path):
    torch.manual_seed(7)
    model = LeNet5()
    save_weights(model, here / "lenet5.safetensors")
    fast = ("--data", "digits", "--retrain-epochs", 0, "--json", "-", "--packed", "net.bale")
    report = json.loads(
        compress("--model", "lenet5", "--weights", "lenet5.safetensors", "--method", "uniform", fast=fast).stdout
    )
    assert report["trained"] == {"file": "lenet5.safetensors"}
    read = LeNet5()
    load_packed_(read, here / "net.bale")
    assert float((read.fc1.weight - model.fc1.weight).detach().abs().max()) < 1e-3


def test_a_ratio(compress, own):
    report = json.loads(compress("--model", own, "--method", "uniform", "--target", "ratio=5", "--json", "-").stdout)
    assert report["configs"] == [{"method": "uniform", "bits": 4}]
    assert report["target"] == {"kind": "ratio", "value": 5.0, "met": True}
    assert report["file"]["ratio"] >= 5


def test_bits_of_a_converter(compress):
    result = compress("--model", "lenet5", "--method", "adc-aware:rows=64", "--target", "adc_bits=4", "--json", "-")
    report = json.loads(result.stdout)
    assert (report["configs"][0]["adc_bits"], report["configs"][0]["rows"]) == (4, 64)
    assert report["target"]["met"] and max(row["adc_bits"] for row in report["weights"]) == 4


def test_an_accuracy(compress, few, own):
    fast = ("--data", "digits", "--epochs", 6, "--retrain-epochs", 1)
    arguments = ("--model", own, "--method", "uniform", "--target", "accuracy=-5%")
    result = compress(*arguments, "--json", "report.json", fast=fast)
    with open("report.json") as file:
        report = json.load(file)
    tried = [(each["config"]["bits"], each["holds"]) for each in report["tries"]]
    assert report["configs"] == [{"method": "uniform", "bits": min(bits for bits, holds in tried if holds)}]
    assert report["target"]["met"] and report["accuracy"]["drop"] <= 0.05
    for number, (bits, _) in enumerate(tried, 1):
        assert f"try {number} of at most 3: uniform bits {bits} (uniform): step 1/2" in result.stderr
        assert f"uniform bits {bits}: " in result.stdout


def test_an_accuracy_that_nothing_keeps(compress, few, own, here):
    fast = ("--data", "digits", "--epochs", 1, "--retrain-epochs", 1)
    result = compress("--model", own, "--method", "uniform", "--target", "accuracy=100%", fast=fast)
    assert result.exit_code == 2 and result.stdout == ""
    assert "no setting keeps an accuracy of 100.00%; the best of 3 was" in result.stderr.splitlines()[-1]
    assert not list(here.glob("*.bale"))


def test_few_images_are_seen_more_often(compress, few, own):
    fast = ("--data", "digits", "--json", "-")
    report = json.loads(compress("--model", own, fast=fast).stdout)
    assert report["trained"]["epochs"] == 30 and report["retraining"]["epochs"] == 30


def test_files_are_not_replaced_unasked(compress, fails, own, here):
    (here / "net.bale").write_bytes(b"mine")
    assert "net.bale: exists already" in fails("--model", own, "--packed", "net.bale")
    assert (here / "net.bale").read_bytes() == b"mine"
    assert compress("--model", own, "--packed", "net.bale", "--force").exit_code == 0
    assert read_packed(here / "net.bale").configs[0]["method"] == "block-circulant"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--model", "lenet6"], "lenet6: unknown; known are lenet5, vgg8"),
        (["--model", "lenet5", "--width", 3], "lenet5: has no width to choose"),
        (["--model", "nets.py:NoMatrix"], "block-circulant: fits no layer of NoMatrix: it has no layers with weights"),
        (["--method", "prune"], "method: 'prune' is unknown; known are block-circulant, adc-aware"),
        (["--method", "uniform:bit=4"], "uniform.bit: no such field; there are bits"),
        (["--method", "uniform:bits=5"], "uniform.bits: must be one of 2, 3, 4, 8, got 5"),
        (["--method", "block-circulant:block=512"], "block-circulant: fits no layer of LeNet5"),
        (["--method", "uniform", "--method", "block-circulant"], "block-circulant: fits no layer of LeNet5"),
        (["--target", "small"], "target: 'small' is not understood; expected ratio=8"),
        (["--target", "ratio=0.5"], "target: ratio=0.5: expected more than 1"),
        (["--target", "ratio=999"], "target: ratio=999 is out of reach; block-circulant block 64 reaches"),
        (["--target", "accuracy=2"], "target: accuracy=2: expected above 0 and up to 1"),
        (["--target", "adc_bits=4"], "adc_bits is for adc-aware as the last method, which is block-circulant"),
        (["--method", "adc-aware", "--target", "adc_bits=1"], "adc-aware.adc_bits: 1 bits do not hold"),
        (["--method", "uniform:bits=4", "--target", "ratio=5"], "chooses bits, which --method uniform:bits=4 gives"),
        (["--method", "adc-aware:nonzeros=2", "--target", "ratio=5"], "adc-aware.nonzeros: is given"),
        (["--retrain-epochs", -1], "--retrain-epochs must be at least 0, got -1"),
        (["--epochs", -1], "--epochs must be at least 0, got -1"),
        (["--threads", 0], "--threads must be at least 1, got 0"),
        (["--seed", -1], "--seed must be at least 0, got -1"),
        (["--lr", 0], "--lr must be above 0 and finite, got 0.0"),
        (["--data", "cifar"], "images 'cifar' are unknown"),
        (["--weights", "none.pt", "--epochs", 1], "none.pt: no such file"),
        (["--weights", "nets.py"], "nets.py: expected a name that ends in .safetensors"),
        (["--packed", "/no/such/a.bale"], "/no/such/a.bale: cannot be written; --packed expects a file"),
        (["--packed", "."], ".: cannot be written"),
        (["--json", "/no/such/a.json"], "/no/such/a.json: cannot be written; --json expects - or a file"),
        (["--save", "nets.py"], "nets.py: cannot be written"),
    ],
)
def test_wrong_options(fails, own, monkeypatch, arguments, problem):
    for step in ("with_weights", "compress_and_train", "find_for_accuracy"):  # all that takes long
        monkeypatch.setattr(command, step, None)
    left = {str(argument) for argument in arguments}
    model = () if "--model" in left else ("--model", "lenet5")
    pairs = zip(FAST[::2], FAST[1::2], strict=True)
    fast = [part for name, value in pairs if name not in left for part in (name, value)]
    assert problem in fails(*model, *arguments, fast=fast)


def test_a_run_may_replace_its_own_file(compress, fails, own, here, monkeypatch):
    options = ("--model", own, "--method", "uniform", "--save", "run", "--packed", "net.bale")
    (here / "net.bale").write_bytes(b"mine")
    assert "net.bale: exists already" in fails(*options)  # nothing was written yet
    (here / "net.bale").unlink()

    def press(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "_print_report", press)
        assert compress(*options).exit_code == 130
    content = (here / "net.bale").read_bytes()
    first, again = compress(*options), compress(*options)
    assert first.exit_code == again.exit_code == 0 and first.stdout == again.stdout
    assert (here / "net.bale").read_bytes() == content
    assert "exists already" in fails(*options[:-4], "--packed", "net.bale")
    assert "exists already" in fails(*options[:-4], "--save", "other", "--packed", "net.bale")
    assert "--method is uniform:bits=8 there" in fails(*options, "--method", "magnitude:bits=none")
    assert (here / "net.bale").read_bytes() == content


def test_a_folder_that_was_stopped_before_its_file_has_none(compress, fails, own, here, monkeypatch):
    options = ("--model", own, "--save", "run", "--packed", "net.bale")

    def press(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "compress_and_train", press)
        assert compress(*options).exit_code == 130
    (here / "net.bale").write_bytes(b"mine")
    assert "net.bale: exists already" in fails(*options)


def test_a_folder_of_another_run(compress, fails, own):
    options = ("--model", own, "--method", "uniform", "--save", "run")
    assert compress(*options).exit_code == 0
    assert compress(*options, "--packed", "again.bale").exit_code == 0
    line = fails(*options[:2], "--method", "magnitude", "--save", "run")
    assert line == (
        "error: run: is of another run: --method is uniform:bits=8 there and "
        "magnitude:density=0.1,bits=8,scope=network here; use another folder"
    )
    line = fails(*options, "--target", "ratio=5", "--packed", "c.bale")
    assert "--target is not given there and ratio=5 here" in line
    line = fails(*options, "--seed", 1, "--packed", "c.bale")
    assert "--seed is 0 there and 1 here" in line
    with open("run/options.json", "w") as file:
        file.write("[]")
    assert "options.json: is damaged: it holds no options" in fails(*options, "--packed", "c.bale")


def test_other_weights_in_a_file_of_the_same_name_are_another_run(compress, fails, here):
    fast = ("--data", "digits", "--retrain-epochs", 0)
    options = ("--model", "lenet5", "--weights", "w.safetensors", "--method", "uniform", "--save", "run")
    save_weights(LeNet5(), here / "w.safetensors")
    assert compress(*options, fast=fast).exit_code == 0
    save_weights(LeNet5(), here / "w.safetensors")
    assert "--weights is w.safetensors (SHA-256" in fails(*options, "--packed", "b.bale", fast=fast)


def test_other_code_in_a_file_of_the_same_name_is_another_run(compress, fails, own, here):
    options = ("--model", own, "--method", "uniform", "--save", "run")
    assert compress(*options).exit_code == 0
    (here / "nets.py").write_text(OWN.replace("nn.ReLU()", "nn.Tanh()"))
    assert "--model is nets.py:make (SHA-256" in fails(*options)


@pytest.mark.parametrize("step", ["image_accuracy", "compress_and_train"])
def test_ctrl_c_says_how_to_go_on(compress, own, monkeypatch, step):
    def press(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, step, press)
    result = compress("--model", own)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "interrupted; with --save FOLDER it could go on later\n"
    result = compress("--model", own, "--save", "run")
    assert (result.exit_code, result.stderr) == (130, "interrupted; the same command goes on from run\n")


@pytest.fixture
def press(monkeypatch):
    """Let a real Ctrl-C come after so many steps of the next command."""
    steps = {"left": 0}
    show = networks.ImageProgress.on_step

    def on_step(progress, record):
        show(progress, record)
        steps["left"] -= 1
        if steps["left"] == 0:
            signal.raise_signal(signal.SIGINT)

    def after(many):
        steps["left"] = many

    monkeypatch.setattr(networks.ImageProgress, "on_step", on_step)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    yield after
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("options", "stops"),
    [
        # 2 steps an epoch: 6 before, 4 pulled, 4 afterwards; stopped in each, and where parts meet
        (["--method", "adc-aware:adc_bits=3"], [3, 3, 2, 3]),
        (["--method", "structured", "--method", "uniform", "--target", "ratio=6"], [6, 4, 3]),
        (["--method", "uniform", "--target", "accuracy=-5%"], [7, 9]),  # in two tries, of 8 steps each
    ],
)
def test_a_command_that_was_stopped_goes_on_exactly(bale, few, own, here, press, options, stops):
    options = ["--model", own, "--data", "digits", "--epochs", 3, "--retrain-epochs", 4, *options]
    whole = bale("compress", *options, "--packed", "whole.bale")
    assert whole.exit_code == 0
    options += ["--save", "run", "--packed", "parts.bale"]
    for stop in stops:
        press(stop)
        result = bale("compress", *options)
        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr.splitlines()[-1] == "interrupted; the same command goes on from run"
        assert not (here / "parts.bale").exists()
    press(0)
    again = bale("compress", *options)
    assert again.exit_code == 0 and "training nets.py:make" not in again.stderr
    assert (here / "parts.bale").read_bytes() == (here / "whole.bale").read_bytes()
    assert words(again.stdout).replace("parts.bale", "whole.bale") == words(whole.stdout)
