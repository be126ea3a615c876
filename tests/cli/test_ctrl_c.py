"""A real Ctrl-C in a real process: the report so far, a checkpoint, exit code 130, no traceback."""

import json
import signal
import subprocess
import sys

from bale.train import load_checkpoint

# A shell's background jobs start with Ctrl-C ignored, and a child inherits that: the test needs Python's own handling.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from bale.cli import app
app()
"""


def test_ctrl_c_while_training(trees, tmp_path):
    options = {"--data": f"sst:{trees}", "--hidden": "4", "--batch-size": "8", "--epochs": "1000000", "--json": "-"}
    arguments = [word for option in options.items() for word in option]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", *arguments, "--save", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        line = next((line for line in process.stderr if line.startswith("step 1/")), None)
        assert line is not None, "the process ended before its first step"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == f"to go on: bale train --resume {tmp_path / 'run'}"
    report = json.loads(output)
    assert report["interrupted"] and report["steps"] >= 1
    assert load_checkpoint(tmp_path / "run").place.step == report["step"]
