"""`bale policy` learns, shows and compares policies, and `bale train` runs by them."""

import json
import re

import pytest

from bale.batching.schedule import POLICIES, Policy
from bale.cli import policy as policy_command
from bale.train import load_checkpoint

OPTIONS = ("--hidden", 4, "--batch-size", 6, "--mini-batches", 2)


@pytest.fixture
def learn(bale, trees, tmp_path):
    """Run `bale policy learn` on the small trees; the encoding of sort has states there, and shares hardly any."""

    def run(*arguments, name="policy.json"):
        data = () if "--data" in arguments else ("--data", f"sst:{trees}")
        return bale(
            "policy", "learn", tmp_path / name, *data, *OPTIONS, "--encoding", "sort", "--episodes", 60, *arguments
        )

    return run


@pytest.fixture
def learned(learn, tmp_path):
    """The file of a learned policy."""
    assert learn().exit_code == 0
    return tmp_path / "policy.json"


@pytest.fixture
def fails(bale):
    """Assert that a command fails as it should; return the line."""

    def run(*arguments):
        result = bale(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        return line

    return run


def words(text):
    return " ".join(text.split())


def test_learning_writes_a_policy_and_compares_it(learn, trees, tmp_path):
    result = learn()
    assert result.exit_code == 0
    policy = Policy.load(tmp_path / "policy.json")
    assert len(policy.states) > 1
    assert policy.learned["task"] == {"data": f"sst:{trees}", "model": "nary", "hidden": 4, "limit": None}
    assert (policy.learned["mini_batches"], policy.learned["batch_size"], policy.learned["seed"]) == (2, 6, 0)
    text = words(result.stdout)
    assert f"fsm-{policy.encoding}" in text and f"{len(policy.states)} states over" in text
    assert f"{policy.learned['batches']} there; at least {policy.learned['bound']} are needed" in text
    assert f"written to {tmp_path / 'policy.json'}" in text
    for name in (*POLICIES, "policy.json"):
        assert re.search(rf"\b{re.escape(name)} \d+ ", text), name


def test_progress_goes_to_stderr(learn):
    result = learn()
    assert re.match(r"episode 50/60  \d+ batches\n", result.stderr)
    assert "episode" not in result.stdout.replace("episodes", "")


def test_equal_seeds_learn_equal_files(learn, tmp_path):
    for name in ("one.json", "again.json"):
        assert learn(name=name).exit_code == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "again.json").read_bytes()


def test_options_reach_the_learning(learn, tmp_path):
    options = ("--encoding", "max", "--no-bootstrap", "--seed", 5, "--episodes", 7, "--mini-batches", 1, "--limit", 20)
    assert learn(*options).exit_code == 0
    policy = Policy.load(tmp_path / "policy.json")
    assert str(policy.encoding) == "max"
    facts = policy.learned
    assert (facts["seed"], facts["mini_batches"], facts["task"]["limit"]) == (5, 1, 20)
    assert facts["episodes"] <= 7


def test_a_file_is_overwritten_only_by_force(learn, tmp_path):
    assert learn().exit_code == 0
    before = (tmp_path / "policy.json").read_bytes()
    result = learn("--seed", 3)
    assert result.exit_code == 2
    assert "policy.json: exists already; overwrite it with --force" in result.stderr
    assert (tmp_path / "policy.json").read_bytes() == before
    assert learn("--seed", 3, "--force").exit_code == 0
    assert Policy.load(tmp_path / "policy.json").learned["seed"] == 3


def test_nothing_is_held_out_of_one_sample(learn, tmp_path):
    tree = "(3 (2 a) (1 b))\n"
    (tmp_path / "one.txt").write_text(tree)
    result = learn("--data", f"sst:{tmp_path / 'one.txt'}")
    assert result.exit_code == 0
    assert "written to" in result.stdout and "held out" not in result.stdout


def test_showing_needs_no_data(bale, learned, trees):
    trees.unlink()
    result = bale("policy", "show", learned)
    assert result.exit_code == 0 and result.stderr == ""
    policy = Policy.load(learned)
    text = words(result.stdout)
    assert f"{len(policy.states)} states" in text and "sst:" in text
    assert "state (the ready types, most nodes first)" in text
    every = bale("policy", "show", learned, "--all")
    rows = [line for line in every.stdout.splitlines() if line[:5].strip().isdigit()]
    assert len(rows) == len(policy.states)


