"""Gates: limits on the figures of an audit that a CI job sets, each passed or failed with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from focalcli.audit.report import AuditReport, SplitReport

CLASSES_NAMED = 6


@dataclass(frozen=True)
class Limits:
    """What the user allows; None is no gate.

    Attributes:
        max_head_tail: largest count over smallest, of the reference split's classes that have objects.
        max_background: background anchors per positive one in the reference split.
        min_instances: objects of every class in the reference split.
        min_val: objects, in each other split, of every class that the reference split has objects of.
    """

    max_head_tail: float | None = None
    max_background: float | None = None
    min_instances: int | None = None
    min_val: int | None = None


@dataclass(frozen=True)
class GateResult:
    """One gate's verdict.

    Attributes:
        name: the option's, without its dashes. value: what was measured, the worst class or split; None where there was
            nothing to measure, which fails.
        message: what was found against the limit, with the classes, in one line.
    """

    name: str
    limit: float
    value: float | None
    passed: bool
    message: str


def check(report: AuditReport, limits: Limits) -> tuple[GateResult, ...]:
    """One result for each limit that is set."""
    train = report.split(report.reference)
    results = []
    if limits.max_head_tail is not None:
        results.append(_head_tail(train, limits.max_head_tail))
    if limits.max_background is not None:
        results.append(_background(train, limits.max_background))
    if limits.min_instances is not None:
        results.append(_instances(report, train, limits.min_instances))
    if limits.min_val is not None:
        results.append(_val(report, train, limits.min_val))
    return tuple(results)


def _head_tail(train: SplitReport, limit: float) -> GateResult:
    if train.head_tail is None:
        return GateResult("max-head-tail", limit, None, False, f"{train.name} has no objects")
    present = [row for row in train.classes if row.instances]
    head, tail = max(present, key=lambda row: row.instances), min(present, key=lambda row: row.instances)
    passed = train.head_tail <= limit
    message = (
        f"{train.name} has {_number(train.head_tail)}:1, {head.name!r} {head.instances:,} to {tail.name!r} "
        f"{tail.instances:,}; {_number(limit)}:1 is allowed"
    )
    return GateResult("max-head-tail", limit, train.head_tail, passed, message)


def _background(train: SplitReport, limit: float) -> GateResult:
    value = train.anchors.background_per_positive
    if value is None:
        return GateResult("max-background", limit, None, False, f"{train.name} has no positive anchor")
    message = f"{train.name} has {_number(value)} background anchors for each positive; {_number(limit)} are allowed"
    return GateResult("max-background", limit, value, value <= limit, message)


def _instances(report: AuditReport, train: SplitReport, limit: int) -> GateResult:
    # a category that no split has an object of is not a class to train
    used = {row.name for split in report.splits for row in split.classes if row.instances}
    counts = [(row.instances, row.name) for row in train.classes if row.name in used]
    missing = used - {name for _, name in counts}
    return _fewest("min-instances", limit, [(train.name, counts + [(0, name) for name in sorted(missing)])])


def _val(report: AuditReport, train: SplitReport, limit: int) -> GateResult:
    trained = [row.name for row in train.classes if row.instances]
    counts = []
    for split in report.splits:
        if split is not train:
            found = {row.name: row.instances for row in split.classes}
            counts.append((split.name, [(found.get(name, 0), name) for name in trained]))
    return _fewest("min-val", limit, counts)


def _fewest(gate: str, limit: int, splits: Sequence[tuple[str, Sequence[tuple[int, str]]]]) -> GateResult:
    """The verdict on (objects, class) pairs of each split."""
    everything = [count for _, counts in splits for count, _ in counts]
    if not everything:
        reason = "there is no class to count" if splits else "there is no split beside the one to train on"
        return GateResult(gate, limit, None, False, reason)
    worst = min(everything)
    below = [(name, [pair for pair in sorted(counts) if pair[0] < limit]) for name, counts in splits]
    short = "; ".join(f"{name}: {_classes(pairs)}" for name, pairs in below if pairs)
    if short:
        return GateResult(gate, limit, worst, False, f"fewer than {limit:,} objects in {short}")
    return GateResult(gate, limit, worst, True, f"every class has {worst:,} objects or more; {limit:,} are asked for")


def _classes(pairs: Iterable[tuple[int, str]]) -> str:
    words = [f"{name!r} {count:,}" for count, name in pairs]
    more = f" and {len(words) - CLASSES_NAMED:,} more classes" if len(words) > CLASSES_NAMED else ""
    return ", ".join(words[:CLASSES_NAMED]) + more


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"
