"""Recipe -> runs of a study, as many as the budget allows -> what won, or that nothing did."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from focalcli.anchors import AnchorSpec
from focalcli.audit.assignment import assign
from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.focal_loss import equilibrium, loss_at_rest
from focalcli.recipe import Recipe, as_dict
from focalcli.recommend.per_class import repeat_factors, varied_alpha
from focalcli.training.device import gpu_count
from focalcli.work import unpack
from focalcli.work.tuning.sharing import alone, readable
from focalcli.work.tuning.space import Point, Space
from focalcli.work.tuning.study import SEARCH_SHARE, Run, Study, Work, verdict
from focalcli.work.tuning.trials import GivenUp, Stopped, changed, train
from focalcli.work.tuning.verdict import Verdict

RUNS_WANTED = 12  # whole runs that the search should have room for, when the length of a run is ours to choose
LOOKS = 4  # evaluations of a run
FEWEST_EPOCHS = 2


@dataclass(frozen=True)
class Budget:
    """How long a call of `focal tune` may work.

    Attributes:
        minutes: of this call. trials: of the study's search in all; repeats are not counted.
        epochs: of a run; None chooses so many that RUNS_WANTED fit.
    """

    minutes: float
    trials: int
    epochs: int | None = None


@dataclass(frozen=True)
class Outcome:
    """A study as it stands.

    Attributes:
        recipe: the one to train: the winner's, or the recipe as it was. keys: what is changed in it.
        stopped: the exit code of the signal that ended the call, or None.
    """

    folder: Path
    metric: str
    epochs: int
    runs: tuple[Run, ...]  # best first
    verdict: Verdict
    recipe: Recipe
    keys: Mapping[str, Any]
    stopped: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = self.verdict
        return {
            "schema_version": 1,
            "kind": "tuning",
            "folder": str(self.folder),
            "metric": self.metric,
            "epochs": self.epochs,
            "noise": found.noise,
            "winner": found.winner,
            "changed": dict(self.keys),
            "standings": [
                {**asdict(standing), "interval": list(standing.interval), "real": standing.real}
                for standing in found.standings
            ],
            "runs": [run.to_row() for run in self.runs],
        }


def tune(
    recipe: Recipe,
    runs: Path,
    budget: Budget,
    *,
    device: str,
    metric: str,
    told: Callable[[str, Study], None],
    others_done: Callable[[], None] = lambda: None,
) -> Outcome:
    """Search, repeat, judge; goes on with the study in runs/<name>-tune where there is one.

    Args:
        metric: as eval.best. told: called with a line of news, and the study as it stands.
        others_done: waits for other processes of the same study, before the verdict.

    Raises:
        FocalError: bad input, another recipe's study, or runs that cannot be trained at all.
    """
    started = time.monotonic()
    train_set = unpack.dataset_of(recipe, "train")
    unpack.dataset_of(recipe, "val")
    space = Space.of(train_set)
    if metric.startswith("class:") and metric[6:] not in space.objects:
        raise FocalError(f"--metric {metric}: no such class in {train_set.path}", "choose AP or another class")
    folder = runs / f"{recipe.name}-tune"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FocalError(
            f"{folder}: cannot be made ({error.strerror})", "choose another place with --runs DIR"
        ) from None
    with alone(folder):
        epochs = _epochs(recipe, folder, budget, device)
    rest = AtRest(recipe, train_set)
    facts = {
        "recipe": {key: value for key, value in as_dict(recipe).items() if key != "name"},
        "data": train_set.sha256,
        "metric": metric,
        "epochs": epochs,
        "own": asdict(_own_point(recipe, space, rest)),
    }
    with readable(folder):
        study = Study(folder, facts, space, recipe.schedule.seed)
        deadline = started + 60 * budget.minutes
        search_until = started + 60 * budget.minutes * SEARCH_SHARE
        stopped = None
        while stopped is None:
            work = _next(study, budget, search_until, deadline)
            if work is None:
                break
            keys = {} if work.point is None else space.keys(work.point, rest)
            length = epochs if work.point is None else as_long(recipe, train_set, work.point, epochs)
            keys |= _short(recipe, length) | {"schedule.seed": (recipe.schedule.seed + work.seed) % 2**32}
            stopped = _run(study, work, changed(recipe, keys, name=f"{work.number:04}"), device, metric, told)
        if stopped is None:
            others_done()
        found, leaderboard = verdict(study.runs()), tuple(study.leaderboard())
        winner = next((run.point for run in study.runs() if run.name == found.winner), None)
        keys = {}
        if winner is not None:
            length = as_long(recipe, train_set, winner, recipe.schedule.epochs)
            keys = space.keys(winner, rest)
            keys |= {"schedule.epochs": length} if length != recipe.schedule.epochs else {}
    tuned = changed(recipe, keys, name=f"{recipe.name}-tuned"[:100])
    return Outcome(folder, metric, epochs, leaderboard, found, tuned, keys, stopped)


def gpus(device: str) -> int:
    """How many GPUs there are to share; 0 on a CPU."""
    return gpu_count() if device != "cpu" else 0


def _next(study: Study, budget: Budget, search_until: float, deadline: float) -> Work | None:
    """What there is time for, what was left under way first; the first run of a study always."""
    runs = study.runs()
    whole = [run.seconds for run in runs if run.state == "complete"]
    needed = float(np.median(whole)) if whole else 0.0
    now = time.monotonic()
    fits = not whole or now + needed <= deadline
    if fits and (work := study.next_left()):
        return work
    searched = sum(not run.repeat for run in runs)
    if searched < budget.trials and (not whole or now + needed <= search_until):
        return study.next_search()
    return study.next_repeat() if whole and fits else None


def _run(
    study: Study, work: Work, recipe: Recipe, device: str, metric: str, told: Callable[[str, Study], None]
) -> int | None:
    """Train one run and note what came of it; the exit code of a signal that ended it, or None."""
    started = time.monotonic()
    rung, epochs, every = 0, recipe.schedule.epochs, recipe.eval.every

    def reached(epoch: int, score: float) -> None:
        nonlocal rung
        rung = math.ceil(epoch / every)
        if study.report(work, rung, score, last=epoch >= epochs):
            raise GivenUp
        told("", study)

    what = f"run {work.number}, {work.name}" + (f", seed {work.seed}" if work.repeat else "")
    told(f"{what}: starts", study)
    try:
        result = train(recipe, study.folder / "runs", device=device, metric=metric, reached=reached)
    except GivenUp:
        study.prune(work, time.monotonic() - started)
        told(f"{what}: cut short at evaluation {rung} of {math.ceil(epochs / every)}", study)
    except Stopped as signal:
        return signal.exit_code
    except BaseException:
        study.fail(work)
        raise
    else:
        study.complete(work, result.score, dict(result.figures), dict(result.classes), time.monotonic() - started)
        told(f"{what}: {metric} {100 * result.score:.1f}", study)
    return None


def as_long(recipe: Recipe, train_set: Dataset, point: Point, epochs: int) -> int:
    """So many epochs with the point's repeats as show the pictures that `epochs` of the recipe's own do."""
    if recipe.data.sampler != "shuffle":  # its epochs are as long whatever the repeats
        return epochs
    own, its = (
        float(repeat_factors(train_set, threshold, recipe.data.repeat_power).sum())
        for threshold in (recipe.data.repeat_threshold, point.repeat_threshold)
    )
    return max(1, round(epochs * own / its))


def _short(recipe: Recipe, epochs: int) -> dict[str, Any]:
    """The keys of a run of so many epochs, looked at LOOKS times."""
    return {
        "schedule.epochs": epochs,
        "schedule.warmup_steps": round(recipe.schedule.warmup_steps * min(1.0, epochs / recipe.schedule.epochs)),
        "schedule.patience": 0,
        "eval.every": math.ceil(epochs / LOOKS),
    }


def _epochs(recipe: Recipe, folder: Path, budget: Budget, device: str) -> int:
    """Of a run: as asked, as the study began with, or so many that RUNS_WANTED whole runs fit into the search."""
    note = folder / "epochs.txt"
    known = int(note.read_text()) if note.is_file() and note.read_text().strip().isdigit() else None
    if budget.epochs is not None:
        if known is None:
            note.write_text(f"{budget.epochs}\n")
        return budget.epochs
    if known is not None:
        return known
    cost = unpack.dry_run(recipe, device=device)
    room = 60 * budget.minutes * SEARCH_SHARE / RUNS_WANTED - LOOKS * cost.evaluation_seconds
    epochs = max(FEWEST_EPOCHS, min(recipe.schedule.epochs, int(room / max(cost.seconds_per_epoch, 1e-3))))
    note.write_text(f"{epochs}\n")
    return epochs


def _own_point(recipe: Recipe, space: Space, rest: AtRest) -> Point:
    """Where the recipe lies in the space; a value for each class counts as their mean, unless it is a known point's."""
    values = as_dict(recipe)
    loss, repeats = values["loss"], values["data"]["repeat_threshold"]
    own = {key: loss[key.split(".")[1]] for key in ("loss.alpha", "loss.alpha_by", "loss.gamma")}
    own["data.repeat_threshold"] = repeats
    for point in space.first_points():
        if own.items() <= space.keys(point, rest).items():
            return point
    return Point(_mean(loss["alpha"]), _mean(loss["gamma"]), repeat_threshold=repeats)