def test_showing_as_json(bale, learned):
    found = json.loads(bale("policy", "show", learned, "--json").stdout)
    policy = Policy.load(learned)
    assert (found["policy"], len(found["states"])) == (policy.name, len(policy.states))
    assert sum(state["times"] for state in found["states"]) + found["unseen"] >= policy.learned["batches"]


def test_showing_on_a_mini_batch_counts_that(bale, learned, trees):
    last_run = json.loads(bale("policy", "show", learned, "--json").stdout)
    options = ("--data", f"sst:{trees}", "--batch-size", 3, "--json")
    held_out = json.loads(bale("policy", "show", learned, *options).stdout)
    assert held_out["transitions"] != last_run["transitions"]
    assert held_out["transitions"][0][2] == 1  # one mini-batch begins once


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_pictures(bale, learned, tmp_path, suffix):
    policy, schedule = tmp_path / f"policy.{suffix}", tmp_path / f"schedule.{suffix}"
    result = bale("policy", "show", learned, "--picture", policy, "--schedule", schedule)
    assert result.exit_code == 0
    for path in (policy, schedule):
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
        assert len(content) > 5000


def test_comparing_counts_every_policy(bale, learned, trees, tmp_path):
    result = bale("policy", "compare", learned, *OPTIONS, "--json", tmp_path / "report.json")
    assert result.exit_code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["task"] == {"data": f"sst:{trees}", "model": "nary", "hidden": 4, "limit": None}
    assert [line["policy"] for line in report["policies"]] == [*POLICIES, "policy.json"]
    assert list(report["microseconds_per_node"]) == [*POLICIES, "policy.json"]
    assert report["bound"] == sum(each["bound"] for each in report["mini_batches"])
    for line in report["policies"]:
        assert set(line) == {"policy", "batches", "total", "ratio", "unseen"}
        assert len(line["batches"]) == len(report["mini_batches"]) == 1  # three samples are held out
        assert line["total"] == sum(line["batches"]) >= report["bound"]
        assert line["ratio"] == pytest.approx(line["total"] / report["bound"])
        assert f"{line['policy']} {line['batches'][0]} {line['total']}" in words(result.stdout)


def test_json_on_stdout_is_all_there_is(bale, trees):
    result = bale("policy", "compare", "--data", f"sst:{trees}", *OPTIONS, "--json", "-")
    assert [line["policy"] for line in json.loads(result.stdout)["policies"]] == list(POLICIES)


def test_policies_of_equal_names_are_told_apart(bale, learned, tmp_path):
    other = tmp_path / "other" / "policy.json"
    other.parent.mkdir()
    other.write_bytes(learned.read_bytes())
    report = json.loads(bale("policy", "compare", learned, other, *OPTIONS, "--json", "-").stdout)
    assert [line["policy"] for line in report["policies"]][-2:] == [str(learned), str(other)]
    first, second = report["policies"][-2:]
    assert first["batches"] == second["batches"]


def test_identifiers_need_no_files(bale, tmp_path):
    options = ("--model", "lattice-lstm", "--limit", 120, "--hidden", 4, "--batch-size", 16, "--mini-batches", 1)
    path = tmp_path / "lattice.json"
    assert bale("policy", "learn", path, *options, "--episodes", 50).exit_code == 0
    assert Policy.load(path).learned["task"]["data"] == "identifiers"
    report = json.loads(bale("policy", "compare", path, "--batch-size", 16, "--json", "-").stdout)
    assert (report["task"]["data"], report["task"]["limit"]) == ("identifiers", 120)


def test_training_by_a_learned_policy(train, learned, tmp_path):
    by_auto = json.loads(train("--steps", 4, "--json", "-").stdout)
    result = train("--steps", 4, "--policy", learned, "--save", tmp_path / "run", "--json", "-")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["config"]["policy"] == str(learned)
    assert report["per_step"]["batches"] <= by_auto["per_step"]["batches"]
    assert report["comparison"]["difference"] < 1e-5
    assert load_checkpoint(tmp_path / "run").config.policy == str(learned)


