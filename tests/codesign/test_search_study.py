"""Workers share a study; one that is broken off goes on as if it had not been; what a killed one was at is taken up."""

import errno
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial

import pytest
from tests.codesign.search_made import made_up, made_up_search

from bale.codesign.search import Budgets, Costs, Outcome, Search, Space, study, work_together
from bale.errors import BaleError, CheckpointError
from bale.hardware import isaac_ce

MANY = 13  # after ten the sampler learns
BUDGETS = Budgets(area=2, drop=0.01)
TINY = replace(
    Space(), stacks=("dense",), rows=(128,), columns=(128,), cell_bits=(2,), encodings=("offset", "differential"),
    weight_bits=(8,), input_bits=(8,), rooms=(1, 2),
)  # fmt: skip


def opened(folder, seed=0, space=None, **settings):
    return Search.open(folder, {"--seed": seed, **settings}, space or Space(), isaac_ce(), BUDGETS, seed)


def results(search):
    return [(each.design, each.outcome) for each in search.candidates()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    search = opened(tmp_path_factory.mktemp("whole"))
    search.work(made_up, MANY)
    return results(search)


def test_the_first_design_is_dense_and_there_are_as_many_as_were_asked_for(whole, tmp_path):
    assert whole[0][0].methods == () and whole[0][0].structure.rows == 128
    search = opened(tmp_path)
    search.work(made_up, 1)
    assert search.counts == study.Counts(finished=1, running=0)
    assert results(search) == whole[:1]


def test_one_worker_finds_the_same_again_and_another_seed_something_else(whole, tmp_path):
    search = opened(tmp_path / "same")
    search.work(made_up, 12)
    assert results(search) == whole[: len(results(search))]
    other = opened(tmp_path / "other", seed=1)
    other.work(made_up, 4)
    assert results(other) != whole[:4]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_broken_off_and_continued_is_not_broken_off(whole, tmp_path, error):
    calls = 0

    def breaks(design):
        nonlocal calls
        calls += 1
        if calls in (1, 5, 6, 15):
            raise error
        return made_up(design)

    for _ in range(4):
        with pytest.raises(error):
            opened(tmp_path).work(breaks, MANY)
        assert opened(tmp_path).counts.running == 0
    search = opened(tmp_path)
    search.work(breaks, MANY)
    assert results(search) == whole


def test_broken_off_while_choosing(whole, tmp_path, monkeypatch):
    def interrupted(trial, name, choices):
        if name == "cell bits":
            raise KeyboardInterrupt
        return trial.suggest_categorical(name, choices)

    opened(tmp_path).work(made_up, 3)
    with monkeypatch.context() as patched:
        patched.setattr("bale.codesign.search.space._choose", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path).work(made_up, MANY)
    search = opened(tmp_path)
    search.work(made_up, MANY)
    assert results(search) == whole


def gone():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def kill_at(folder, monkeypatch, pid, host=None):
    """What a worker leaves that is killed when its design is chosen."""
    with monkeypatch.context() as patched:

        def killed(design):
            patched.setattr(Search, "_give_back", lambda *_: None)
            sys.exit(1)

        patched.setattr(study, "_me", lambda: {"pid": pid, "host": host or socket.gethostname()})
        with pytest.raises(SystemExit):
            opened(folder).work(killed, MANY)


def test_what_a_killed_worker_was_at_is_taken_up(whole, tmp_path, monkeypatch):
    opened(tmp_path).work(made_up, 3)
    kill_at(tmp_path, monkeypatch, gone())
    assert opened(tmp_path).counts.running == 1
    search = opened(tmp_path)
    search.work(made_up, MANY)
    assert search.counts.running == 0 and results(search) == whole


def test_what_others_are_at_is_left_to_them(tmp_path, monkeypatch):
    kill_at(tmp_path, monkeypatch, os.getpid())
    kill_at(tmp_path, monkeypatch, gone(), host="another machine")
    search = opened(tmp_path)
    search.take_back()
    search.work(made_up, 5)
    assert search.counts == study.Counts(finished=3, running=2)


def test_a_design_that_kills_every_worker_is_given_up(tmp_path, monkeypatch):
    pid = gone()
    for _ in range(3):
        kill_at(tmp_path, monkeypatch, pid)
    search = opened(tmp_path)
    search.work(made_up, 2)
    first, second = search.candidates()
    assert first.outcome.refused == "3 workers that were at it were killed" and second.outcome.refused is None


def test_workers_side_by_side_share_the_trials(tmp_path):
    opened(tmp_path)
    evaluated = []

    def work():
        opened(tmp_path).work(lambda design: evaluated.append(design) or made_up(design), 12)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    search = opened(tmp_path)
    assert search.counts == study.Counts(finished=12, running=0)
    assert len(evaluated) >= 12  # two may be at the same design at one time
    assert all(outcome == made_up(design) for design, outcome in results(search))


def test_a_design_that_was_evaluated_is_copied_and_a_space_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "_REPEATS", 10)
    evaluated = []
    search = opened(tmp_path, space=TINY)
    search.work(lambda design: evaluated.append(design.key) or made_up(design), 50)
    assert sorted(evaluated) == sorted(set(evaluated)) and len(evaluated) == 4
    copies = [each for each in search.candidates() if each.copy_of is not None]
    by_number = {each.number: each for each in search.candidates()}
    assert copies and all(each.outcome == by_number[each.copy_of].outcome for each in copies)
    assert search.counts.finished == 4


