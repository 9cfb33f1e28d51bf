"""A search that several processes share and a kill does not end: Optuna's study in one SQLite file.

    search (successive halving) -> repeats of the best with fresh seeds -> verdict

Every run is an Optuna trial. Its attributes say what Optuna does not: the point's name, the seed, who trains it. A
trial whose process is gone is taken over by the next one, which goes on from its checkpoint.

Source: Akiba et al. 2019, arXiv:1907.10902 (Optuna); Jamieson & Talwalkar 2016, arXiv:1502.07943 (successive halving).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from focalcli.errors import FocalError
from focalcli.work.tuning.sharing import alone, lives, me, quiet, unlike
from focalcli.work.tuning.space import Point, Space
from focalcli.work.tuning.verdict import Verdict, judge

SEARCH_SHARE = 0.6  # of the budget; the rest repeats what it found
CHALLENGERS = 2  # points that are repeated beside the recipe's own
REPEATS = 3  # of each of them
# of a winner and of the recipe: where there is no difference three runs each call one in 50 studies, six one in 500
CONFIRMED = 6
FEWEST_REPEATS = 2  # without which nothing is called better
PROPOSALS = 20  # of Optuna, until one is taken that was trained already
REDUCTION = 3  # successive halving lets one in so many go on from an evaluation to the next rung
OWN = "the recipe's own"


@dataclass(frozen=True)
class Work:
    """One run to do.

    Attributes:
        trial: Optuna's. number: of the trial in the study. point: None for the recipe as it is.
        seed: what is added to the recipe's own seed. repeat: it is for the verdict, and is not cut short.
    """

    trial: Any
    number: int
    point: Point | None
    seed: int
    repeat: bool

    @property
    def name(self) -> str:
        return OWN if self.point is None else self.point.name


@dataclass(frozen=True)
class Run:
    """One trial as the leaderboard knows it.

    Attributes:
        state: complete, pruned (cut short by successive halving), running or failed.
        score: at its last evaluation; None before the first. figures, classes: as in trials.Result.
    """

    number: int
    name: str
    point: Point | None
    seed: int
    repeat: bool
    state: str
    score: float | None
    figures: dict[str, float | None]
    classes: dict[str, float | None]
    seconds: float

    @property
    def worst(self) -> tuple[str, float] | None:
        """The class with the least AP, and that; None before the run's end."""
        known = {name: value for name, value in self.classes.items() if value is not None}
        return min(known.items(), key=lambda item: item[1]) if known else None

    def to_row(self) -> dict[str, Any]:
        """A flat record."""
        name, value = self.worst or (None, None)
        return {
            "number": self.number, "arm": self.name, "seed": self.seed, "repeat": self.repeat, "state": self.state,
            "score": self.score, "AP": self.figures.get("AP"), "AP50": self.figures.get("AP50"),
            "APr": self.figures.get("APr"), "worst_class": name, "worst_AP": value, "seconds": round(self.seconds, 1),
        }  # fmt: skip


