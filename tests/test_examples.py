"""Do the examples run, and learn?"""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_tree_sentiment(capsys) -> None:
    losses = runpy.run_path(str(EXAMPLES / "tree_sentiment.py"))["main"]()
    assert sum(losses[-5:]) < sum(losses[:5])
    printed = capsys.readouterr().out
    assert "equal:" in printed and "lower bound" in printed


def test_converter_bits(capsys) -> None:
    accuracies = runpy.run_path(str(EXAMPLES / "converter_bits.py"))["main"]()
    assert accuracies[0] > 0.9 > accuracies[-1]
    assert "nothing is clipped" in capsys.readouterr().out
