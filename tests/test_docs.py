"""Does what the documentation shows run, and print what it says?"""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_python_block_runs_and_prints_what_is_shown_after_it(page, capsys, tmp_path, monkeypatch) -> None:
    """A block without a language that follows one of Python is what that prints."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    printed = ""
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            assert not printed, f"{page.name} does not show what a block prints: {printed}"
            exec(compile(text, str(page), "exec"), namespace)
            printed = capsys.readouterr().out
        elif printed:
            assert text == printed
            printed = ""
    assert not printed


def test_pages_and_pictures_that_are_named_exist() -> None:
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} names {target}"
