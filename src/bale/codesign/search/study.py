"""How do workers, side by side and one after another, share a search? By a study of Optuna in a folder's journal."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bale.codesign.search.budgets import Budgets
from bale.codesign.search.design import Outcome
from bale.codesign.search.front import Candidate
from bale.codesign.search.space import Design, Space
from bale.errors import BaleError, CheckpointError
from bale.hardware import Chip
from bale.train.files import prepare_folder
from bale.train.interrupt import finish_first

if TYPE_CHECKING:  # half a second to import, which no other command should wait for
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

JOURNAL = "study.log"
_NAME = "codesign"
_FINISHED = ("COMPLETE", "PRUNED")
_ASKING = "asking"  # a lock: one worker at a time counts trials and takes one
_SETTINGS, _OWNER, _DESIGN, _OUTCOME, _COPY = "settings", "owner", "design", "outcome", "copy of"
_TIMES, _MOST_TIMES = "times", 3  # that a design's worker was killed, perhaps by the design: for want of memory
_STARTUP = 10  # trials before the sampler learns from them
_REPEATS = 30  # in a row, after which there seems to be nothing else


@dataclass(frozen=True)
class Counts:
    """Trials of a study, repetitions aside: finished, and those that workers are at."""

    finished: int
    running: int


@dataclass(frozen=True, eq=False)
class Search:
    """A search in a folder: what was tried there, and how to try more.

    The sampler of each trial has a seed of its own, from the search's and the trials before; so a search that was
    interrupted goes on, with one worker, as if it had not been. With several it depends on who is done first what they
    try, not what comes of it.
    """

    folder: Path
    study: Study
    space: Space
    base: Chip
    budgets: Budgets
    seed: int

    @classmethod
    def open(
        cls, folder: Path, settings: Mapping[str, Any], space: Space, base: Chip, budgets: Budgets, seed: int
    ) -> Search:
        """Open the study of a folder, or begin one, whose first trial is the dense network on a chip like `base`.

        `settings`: all that outcomes depend on, as JSON can hold it. Raises CheckpointError, which names those that
        differ from what the study was begun with, and for a folder that cannot be written or a damaged journal.
        """
        from optuna import create_study, load_study
        from optuna.study import StudyDirection

        prepare_folder(folder)
        with _quiet(), _damage_told(folder), _locked(folder):
            _cut_torn_line(folder)
            storage = _storage(folder)
            if any(study.study_name == _NAME for study in storage.get_all_studies()):
                study = load_study(study_name=_NAME, storage=storage)
                # Begun, but by one who was killed before the settings were there? Then it is begun here.
                known = study.user_attrs.get(_SETTINGS)
            else:
                directions = (StudyDirection.MINIMIZE,) * 3  # energy, area, accuracy drop
                study, known = create_study(study_name=_NAME, storage=storage, directions=directions), None
            search = cls(folder, study, space, base, budgets, seed)
            if known is not None:
                _check_same(folder, known, json.loads(json.dumps(settings)))
                return search
            first = space.first(base)
            if first is not None and not study.get_trials(deepcopy=False):
                study.enqueue_trial(first)
            study.set_user_attr(_SETTINGS, dict(settings))
            return search

    def work(
        self,
        evaluate: Callable[[Design], Outcome],
        trials: int,
        *,
        on_outcome: Callable[[Candidate], None] | None = None,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take one trial after the other until `trials` designs are finished, those that others are at among them.

        A trial that Ctrl-C or an error breaks off is queued again, with the same choices, before it comes through; and
        so are those of workers that are gone (on this machine). What became of a design that was evaluated already is
        copied, and does not count; after very many such trials in a row there seems to be no other design. `goes_on` is
        asked before each trial.
        """
        while goes_on():
            taken: Trial | None = None
            try:
                with finish_first(), _quiet(), _damage_told(self.folder), _locked(self.folder):
                    taken = self._take(trials)
                if taken is None:
                    return
                with finish_first(), _quiet(), _damage_told(self.folder):
                    design = self.space.suggest(taken, self.base)
                    taken.set_user_attr(_DESIGN, design.to_dict())
                    earlier = self._earlier(design)
                outcome = evaluate(design) if earlier is None else earlier.outcome
                with finish_first(), _quiet(), _damage_told(self.folder):
                    self._tell(taken, outcome, earlier)
            except BaseException:
                # Where the folder is what is at fault, the next worker that looks takes the trial back.
                with suppress(CheckpointError), finish_first(), _quiet(), _damage_told(self.folder):
                    if taken is not None:
                        with _locked(self.folder):
                            _cut_torn_line(self.folder)
                            self._give_back(taken.number)
                raise
            if on_outcome is not None:
                on_outcome(Candidate(taken.number, design, outcome, None if earlier is None else earlier.number))

    @property
    def counts(self) -> Counts:
        """How many trials there are."""
        states = [trial.state.name for trial in self._trials() if _COPY not in trial.user_attrs]
        return Counts(sum(state in _FINISHED for state in states), states.count("RUNNING"))

    def candidates(self) -> list[Candidate]:
        """The finished trials, in their order."""
        return [
            Candidate(
                trial.number,
                Design.from_dict(trial.user_attrs[_DESIGN]),
                Outcome.from_dict(trial.user_attrs[_OUTCOME]),
                trial.user_attrs.get(_COPY),
            )
            for trial in self._trials()
            if trial.state.name in _FINISHED
        ]

    def take_back(self) -> None:
        """Queue again what workers of this machine that are gone were at."""
        with _quiet(), _damage_told(self.folder), _locked(self.folder):
            self._take_back()

    def _trials(self) -> list[FrozenTrial]:
        with _damage_told(self.folder):
            return self.study.get_trials(deepcopy=False)

    def _take(self, trials: int) -> Trial | None:
        """A trial that this process owns from now on; None: there are enough."""
        from optuna.samplers import RandomSampler, TPESampler

        self._take_back()
        counts, repeats = self.counts, self._repeats()
        if counts.finished + counts.running >= trials or repeats >= _REPEATS:
            return None
        place = sum(trial.state.name in (*_FINISHED, "RUNNING") for trial in self._trials())
        # Anew for each trial: what a sampler draws would else depend on how many it has drawn in this process. One that
        # learns from what it repeats would repeat it again.
        seed = _seed(self.seed, place)
        self.study.sampler = RandomSampler(seed) if repeats else TPESampler(seed=seed, n_startup_trials=_STARTUP)
        trial = self.study.ask()
        trial.set_user_attr(_OWNER, _me())
        return trial

    def _repeats(self) -> int:
        """How many of the last trials, in a row, repeated earlier ones."""
        finished = [trial for trial in self._trials() if trial.state.name in _FINISHED]
        new = [place for place, trial in enumerate(finished) if _COPY not in trial.user_attrs]
        return len(finished) - (new[-1] + 1 if new else 0)

    def _take_back(self) -> None:
        # Whoever takes a trial signs it before others may look: without a name it was left by a worker that was killed.
        for trial in self._trials():
            if trial.state.name != "RUNNING" or not _is_gone(trial.user_attrs.get(_OWNER)):
                continue
            times = trial.user_attrs.get(_TIMES, 0) + 1
            if times >= _MOST_TIMES and _DESIGN in trial.user_attrs:
                killed = Outcome(None, refused=f"{times} workers that were at it were killed")
                self._tell(self._resumed(trial), killed, None)
            else:
                self._give_back(trial.number, times)

    def _resumed(self, trial: FrozenTrial) -> Trial:
        """A trial that another process took, to be told what became of it."""
        from optuna import Trial

        return Trial(self.study, trial._trial_id)

    def _give_back(self, number: int, times: int | None = None) -> None:
        """Let a trial fail that is not finished, and queue its choices, if all of them were made."""
        from optuna.trial import TrialState

        trial = self._trials()[number]
        if trial.state.is_finished():
            return
        self.study.tell(number, state=TrialState.FAIL)
        if _DESIGN in trial.user_attrs or "fixed_params" in trial.system_attrs:
            choices = dict(trial.system_attrs.get("fixed_params", trial.params))
            again = {_TIMES: trial.user_attrs.get(_TIMES, 0) if times is None else times}
            self.study.enqueue_trial(choices, user_attrs=again)

    def _earlier(self, design: Design) -> Candidate | None:
        return next((each for each in self.candidates() if each.design == design and each.copy_of is None), None)

    def _tell(self, trial: Trial, outcome: Outcome, earlier: Candidate | None) -> None:
        from optuna.trial import TrialState

        for name, excess in self.budgets.excess(outcome.costs, outcome.drop).items():
            trial.set_constraint(name, excess)
        trial.set_user_attr(_OUTCOME, outcome.to_dict())
        if earlier is not None:
            trial.set_user_attr(_COPY, earlier.number)
        if not outcome.complete:
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        costs = outcome.costs
        assert costs is not None and outcome.drop is not None
        self.study.tell(trial, [costs.energy, costs.area, outcome.drop])