def test_a_run_goes_on_by_its_policy(train, bale, learned, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("--steps", 4, "--policy", learned, "--save", whole).exit_code == 0
    assert train("--steps", 2, "--policy", learned, "--save", parts).exit_code == 0
    assert bale("train", "--resume", parts, "--steps", 4, "--compare", 0).exit_code == 0
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    learned.rename(tmp_path / "moved.json")
    result = bale("train", "--resume", parts, "--steps", 5, "--compare", 0)
    assert result.exit_code == 2 and "policy.json: cannot be read: No such file" in result.stderr
    again = bale("train", "--resume", parts, "--steps", 5, "--compare", 0, "--policy", tmp_path / "moved.json")
    assert again.exit_code == 0


def test_a_policy_for_training_that_is_none(train, learned, tmp_path, monkeypatch):
    def read(config):
        raise AssertionError("the data are read before the policy is")

    monkeypatch.setattr("bale.cli.train.load_task", read)
    for path, problem in (
        (tmp_path / "none.json", "none.json: cannot be read: No such file"),
        (
            tmp_path,
            "is unknown; known are depth, agenda, sufficient, height, beam, auto, and the file of a learned one",
        ),
    ):
        result = train("--policy", path)
        assert result.exit_code == 2 and problem in result.stderr
    learned.write_text(learned.read_text()[:100])
    assert "policy.json: is not the JSON of a policy" in train("--policy", learned).stderr


def test_a_policy_of_another_network_is_refused(train, learned, bale, trees):
    for result in (
        train("--steps", 1, "--model", "tree-gru", "--policy", learned),
        bale("policy", "compare", learned, "--data", f"sst:{trees}", "--model", "tree-gru"),
        bale("policy", "show", learned, "--data", f"sst:{trees}", "--model", "tree-gru"),
    ):
        assert result.exit_code == 2
        assert "this policy was learned on another network" in result.stderr
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["learn", "policy.txt"], "policy.txt: expected a name that ends in .json"),
        (["learn", "/no/such/folder/policy.json"], "cannot be written; expected a file in a folder that exists"),
        (["learn", "{}/p.json", "--batch-size", 0], "batch-size must be at least 1, got 0"),
        (["learn", "{}/p.json", "--mini-batches", 0], "mini-batches must be at least 1, got 0"),
        (["learn", "{}/p.json", "--episodes", 0], "episodes must be at least 1, got 0"),
        (["learn", "{}/p.json", "--encoding", "luck"], "encoding 'luck' is unknown; known are base, max, sort, share"),
        (["learn", "{}/p.json", "--seed", -1], "seed must be at least 0, got -1"),
        (["learn", "{}/p.json", "--model", "gpt"], "model 'gpt' is unknown"),
        (["learn", "{}/p.json", "--data", "sst:/no/such/file"], "/no/such/file: no such file"),
        (["show", "{}/none.json"], "none.json: cannot be read: No such file"),
        (["show", "{}/policy.json", "--picture", "{}/picture.gif"], "picture.gif: expected a name that ends in .svg"),
        (["show", "{}/policy.json", "--picture", "/no/such/folder/p.svg"], "p.svg: cannot be written"),
        (["show", "{}/policy.json", "--schedule", "/no/such/folder/p.svg"], "p.svg: cannot be written"),
        (["compare", "{}/none.json"], "none.json: cannot be read: No such file"),
        (["compare", "--json", "/no/such/folder/report.json"], "report.json: cannot be written; --json expects"),
        (["compare", "--mini-batches", 0], "mini-batches must be at least 1, got 0"),
    ],
)
def test_wrong_options(fails, learned, tmp_path, arguments, problem):
    assert problem in fails("policy", *(str(argument).replace("{}", str(tmp_path)) for argument in arguments))


def test_a_policy_that_does_not_say_what_it_is_for(fails, bale, learned, tmp_path, trees):
    facts = json.loads(learned.read_text())
    del facts["learned"]["task"]
    learned.write_text(json.dumps(facts))
    problem = fails("policy", "show", learned, "--schedule", tmp_path / "schedule.svg")
    assert "does not say what it was learned on; name --data and --model" in problem
    options = ("--data", f"sst:{trees}", "--hidden", 4, "--schedule", tmp_path / "schedule.svg")
    assert bale("policy", "show", learned, *options).exit_code == 0


def test_ctrl_c_leaves_no_file(learn, tmp_path, monkeypatch):
    def press(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(policy_command, "learn_for_task", press)
    result = learn()
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert not (tmp_path / "policy.json").exists()


def test_help_names_the_commands(bale):
    text = bale("policy", "--help").stdout
    assert all(name in text for name in ("learn", "show", "compare"))
    assert "policy" in bale("--help").stdout
