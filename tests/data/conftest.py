"""Where is the data that the project may use but not carry?"""

import os
from pathlib import Path

import pytest


def _folder(name):
    default = Path(__file__).parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("BALE_DATA", default)) / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set BALE_DATA to the folder that holds {name}/")
    return folder


@pytest.fixture
def sst():
    """The Stanford Sentiment Treebank, binarised."""
    return _folder("sst")


@pytest.fixture
def wikiner():
    """Tagged sentences of WikiNER."""
    return _folder("tags")