def _mean(value: Any) -> float:
    return float(np.mean(list(value.values()))) if isinstance(value, Mapping) else float(value)


class AtRest:
    """What follows from alpha and gamma when each class's bias is at rest, with the recipe's anchors.

    See focal_loss.equilibrium and loss_at_rest.
    """

    def __init__(self, recipe: Recipe, train_set: Dataset) -> None:
        spec = AnchorSpec(tuple(recipe.anchors.sizes), tuple(recipe.anchors.ratios))
        found = assign(train_set, spec, recipe.input.min_size, recipe.input.max_size).classes
        self.foreground = {
            category.name: entry.foreground or 1e-9
            for category, entry in zip(train_set.categories, found, strict=True)
            if entry.boxes
        }
        self.loss = as_dict(recipe)["loss"]
        objects = [entry.boxes for entry in found if entry.boxes]
        self.alpha = varied_alpha(
            self._each(self.loss["alpha"]), recipe.loss.alpha_by, objects, recipe.loss.beta,
            lambda: list(self.foreground.values()),
        )  # fmt: skip

    def priors(self, alpha: Any, gamma: float) -> dict[str, float] | None:
        """The prior of each class; None where the recipe has one number, which stays."""
        if not isinstance(self.loss["prior"], Mapping):
            return None
        alphas = np.broadcast_to(self._each(alpha), len(self.foreground)).tolist()
        rests = {
            name: equilibrium(share, 1.0, alpha=a, gamma=gamma)
            for (name, share), a in zip(self.foreground.items(), alphas, strict=True)
        }
        return {name: float(f"{min(max(p, 1e-4), 0.2):.2g}") for name, p in rests.items()}

    def box_weight(self, alpha: Any, gamma: Any) -> float:
        """The box weight with which the two losses begin as the recipe's do."""
        own, new = (
            loss_at_rest(list(self.foreground.values()), alpha=a, gamma=self._each(g))
            for a, g in ((self.alpha, self.loss["gamma"]), (self._each(alpha), gamma))
        )
        return self.loss["box_weight"] * new / own

    def _each(self, value: Any) -> Any:
        """(K,) of a mapping of classes; one number stays one."""
        if not isinstance(value, Mapping):
            return value
        return [value.get(name, value.get("default")) for name in self.foreground]
