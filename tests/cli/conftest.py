"""How is a command run in a test, and on which data?"""

import pytest
from typer.testing import CliRunner

from bale.cli import app
from bale.data import random_ptb


@pytest.fixture
def trees(tmp_path):
    """A file of thirty small trees, in a folder of its own."""
    path = tmp_path / "data" / "trees.txt"
    path.parent.mkdir()
    path.write_text("".join(f"{tree}\n" for tree in random_ptb(30, seed=1, words=20, leaves=4)))
    return path


@pytest.fixture
def bale():
    """Run `bale` with arguments in this process."""

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="bale")

    return run


@pytest.fixture
def train(bale, trees):
    """Run `bale train` on the small trees: three steps are an epoch."""

    def run(*arguments):
        return bale("train", "--data", f"sst:{trees}", "--hidden", 4, "--batch-size", 8, "--compare", 1, *arguments)

    return run