class Study:
    """The runs so far, and what to do next."""

    def __init__(self, folder: Path, facts: dict[str, Any], space: Space, seed: int) -> None:
        """Open or make the study in folder/study.db.

        Args:
            facts: what all its runs have in common; another study's are refused.
            seed: of the search.

        Raises:
            FocalError: the file is another study's, or is no study.
        """
        self.folder, self.space = folder, space
        with alone(folder), quiet():
            import optuna
            from sqlalchemy.exc import SQLAlchemyError

            optuna.logging.set_verbosity(optuna.logging.ERROR)
            file = folder / "study.db"
            hint = f"choose another name with name=..., or delete {folder}"
            try:
                self.optuna = optuna.create_study(
                    study_name="focal",
                    storage=optuna.storages.RDBStorage(
                        f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 60}}
                    ),
                    direction="maximize",
                    sampler=optuna.samplers.TPESampler(seed=seed + os.getpid() % 1000, n_startup_trials=8),
                    pruner=optuna.pruners.SuccessiveHalvingPruner(
                        min_resource=1, reduction_factor=REDUCTION, min_early_stopping_rate=0
                    ),
                    load_if_exists=True,
                )
            except (SQLAlchemyError, RuntimeError) as error:
                reason = str(error).splitlines()[0][:120]
                raise FocalError(f"{file}: not a study that can be opened ({reason})", hint) from None
        with alone(folder):
            known = self.optuna.user_attrs.get("facts")
            if known is None:
                self.optuna.set_user_attr("facts", facts)
            elif known != facts:
                if any(run.state != "failed" for run in self.runs()):
                    raise FocalError(f"{file}: is a study of {unlike(known, facts)}", hint)
                self.optuna.set_user_attr("facts", facts)  # nothing of the other one came to anything

    # ----------------------------------------------------------------------------------------------- what to do next

    def next_left(self) -> Work | None:
        """A run that a process began and did not end."""
        with alone(self.folder):
            return self._left()

    def next_search(self) -> Work:
        """The next point of the search: those that every search begins with, then what Optuna proposes."""
        with alone(self.folder):
            begun = {run.name for run in self.runs() if run.state != "failed"}
            own = Point(**self.optuna.user_attrs["facts"]["own"])
            for name, point in _first_points(own, self.space):
                if name not in begun:
                    self._enqueue(name, point, seed=0, repeat=False)
                    break
            return self._asked()

    def next_repeat(self) -> Work | None:
        """A run of the verdict: another seed of the arm that has fewest; None when all are done.

        A challenger that leads by then has to do so with CONFIRMED runs; one that falls back ends it.
        """
        with alone(self.folder):
            runs = self.runs()
            wanted = {OWN: None, **{run.name: run.point for run in leaders(runs)}}
            seeds = {
                name: {run.seed for run in runs if run.repeat and run.name == name and run.state != "failed"}
                for name in wanted
            }
            most = REPEATS
            if min(map(len, seeds.values())) >= REPEATS:
                winner, most = verdict(runs).winner, CONFIRMED
                seeds = {name: each for name, each in seeds.items() if winner and name in (OWN, winner)}
            name = min(seeds, key=lambda each: len(seeds[each]), default=OWN)
            if len(seeds.get(name, range(most))) >= most:
                return None
            point = wanted[name]
            own = Point(**self.optuna.user_attrs["facts"]["own"]) if point is None else point
            seed = min(set(range(1, most + 1)) - seeds[name])
            self._enqueue(name, own, seed=seed, repeat=True)
            return self._asked()

    def _enqueue(self, name: str, point: Point, *, seed: int, repeat: bool) -> None:
        """What Optuna is to give out next."""
        attrs = {"arm": name, "point": asdict(point), "seed": seed, "repeat": repeat}
        self.optuna.enqueue_trial(self.space.parameters(point), user_attrs=attrs)

    def _asked(self) -> Work:
        tried = {run.name: run for run in self.runs() if run.state == "complete" and not run.repeat}
        for _ in range(PROPOSALS):
            trial = self.optuna.ask()
            point = self.space.suggest(trial)
            if "arm" in trial.user_attrs:
                return self._claimed(trial)
            if point.name not in tried:
                break
            self.optuna.tell(trial, tried[point.name].score)  # the same seed would give the same score again
        for key, value in {"arm": point.name, "point": asdict(point), "seed": 0, "repeat": False}.items():
            trial.set_user_attr(key, value)
        return self._claimed(trial)

    def _left(self) -> Work | None:
        from optuna.trial import Trial, TrialState

        for frozen in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            attrs = frozen.user_attrs
            if "owner" in attrs and not lives(attrs["owner"]):
                return self._claimed(Trial(self.optuna, frozen._trial_id))
        return None

    def _claimed(self, trial: Any) -> Work:
        trial.set_user_attr("owner", me())
        attrs = trial.user_attrs
        point = None if attrs["arm"] == OWN else Point(**attrs["point"])
        return Work(trial, trial.number, point, attrs["seed"], attrs["repeat"])

    # ------------------------------------------------------------------------------------------------ what came of it

    def report(self, work: Work, rung: int, score: float, *, last: bool) -> bool:
        """Note a run's score at an evaluation, from 1; True when it is not worth going on."""
        work.trial.report(score, rung)
        return not work.repeat and work.point is not None and not last and work.trial.should_prune()

    def complete(
        self, work: Work, score: float, figures: dict[str, Any], classes: dict[str, Any], seconds: float
    ) -> None:
        """End a run."""
        for key, value in {"figures": figures, "classes": classes, "seconds": seconds}.items():
            work.trial.set_user_attr(key, value)
        self.optuna.tell(work.trial, score)

    def prune(self, work: Work, seconds: float) -> None:
        """End a run that was cut short."""
        from optuna.trial import TrialState

        work.trial.set_user_attr("seconds", seconds)
        self.optuna.tell(work.trial, state=TrialState.PRUNED)

    def fail(self, work: Work) -> None:
        """End a run that an error ended."""
        from optuna.trial import TrialState

        self.optuna.tell(work.trial, state=TrialState.FAIL)

    def leaderboard(self) -> list[Run]:
        """The runs so far, best first."""
        return ranked(self.runs())

    def runs(self) -> list[Run]:
        """Every run so far but those that only wait, in the order of their numbers."""
        from optuna.trial import TrialState

        result = []
        for frozen in self.optuna.get_trials(deepcopy=False):
            attrs = frozen.user_attrs
            if frozen.state == TrialState.WAITING or "arm" not in attrs:
                continue
            last = frozen.intermediate_values[max(frozen.intermediate_values)] if frozen.intermediate_values else None
            is_own = attrs["arm"] == OWN
            result.append(
                Run(
                    frozen.number,
                    attrs["arm"],
                    None if is_own else Point(**attrs["point"]),
                    attrs["seed"],
                    attrs["repeat"],
                    {"FAIL": "failed"}.get(frozen.state.name, frozen.state.name.lower()),
                    frozen.value if frozen.value is not None else last,
                    attrs.get("figures", {}),
                    attrs.get("classes", {}),
                    attrs.get("seconds", 0.0),
                )
            )
        return result


