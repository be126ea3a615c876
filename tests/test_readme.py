"""Does what the README shows run, and print what it says?"""

import re
from pathlib import Path

import torch

from bale.batching.explain import IN_PYTHON

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def test_every_python_block_runs_and_prints_what_is_shown_after_it(capsys) -> None:
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    assert any(language == "python" for language, _ in blocks)
    namespace: dict[str, object] = {}
    shown = 0
    printed = None
    torch.manual_seed(0)
    for language, text in blocks:
        if language == "python":
            exec(compile(text, str(README), "exec"), namespace)
            printed = capsys.readouterr().out
        elif printed and "milliseconds: " in text:
            assert without_times(printed) == without_times(text)
            shown += 1
    assert shown == 1
    outputs, inner, trees = namespace["outputs"], namespace["inner"], namespace["trees"]
    assert len(outputs) == len(trees)  # type: ignore[arg-type]
    assert all((out - inner(tree)).abs().max() < 1e-5 for out, tree in zip(outputs, trees, strict=True))  # type: ignore


def without_times(text: str) -> str:
    """What does not depend on the machine: its speed, and whether it has a C compiler."""
    return re.sub(r"\d+\.\d", "?", text.replace(f"warning: {IN_PYTHON}\n", ""))