def test_designs_that_nothing_is_known_of_are_no_obstacle(tmp_path):
    search = opened(tmp_path)
    search.work(lambda design: Outcome(None, refused="no room"), 12)
    assert search.counts.finished == 12


def test_trials_tell_the_sampler_how_far_beyond_budgets_they_are(tmp_path):
    search = opened(tmp_path)
    search.work(lambda design: Outcome(Costs(1, 3, 1, 1, 1, 8), 0.88, 0.02), 1)
    (trial,) = search.study.get_trials()
    assert trial.constraints == {"area": 0.5, "accuracy-drop": 1.0} and trial.values == [1, 3, 0.02]


def test_a_folder_of_another_search_is_told(tmp_path):
    opened(tmp_path, **{"--data": "digits", "--budget": {"area": 2}})
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path, seed=1, **{"--data": "digits", "--budget": {"area": 3}})
    assert str(caught.value) == (
        f'{tmp_path}: is of another search: --seed is 0 there and 1 here; --budget is {{"area": 2}} there and '
        '{"area": 3} here; use another folder'
    )
    with pytest.raises(CheckpointError, match="--data is digits there and not given here"):
        opened(tmp_path, **{"--budget": {"area": 2}})


def test_a_damaged_journal_is_told(tmp_path):
    opened(tmp_path)
    journal = tmp_path / study.JOURNAL
    journal.write_text(journal.read_text() + "{damaged\n{}\n")
    with pytest.raises(CheckpointError, match=r"study\.log: is damaged"):
        opened(tmp_path)


@pytest.mark.parametrize("line", ['{"op_code": 99, "worker_id": ""}', "[]", '{"op_code": 5}'])
def test_a_journal_of_whole_lines_that_mean_nothing_is_told(tmp_path, line):
    opened(tmp_path)
    journal = tmp_path / study.JOURNAL
    journal.write_text(f"{journal.read_text()}{line}\n")
    with pytest.raises(CheckpointError, match=r"study\.log: is damaged"):
        opened(tmp_path)


def test_a_line_that_was_cut_off_is_no_damage(whole, tmp_path):
    opened(tmp_path).work(made_up, 3)
    journal = tmp_path / study.JOURNAL
    journal.write_text(journal.read_text() + '{"op_code":5,"worker_id":"')
    opened(tmp_path).work(made_up, 5)
    assert results(opened(tmp_path)) == whole[:5]


@pytest.mark.parametrize("trials", [3, 5])
def test_a_full_disk_is_told_and_the_search_goes_on_when_there_is_room(whole, tmp_path, monkeypatch, trials):
    """What was written of the last line stays, as a disk that becomes full leaves it; a trial takes some 15 writes."""
    from optuna.storages.journal import JournalFileBackend

    append, left = JournalFileBackend.append_logs, 13 * trials

    def full(backend, logs):
        nonlocal left
        left -= 1
        if left < 0:
            with (tmp_path / study.JOURNAL).open("a") as file:
                file.write('{"op_code":')
            raise OSError(errno.ENOSPC, "No space left on device")
        append(backend, logs)

    with monkeypatch.context() as patched:
        patched.setattr(JournalFileBackend, "append_logs", full)
        with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
            opened(tmp_path).work(made_up, MANY)
    monkeypatch.setattr(study, "_is_gone", lambda owner: True)  # this process was it
    search = opened(tmp_path)
    search.work(made_up, MANY)
    assert results(search) == whole


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file/run: cannot be written: Not a directory"):
        opened(tmp_path / "file" / "run")


def test_errors_of_evaluation_come_through(tmp_path):
    def fails(design):
        raise BaleError("the disk is full")

    with pytest.raises(BaleError, match="disk is full"):
        opened(tmp_path).work(fails, 3)
    assert opened(tmp_path).counts == study.Counts(finished=0, running=0)


def test_ctrl_c_reaches_a_worker_which_gives_back_what_it_is_at(tmp_path):
    search, _ = made_up_search(tmp_path)
    seen = []

    def interrupted(candidate):
        seen.append(candidate)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_together(search, partial(made_up_search, tmp_path), 10**6, 1, on_outcome=interrupted)
    assert len(seen) == 1 and search.counts.running == 0
    finished = search.counts.finished
    search.work(made_up, finished + 1)
    assert search.counts.finished == finished + 1
