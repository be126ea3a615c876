"""Whatever is wrong with the input ends in one line that says what, exit code 2 and no traceback."""

import pytest

from bale.cli import train as train_command


@pytest.fixture
def fails(train, bale):
    """Assert that a command fails as it should; return the line."""

    def run(*arguments, command=None):
        result = bale(*command) if command else train(*arguments)
        assert result.exit_code == 2, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ")
        assert result.stdout == ""
        return lines[0]

    return run


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--batch-size", 0], "batch-size must be at least 1, got 0"),
        (["--hidden", 0], "hidden must be at least 1, got 0"),
        (["--threads", 0], "threads must be at least 1, got 0"),
        (["--steps", -1], "steps must be at least 0, got -1"),
        (["--limit", 0], "limit must be at least 1, got 0"),
        (["--compare", -1], "compare must be at least 0, got -1"),
        (["--lr", "nan"], "lr must be above 0 and finite, got nan"),
        (["--policy", "luck"], "policy 'luck' is unknown; known are depth"),
        (["--model", "gpt"], "model 'gpt' is unknown; known are child-sum, nary"),
        (["--data", "cifar"], "data 'cifar' is unknown; expected python, "),
        (["--model", "lattice-gru"], "model lattice-gru does not fit data sst:"),
        (["--data", "identifiers", "--model", "nary"], "use lattice-lstm or lattice-gru, or data sst:PATH"),
        (["--data", "sst:/no/such/file"], "/no/such/file: no such file"),
        (["--data", "lattice:/no/such/file"], "/no/such/file: no such file"),
        (["--resume", "/no/such/run"], "/no/such/run: no such folder"),
        (["--json", "/no/such/folder/report.json"], "/no/such/folder/report.json: cannot be written"),
    ],
)
def test_wrong_options(fails, arguments, problem):
    assert problem in fails(*arguments)


def test_a_loss_that_is_not_finite(train):
    result = train("--lr", 1e30, "--steps", 20)
    assert result.exit_code == 2
    assert "a lower learning rate (--lr) usually helps" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output


def test_a_damaged_file(fails, tmp_path):
    (tmp_path / "bad.txt").write_text("(3 (2 a) (b))\n")
    assert "bad.txt:1:11: " in fails("--data", f"sst:{tmp_path / 'bad.txt'}")


def test_a_folder_below_a_file(fails, trees):
    assert "cannot be written: Not a directory" in fails("--save", trees / "run")


def test_a_checkpoint_is_not_overwritten_by_another_run(train, fails, tmp_path):
    run = tmp_path / "run"
    assert train("--steps", 1, "--save", run).exit_code == 0
    assert "holds a checkpoint already; continue it with --resume" in fails("--save", run)


def test_a_checkpoint_of_something_else(train, fails, tmp_path):
    run = tmp_path / "run"
    assert train("--steps", 1, "--save", run).exit_code == 0
    for arguments, problem in [
        (["--hidden", 5], "the checkpoint has hidden 4, not 5"),
        (["--model", "child-sum"], "the checkpoint has model nary, not child-sum"),
        (["--seed", 9], "the checkpoint has seed 0, not 9"),
        (["--data", "python", "--limit", 30], "use child-sum"),
    ]:
        assert problem in fails(command=["train", "--resume", run, *arguments])
    (run / "model.safetensors").write_bytes(b"")
    assert "model.safetensors: is damaged" in fails(command=["train", "--resume", run])


def test_an_unknown_option_is_typers_own_error(train):
    result = train("--colour", "blue")
    assert result.exit_code == 2 and "No such option" in result.stderr


def test_ctrl_c_before_training(train, monkeypatch):
    def press(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "load_task", press)
    result = train()
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"


def test_a_bug_is_not_hidden(train, monkeypatch):
    def broken(config):
        raise ZeroDivisionError

    monkeypatch.setattr(train_command, "load_task", broken)
    assert isinstance(train().exception, ZeroDivisionError)


def test_version_and_help(bale):
    assert bale("--version").stdout.startswith("bale ")
    assert bale("--version").exit_code == 0
    assert "train" in bale("--help").stdout
    assert "--resume" in bale("train", "--help").stdout
