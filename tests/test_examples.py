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


def test_few_weights_a_column(capsys) -> None:
    accuracies = runpy.run_path(str(EXAMPLES / "few_weights_a_column.py"))["main"]()
    assert accuracies["pruned", 5] == accuracies["pruned", 8] > 0.9
    clipped = [line.split()[3:5] for line in capsys.readouterr().out.splitlines() if line.startswith("pruned ")]
    assert clipped == [["0.00%", "0"]] * 2


def test_fewer_bits_over_links(capsys) -> None:
    found = runpy.run_path(str(EXAMPLES / "fewer_bits_over_links.py"))["main"]()
    dense, magnitude, aware, placed = (energy for _, energy in found.values())
    assert placed < aware < 0.6 * dense < magnitude
    assert min(accuracy for accuracy, _ in found.values()) > 0.85
    assert "cycles a packet" in capsys.readouterr().out


def test_video(capsys) -> None:
    rows = runpy.run_path(str(EXAMPLES / "video.py"))["main"]()
    still, by_interval, by_motion = (rows[name].precision for name in ("no flow", "DIS flow", "keys by motion"))
    assert still < by_interval - 0.05 < by_motion < rows["every frame"].precision
    assert rows["keys by motion"].keys <= 0.15 < rows["every frame"].keys
    assert "beside the stream" in capsys.readouterr().out
