"""Does what the README shows run?"""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_every_python_block_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    outputs, inner, trees = namespace["outputs"], namespace["inner"], namespace["trees"]
    assert len(outputs) == len(trees)  # type: ignore[arg-type]
    assert all((out - inner(tree)).abs().max() < 1e-5 for out, tree in zip(outputs, trees, strict=True))  # type: ignore
