"""A repair as text for people: what was changed, what was left and why, and what to run next."""

from __future__ import annotations

import shlex

from rich.console import Console

from focalcli.coco import STDIN
from focalcli.fix import Change, Changes, FixReport
from focalcli.fix.document import KINDS
from focalcli.render.console import LABEL, print_line
from focalcli.render.text import place_and_message, plural

FIRST = 3  # records of each rule that are shown; json has all


def print_fix(report: FixReport, console: Console) -> None:
    """The changes by rule, then what an audit of the copy still finds."""
    print_line(console, ("stdin" if report.source == STDIN else str(report.source), "bold"))
    print_line(console, ", ".join(_records(report, kind) for kind in KINDS), label="Copy", indent=LABEL)
    print_line(console, _total(report), label="Changed", indent=LABEL)
    for group in report.changes:
        _print_changes(group, console)
    if report.nulls:
        print_line(console, f"NaN and Infinity, which are not JSON: {report.nulls:,} written as null", indent=2)
    left = plural(len(report.remaining), "finding") if report.remaining else "nothing"
    print_line(console, left, label="Left", indent=LABEL)
    for entry in report.remaining:
        finding = entry.finding
        count = plural(finding.count, finding.unit)
        print_line(console, (f"{finding.code} {finding.title}", "bold"), f"  {count}", indent=2)
        print_line(console, place_and_message(finding), indent=4)
        if entry.reason:
            print_line(console, ("left: ", "yellow"), entry.reason, indent=4)
        else:
            print_line(console, ("hint: ", "cyan"), finding.hint, indent=4)


def _records(report: FixReport, kind: str) -> str:
    before, after = report.before[kind], report.after[kind]
    gone = f" ({before - after:,} taken out)" if after < before else ""
    return f"{plural(after, kind[:-1]) if kind != 'categories' else _categories(after)}{gone}"


def _categories(n: int) -> str:
    return f"{n:,} categor{'y' if n == 1 else 'ies'}"


def _total(report: FixReport) -> str:
    rules = {group.code for group in report.changes}
    return f"{plural(report.n_changes, 'change')}, by {plural(len(rules), 'rule')}" if rules else "nothing"


def _print_changes(group: Changes, console: Console) -> None:
    count = (
        _categories(len(group.changes)) if group.kind == "categories" else plural(len(group.changes), group.kind[:-1])
    )
    title = (f"{group.code} {group.title}", "bold")
    print_line(console, title, f"  {count}: ", (group.does, "green"), indent=2)
    for change in group.changes[:FIRST]:
        print_line(console, f"{_place(change)}{change.text}", indent=4)
    if len(group.changes) > FIRST:
        print_line(console, (f"and {len(group.changes) - FIRST:,} more; --format json has all", "dim"), indent=4)


def _place(change: Change) -> str:
    if change.id is None:
        return ""
    name = {"images": "image", "annotations": "annotation", "categories": "category"}[change.kind]
    return f"{name} {change.id}" + ("" if change.image_id is None else f" (image {change.image_id})") + ": "


def print_next_step(report: FixReport, console: Console) -> None:
    """What was written, and what to run next."""
    if console.is_terminal:
        console.print()
    if report.output is None:
        print_line(console, "nothing was written; -o FILE writes the repaired copy")
        return
    print_line(console, f"wrote {report.output}")
    if report.joins:
        print_line(console, f"note: in {report.output.parent} it is one more split of the dataset; keep it elsewhere")
    words = ["focal", "audit", str(report.output), "--images", str(report.image_root)]
    print_line(console, f"next: {shlex.join(words)}")
