"""Gates: limits on the figures of an evaluation that a CI job sets, each passed or failed with its reason.

Every gate is checked, not only up to the first that fails. Where nothing can be measured a gate fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from focalcli.evaluation.ap import ApTable, ClassAp
from focalcli.evaluation.limits import EVERY_CLASS, Limit, Limits, split_target
from focalcli.evaluation.saved import Saved

CLASSES_NAMED = 6
_SLACK = 1e-9  # 0.40 - 0.39 is above 0.01 in binary; a limit that is just kept passes


@dataclass(frozen=True)
class Gate:
    """One gate's verdict.

    Attributes:
        option: as it was typed. metric: of the figure. limit: in 0..1.
        value: what was measured, the worst class or the largest drop; None where there was nothing to measure, which
            fails.
        classes: those that failed, all of them.
        message: what was found against the limit, with the first of the classes, in one line.
    """

    option: str
    metric: str
    limit: float
    value: float | None
    passed: bool
    classes: tuple[str, ...]
    message: str


def check(table: ApTable, limits: Limits) -> tuple[Gate, ...]:
    """One verdict for each limit."""
    gates = [_mean(table, limit) for limit in limits.least]
    names = [entry.name for entry in table.classes]
    targets = [split_target(limit, names, "the table") for limit in limits.least_of_class]
    for limit, (name, metric) in zip(limits.least_of_class, targets, strict=True):
        if name == EVERY_CLASS and name not in names:
            others = {other for other, of in targets if of == metric}
            entries = [entry for entry in table.classes if entry.n_val and entry.name not in others]
            gates.append(_every_class(entries, limit, metric))
        else:
            gates.append(_named_class([entry for entry in table.classes if entry.name == name], limit, metric))
    if limits.baseline is not None:
        gates += [_drop(table, limits.baseline, limit) for limit in limits.most_drop]
    return tuple(gates)


def baseline_warnings(table: ApTable, dataset_sha256: str, baseline: Saved) -> list[str]:
    """What makes a drop against the baseline mean less than it seems, in words."""
    found = []
    if baseline.dataset_sha256 is None:
        found.append("does not say what dataset it is of")
    elif baseline.dataset_sha256 != dataset_sha256:
        found.append(f"is of another dataset or another state of it ({baseline.dataset})")
    now = {entry.name for entry in table.classes}
    if new := sorted(now - baseline.classes.keys()):
        found.append(f"has no {_words(map(repr, new))}, so no drop of {'it' if len(new) == 1 else 'them'}")
    if gone := sorted(baseline.classes.keys() - now):
        found.append(f"has {_words(map(repr, gone))}, which {'is' if len(gone) == 1 else 'are'} not scored now")
    lost = [e.name for e in table.classes if e.AP is None and baseline.classes.get(e.name, {}).get("AP") is not None]
    if lost:
        found.append(f"has objects of {_words(map(repr, lost))}, and the dataset has none now")
    return [f"warning: baseline {baseline.path} {text}" for text in found]


def _mean(table: ApTable, limit: Limit) -> Gate:
    metric, value = limit.target, table.summary[limit.target]
    passed = value is not None and value >= limit.bound - _SLACK
    message = f"{metric} is {_shown(value, limit.bound)}; {limit.bound:g} is asked for"
    return Gate(limit.option, metric, limit.bound, value, passed, (), message)


def _named_class(entries: list[ClassAp], limit: Limit, metric: str) -> Gate:
    values = [getattr(entry, metric) for entry in entries]
    value = None if None in values else min(values)  # a name that two categories share stands for both
    passed = value is not None and value >= limit.bound - _SLACK
    entry = entries[values.index(value)]
    message = f"{metric} of {_figure(entry, metric, limit.bound)}; {limit.bound:g} is asked for"
    return Gate(limit.option, metric, limit.bound, value, passed, () if passed else (entry.name,), message)


def _every_class(entries: list[ClassAp], limit: Limit, metric: str) -> Gate:
    """A class that has objects, none of them of the metric's size, has nothing to measure and is left out."""
    valued = sorted((getattr(e, metric), n) for n, e in enumerate(entries) if getattr(e, metric) is not None)
    if not valued:
        message = f"no class has a defined {metric}; {limit.bound:g} is asked for"
        return Gate(limit.option, metric, limit.bound, None, False, (), message)
    low = [entries[n] for value, n in valued if value < limit.bound - _SLACK]
    worst, place = valued[0]
    if low:
        words = _words(_figure(entry, metric, limit.bound) for entry in low)
        message = f"{metric} of {words}; {limit.bound:g} is asked for"
    else:
        words = _figure(entries[place], metric, limit.bound)
        message = f"the lowest {metric}: {words}; {limit.bound:g} is asked for"
    return Gate(limit.option, metric, limit.bound, worst, not low, tuple(entry.name for entry in low), message)


def _drop(table: ApTable, baseline: Saved, limit: Limit) -> Gate:
    """Of the mean and of every class that is defined in both."""
    metric = limit.target
    pairs = [("the mean", baseline.means[metric], table.summary[metric])]
    for entry in table.classes:
        earlier = baseline.classes.get(entry.name, {}).get(metric)
        pairs.append((entry.name, earlier, getattr(entry, metric)))
    drops = [(a - b, n) for n, (_, a, b) in enumerate(pairs) if a is not None and b is not None]
    if not drops:
        message = f"no {metric} is defined in both {baseline.path} and now"
        return Gate(limit.option, metric, limit.bound, None, False, (), message)
    worst, place = max(drops, key=lambda pair: pair[0])
    fallen = sorted((pair for pair in drops if pair[0] > limit.bound + _SLACK), key=lambda pair: -pair[0])
    if fallen:
        words = _words(f"{_who(pairs, n)} by {_shown(drop, limit.bound)}{_from_to(pairs[n])}" for drop, n in fallen)
        message = f"{metric} fell: {words}; {limit.bound:g} is allowed"
    elif worst > 0:
        words = f"{_who(pairs, place)}, by {_shown(worst, limit.bound)}"
        message = f"{metric} fell the most for {words}; {limit.bound:g} is allowed"
    else:
        message = f"no {metric} fell; {limit.bound:g} is allowed"
    classes = tuple(pairs[n][0] for _, n in fallen if n)
    return Gate(limit.option, metric, limit.bound, worst, not fallen, classes, message)


def _who(pairs: list[tuple[str, float | None, float | None]], place: int) -> str:
    name = pairs[place][0]
    return repr(name) if place else name


def _from_to(pair: tuple[str, float | None, float | None]) -> str:
    return f" ({pair[1]:.3f} to {pair[2]:.3f})"


def _figure(entry: ClassAp, metric: str, bound: float) -> str:
    value = getattr(entry, metric)
    few = f" ({entry.n_val:,} object{'' if entry.n_val == 1 else 's'})" if value is not None or not entry.n_val else ""
    return f"{entry.name!r} is {_shown(value, bound)}{few}"


def _shown(value: float | None, bound: float) -> str:
    """With as many digits as it takes to see on which side of the limit it is; "n/a" where undefined."""
    if value is None:
        return "n/a"
    for digits in range(3, 9):
        text = f"{value:.{digits}f}"
        if (float(text) < bound) == (value < bound) and (float(text) > bound) == (value > bound):
            return text
    return f"{value:.3f}"


def _words(parts: Iterable[str]) -> str:
    listed = list(parts)
    more = f" and {len(listed) - CLASSES_NAMED:,} more classes" if len(listed) > CLASSES_NAMED else ""
    return ", ".join(listed[:CLASSES_NAMED]) + more
