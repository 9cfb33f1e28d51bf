"""One short training of the recipe with some of its keys changed: a real run, which a kill leaves to go on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focalcli.errors import ExitCode, FocalError
from focalcli.recipe import Recipe, absolute, as_dict, from_dict
from focalcli.work import unpack


class GivenUp(Exception):
    """The study wants no more of this run; what it came to so far stays."""


@dataclass(frozen=True)
class Result:
    """What a run came to, at its last evaluation.

    Attributes:
        score: of the study's metric. figures: AP and its kin. classes: AP of each class, None without objects.
    """

    score: float
    figures: Mapping[str, float | None]
    classes: Mapping[str, float | None]


def changed(recipe: Recipe, keys: Mapping[str, Any], *, name: str) -> Recipe:
    """The recipe with these dotted keys, absolute paths and another name."""
    values = as_dict(absolute(recipe))
    for key, value in keys.items():
        section, leaf = key.split(".")
        values[section][leaf] = value
    return from_dict({**values, "name": name}, place="focal tune")


def train(recipe: Recipe, runs: Path, *, device: str, metric: str, reached: Callable[[int, float], None]) -> Result:
    """Train in runs/<name>, or go on where a kill left it, and leave metrics.jsonl but no checkpoint.

    Args:
        reached: called with the epoch and the score after each evaluation; may raise GivenUp.

    Raises:
        GivenUp: from `reached`; the run's checkpoints are gone.
        Stopped: a signal; the run can go on.
        FocalError: as unpack.train; a run that diverges scores 0 and raises nothing.
    """
    folder = runs / recipe.name
    resume = (folder / "checkpoints" / "last.safetensors").is_file()

    def display(folder: Path, append: bool) -> _Told:
        return _Told(folder, metric, reached)

    try:
        code = unpack.train(
            recipe, runs, device=device, resume=resume, title="a trial of focal tune", again="focal tune",
            display=display,
        )  # fmt: skip
    except GivenUp:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        raise
    except FocalError as error:
        if error.exit_code != ExitCode.DIVERGED:
            raise
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return Result(0.0, {}, {})
    if code:
        raise Stopped(code)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # a study of a hundred runs would fill the disk
    return result_of(folder, metric)


class Stopped(Exception):
    """A signal ended the run, which was saved; `exit_code` is the shell's."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class _Told:
    """A display that hears the evaluations and says nothing. Fits what unpack.train takes."""

    def __init__(self, folder: Path, metric: str, reached: Callable[[int, float], None]) -> None:
        self.metric, self.reached = metric, reached

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def evaluated(self, epoch: int, metrics: dict[str, Any], best: bool) -> None:
        self.reached(epoch, score_of(metrics, self.metric))

    def started(self, *_: object) -> None:
        pass

    note = stepped = finished = started


def score_of(metrics: Mapping[str, Any], metric: str) -> float:
    """A figure of an evaluation; class:NAME is the AP of one class, and what is undefined is 0."""
    kind, _, name = metric.partition(":")
    return float((metrics["classes"].get(name) if kind == "class" else metrics.get(metric)) or 0.0)


def result_of(folder: Path, metric: str) -> Result:
    """What a finished run's metrics.jsonl says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = next(line for line in reversed(lines) if line["kind"] == "eval")
    figures = {name: value for name, value in last.items() if name not in ("kind", "step", "epoch", "classes")}
    return Result(score_of(last, metric), figures, last["classes"])
