"""How do the tests run: on one thread, with examples that CI can repeat, on data that may be absent."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# CI draws the same examples in every run, as many as it has time for; elsewhere they are others each time.
if "CI" in os.environ:
    settings.register_profile("bale", deadline=None, max_examples=10, derandomize=True)
else:
    settings.register_profile("bale", deadline=None, max_examples=50)
settings.load_profile("bale")

# Two runs on one machine would otherwise wait for each other's threads, and a sum's last bit depend on their number.
torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What stays until the end is not looked at again by every collection that a test asks for."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def data_folder() -> Callable[[str], Path]:
    """A function from a name to the folder of data that the project may use but not carry; skips where it is absent."""

    def folder(name: str) -> Path:
        beside = Path(__file__).parents[1] / ".." / "shared" / "data"
        path = Path(os.environ.get("BALE_DATA", beside)) / name
        if not path.is_dir():
            pytest.skip(f"no {path}: set BALE_DATA to the folder that holds {name}/")
        return path

    return folder


@pytest.fixture
def python_handles_ctrl_c() -> Iterator[None]:
    """Some shells start background jobs with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
