"""What a user asks of the figures, as text of the command line -> limits; fractions in 0..1 everywhere.

`AP50=0.4`, `CLASS=0.1`, `CLASS:AP50=0.3`, `*=0.1`. A class name may hold `=` and `:`: what is read from the right is
the number, then the metric, and a name that fits as a whole wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from focalcli.errors import FocalError, nearest
from focalcli.evaluation.saved import CLASS_METRICS, MEANS, Saved

EVERY_CLASS = "*"


@dataclass(frozen=True)
class Limit:
    """One option: its text as typed, what it is about, and the bound in 0..1."""

    option: str
    target: str
    bound: float


@dataclass(frozen=True)
class Limits:
    """What the user allows; nothing is no gate.

    Attributes:
        least: of a mean (target: one of MEANS). least_of_class: target is CLASS, CLASS:METRIC, * or *:METRIC.
        most_drop: of the mean and of every class against `baseline` (target: one of CLASS_METRICS).
    """

    least: tuple[Limit, ...] = ()
    least_of_class: tuple[Limit, ...] = ()
    most_drop: tuple[Limit, ...] = ()
    baseline: Saved | None = None

    def refuse_unknown_classes(self, names: Sequence[str], place: str) -> None:
        """Raise FocalError for a class or metric that there is not, or a baseline of others, before a detector runs.

        Args:
            names: of the classes that will be scored. place: what has them, for the message.
        """
        for limit in self.least_of_class:
            split_target(limit, names, place)
        if self.baseline is not None and self.baseline.classes.keys().isdisjoint(names):
            theirs = _in_words(list(self.baseline.classes)) or "none"
            raise FocalError(
                f"--baseline {self.baseline.path}: has no class of {place}, so nothing could drop; it has {theirs}",
                "give the evaluation of a detector of the same classes",
            )


NO_LIMITS = Limits()


def parse_limits(
    least: Sequence[str], least_of_class: Sequence[str], most_drop: Sequence[str], baseline: Saved | None
) -> Limits:
    """The options as limits.

    Raises:
        FocalError: no number in 0..1, an unknown metric, a drop without a baseline or a baseline without a drop.
    """
    if most_drop and baseline is None:
        raise FocalError(f"--max-drop {most_drop[0]}: against what?", "add --baseline metrics.json")
    if baseline is not None and not most_drop:
        raise FocalError(f"--baseline {baseline.path}: how much may the figures drop?", "add --max-drop 0.01")
    result = Limits(
        least=tuple(_limit("--min", text, "AP50=0.4") for text in least),
        least_of_class=tuple(_limit("--min-class", text, "crack=0.1") for text in least_of_class),
        most_drop=tuple(_limit("--max-drop", text, "AP50=0.01", "AP") for text in most_drop),
        baseline=baseline,
    )
    for limit in result.least:
        _refuse_unknown_metric(limit, limit.target, MEANS)
    for limit in result.most_drop:
        _refuse_unknown_metric(limit, limit.target, CLASS_METRICS)
    return result


def split_target(limit: Limit, names: Sequence[str], place: str) -> tuple[str, str]:
    """(class, metric) of a `--min-class`; the class is EVERY_CLASS for all that are not named by another one.

    Raises:
        FocalError: there is no such class or metric.
    """
    if limit.target in names or limit.target == EVERY_CLASS:
        return limit.target, "AP"
    name, colon, metric = limit.target.rpartition(":")
    if colon and (name in names or name == EVERY_CLASS):
        _refuse_unknown_metric(limit, metric, CLASS_METRICS)
        return name, metric
    wanted = name if colon and metric in CLASS_METRICS else limit.target
    guess = nearest(wanted, names)
    raise FocalError(
        f"{limit.option}: {place} has no class {wanted!r}; it has {_in_words(names)}",
        f"did you mean {guess!r}?" if guess else "write CLASS=0.1 or CLASS:AP50=0.1",
    )


def _in_words(names: Sequence[str]) -> str:
    """The first of them, and how many more."""
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")


def _limit(option: str, text: str, example: str, default: str = "") -> Limit:
    """`default`: the target of a number alone."""
    target, _, number = text.rpartition("=")
    target = target or default
    try:
        bound = float(number)
    except ValueError:
        bound = None
    if not target or bound is None:
        raise FocalError(f"{option} {text}: expected NAME=NUMBER", f"such as {option} {example}")
    if not 0 <= bound <= 1:  # False for NaN too
        percent = f"write {target}={bound / 100:g} for {bound:g} %" if 1 < bound <= 100 else f"such as {example}"
        raise FocalError(f"{option} {text}: expected a fraction in 0..1, as in metrics.json", percent)
    return Limit(f"{option} {text}", target, bound)


def _refuse_unknown_metric(limit: Limit, metric: str, known: Sequence[str]) -> None:
    if metric not in known:
        guess = nearest(metric, known)
        raise FocalError(
            f"{limit.option}: no metric {metric!r} here; expected one of {', '.join(known)}",
            f"did you mean {guess}?" if guess else "`focal eval` prints them",
        )