def ranked(runs: Sequence[Run]) -> list[Run]:
    """Best first: whole runs, then those under way or cut short, then failed ones."""
    order = {"complete": 0, "running": 1, "pruned": 2, "failed": 3}
    return sorted(runs, key=lambda run: (order.get(run.state, 4), -(run.score or 0.0)))


def leaders(runs: Sequence[Run]) -> list[Run]:
    """The points of the search that are worth repeating: the best complete ones, each once, the recipe's own apart."""
    found = [run for run in runs if run.state == "complete" and not run.repeat and run.point is not None]
    best_first = sorted(found, key=lambda run: run.score or 0.0)
    return sorted({run.name: run for run in best_first}.values(), key=lambda run: -(run.score or 0.0))[:CHALLENGERS]


def verdict(runs: Sequence[Run]) -> Verdict:
    """What the repeats show; see verdict.judge. A challenger that diverged or learned nothing in one is out."""
    scores: dict[str, list[float]] = {}
    for run in runs:
        if run.repeat and run.state == "complete" and run.score is not None:
            scores.setdefault(run.name, []).append(run.score)
    own = scores.pop(OWN, [])
    enough = {
        name: each for name, each in scores.items() if min(len(each), len(own)) >= FEWEST_REPEATS and min(each) > 0
    }
    return judge(own, enough)


def _first_points(own: Point, space: Space) -> list[tuple[str, Point]]:
    """The recipe as it is, and what the space begins with."""
    return [(OWN, own), *((point.name, point) for point in space.first_points() if point != own)]