def _cut_torn_line(folder: Path) -> None:
    """Cut off what stands after the journal's last whole line: a full disk, or who was killed, has left it.

    The next line would else be written on the same one, and both be lost.
    """
    from optuna.storages.journal import JournalFileOpenLock

    path = folder / JOURNAL
    if not path.exists():
        return
    lock = JournalFileOpenLock(str(path))  # as Optuna has it while it writes
    lock.acquire()
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
    finally:
        lock.release()


def _storage(folder: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path = str(folder / JOURNAL)
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))


def _check_same(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    differ = [
        f"{name} is {_said(there.get(name))} there and {_said(here.get(name))} here"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if differ:
        raise CheckpointError(f"{folder}: is of another search: {'; '.join(differ)}; use another folder")


def _said(value: Any) -> str:
    return "not given" if value is None else json.dumps(value) if isinstance(value, dict | list) else str(value)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One worker at a time; a lock whose owner was killed is free again after half a minute."""
    from optuna.storages.journal import JournalFileOpenLock

    lock = JournalFileOpenLock(str(folder / _ASKING))
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Optuna say nothing that is no warning."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _damage_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise CheckpointError(f"{folder / JOURNAL}: is damaged ({error}); use another folder") from error
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _me() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname()}


def _is_gone(owner: Mapping[str, Any] | None) -> bool:
    """Is the process that took a trial no more? Of other machines, and where no signal can ask, nobody knows: no."""
    if owner is None:
        return True
    if owner["host"] != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(owner["pid"], 0)  # sends nothing, and fails where there is nobody
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _seed(seed: int, place: int) -> int:
    return int(hashlib.sha256(f"{seed} {place}".encode()).hexdigest()[:8], 16)
