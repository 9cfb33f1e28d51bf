"""An audit as tables and lines for people: the whole picture of a small dataset on one screen.

Shares are x100 here, and every table and line that shows them says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from focalcli.audit import AuditReport, ClassRow, SplitReport
from focalcli.audit.figures import AREA_NAMES, MAX_DETECTIONS, Drift, FirstLoss
from focalcli.audit.gates import GateResult
from focalcli.render.console import LABEL, Column, Plain, has_unicode, print_line, print_table
from focalcli.render.text import finding_counts, fold, number, percent, place_and_message, plural, ratio

if TYPE_CHECKING:
    from rich.console import Console

BAR_CELLS = 16
NAMED = 3  # classes that a line names
DRIFTED = 0.01  # adjusted p-value from which on a class is said to have drifted
# a class is in another's company when this share of its pictures holds the other, and this much more than of all do
IN_COMPANY, COMPANY_LIFT, COMPANY_IMAGES = 0.9, 1.5, 5
NOTES = {
    "S/M/L": "S/M/L: small, medium, large at network size",
    "per box": "per box: median of positive anchors",
    "reached": "reached: boxes with an anchor of IoU >= 0.5",
    "cells/side": "cells/side: median of box side / stride",
    "level": "level: of most positives",
}
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def print_audit(report: AuditReport, console: Console | Plain, gates: Sequence[GateResult] = ()) -> None:
    """Splits, classes, what is uneven in them, findings, gates."""
    train = report.split(report.reference)
    _print_splits(report, console)
    console.print()
    _print_classes(report, train, console)
    console.print()
    _print_imbalance(train, console)
    _print_anchors(report, train, console)
    if train.n_objects:
        _print_sizes(report, train, console)
        _print_pictures(train, console)
        for drift in report.drift:
            _print_drift(drift, report.reference, console)
    console.print()
    _print_findings(report, console)
    if gates:
        console.print()
        _print_gates(gates, console)


def _print_splits(report: AuditReport, console: Console | Plain) -> None:
    splits = report.splits
    print_table(
        console,
        [
            Column("split", [split.name for split in splits], left=True, style="bold"),
            Column("images", [number(split.n_images) for split in splits]),
            Column("without objects", [number(split.n_empty) for split in splits]),
            Column("objects", [number(split.n_objects) for split in splits]),
            Column("most in one image", [number(split.most_objects_in_an_image) for split in splits], rank=1),
            Column("crowd regions", [number(split.n_crowds) for split in splits], rank=2),
            Column("classes", [f"{split.n_present:,} of {len(split.classes):,}" for split in splits]),
            Column("file", [str(split.path) for split in splits], left=True, style="dim", rank=3),
        ],
    )


def _print_classes(report: AuditReport, train: SplitReport, console: Console | Plain) -> None:
    rows = sorted((row for row in train.classes if row.instances), key=lambda row: -row.instances)
    top, folded, tail = fold(rows)
    shown = [*top, *([None] if folded else []), *tail]
    others = [split for split in report.splits if split is not train]

    def cells(read: Callable[[ClassRow], str], gap: str = "") -> list[str]:
        return [gap if row is None else read(row) for row in shown]

    largest = max((row.share or 0 for row in rows), default=0) or 1
    columns = [
        Column("class", cells(lambda row: row.name, f"({len(folded):,} more)"), left=True, style="bold"),
        Column("images", cells(lambda row: number(row.images)), rank=2),
        Column(train.name if others else "objects", cells(lambda row: number(row.instances))),
        Column("share %", cells(lambda row: percent(row.share))),
        Column("", cells(lambda row: _bar(row.share / largest, console)), left=True, style="cyan", rank=6),
    ]
    for rank, split in enumerate(others):
        counts = {row.name: row.instances for row in split.classes}
        title_and_cells = split.name, cells(lambda row, counts=counts: number(counts.get(row.name)))
        columns.append(Column(*title_and_cells, rank=5 if rank else 0))  # one split to compare with always stays
    columns += [
        Column("group", cells(lambda row: row.group or "-"), left=True, rank=4),
        Column("S/M/L %", cells(lambda row: _shares(row.scale.at_network)), rank=3, note=NOTES["S/M/L"]),
        Column("positives", cells(lambda row: number(row.anchors.positives)), rank=7),
        Column("per box", cells(lambda row: number(row.anchors.positives_per_box, "g")), note=NOTES["per box"]),
        Column("reached %", cells(lambda row: percent(row.anchors.reached)), note=NOTES["reached"]),
        Column("cells/side", cells(lambda row: number(row.anchors.cells_per_side, ".1f")), note=NOTES["cells/side"]),
        Column("level", cells(lambda row: row.anchors.main_level or "-"), rank=1, note=NOTES["level"]),
    ]
    print_table(console, columns)
    if folded:
        span = f"{folded[0].instances:,} to {folded[-1].instances:,} objects each"
        print_line(console, (f"{plural(len(folded), 'class')} of {span} folded; --format json has all", "dim"))
    if absent := len(train.classes) - train.n_present:
        print_line(console, (f"{plural(absent, 'class')} without objects in {train.name} not shown", "dim"))


def _bar(share: float, console: Console | Plain) -> str:
    """A bar of BAR_CELLS cells for a share of 1; eighths of a cell where the terminal has blocks."""
    if not has_unicode(console):
        return "#" * (round(share * BAR_CELLS) or int(share > 0))
    eighths = round(share * BAR_CELLS * 8) or int(share > 0)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def _shares(counts: Sequence[int]) -> str:
    """Whole percents that keep their order, such as 5/80/15."""
    total = sum(counts)
    return "/".join(percent(count / total, 0) for count in counts) if total else "-"


def _print_imbalance(train: SplitReport, console: Console | Plain) -> None:
    if train.head_tail is None:
        print_line(console, f"{train.name} has no objects", label="Imbalance", indent=LABEL)
        return
    text = (
        f"{ratio(train.head_tail)}:1 head to tail, Gini {train.gini:.2f} (0 is even), "
        f"{plural(train.n_present, 'class')}, as even as {train.effective_classes:.1f}"
    )
    groups = [(group, sum(row.group == group for row in train.classes)) for group in ("frequent", "common", "rare")]
    text += " (" + ", ".join(f"{n:,} {group}" for group, n in groups if n) + ")"
    print_line(console, text, label="Imbalance", indent=LABEL)


def _print_anchors(report: AuditReport, train: SplitReport, console: Console | Plain) -> None:
    anchors = train.anchors
    sizes = ", ".join(f"{size:g}" for size in report.spec.sizes)
    where = f"at {report.min_size} px with sizes {sizes}"
    if anchors.background_per_positive is None:
        print_line(console, f"no positive anchor {where}", label="Anchors", indent=LABEL)
    else:
        text = f"1 positive for every {ratio(anchors.background_per_positive)} background anchors {where}"
        print_line(console, text, label="Anchors", indent=LABEL)
    if anchors.images_without_size:
        print_line(console, f"{plural(anchors.images_without_size, 'image')} of unknown size left out", indent=LABEL)
    if report.first_loss.negatives is not None:
        print_line(console, _first_loss(report.first_loss, train), label="First loss", indent=LABEL)


def _first_loss(loss: FirstLoss, train: SplitReport) -> str:
    values = [(name, getattr(loss, name)) for name in ("alpha", "gamma", "prior")]
    terms = ", ".join(name if value is None else f"{name} {value:g}" for name, value in values)
    text = f"negatives carry {_loss_share(loss.negatives)} of it with {terms} ({loss.source})"
    by_class = [
        (share, row.name) for share, row in zip(loss.per_class, train.classes, strict=True) if share is not None
    ]
    if len(by_class) > 1:
        (low, least), (high, most) = min(by_class), max(by_class)
        text += f"; from {_loss_share(low)} for {least} to {_loss_share(high)} for {most}"
    return text


def _loss_share(share: float) -> str:
    return "under 0.1 %" if share < 0.001 else "over 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def _print_sizes(report: AuditReport, train: SplitReport, console: Console | Plain) -> None:
    at_network, in_file = (
        [sum(counts) for counts in zip(*(getattr(row.scale, where) for row in train.classes), strict=True)]
        for where in ("at_network", "in_file")
    )
    total = sum(at_network)
    parts = []
    if total:
        shares = (f"{percent(n / total, 0)} % {name}" for n, name in zip(at_network, AREA_NAMES, strict=True))
        parts.append(f"{', '.join(shares)} at {report.min_size} px ({_shares(in_file)} in the file)")
    if border := train.layout.at_border:
        parts.append(f"{percent(border / train.n_objects)} % of the boxes touch the border of their picture")
    if parts:
        print_line(console, "; ".join(parts), label="Sizes", indent=LABEL)


def _print_pictures(train: SplitReport, console: Console | Plain) -> None:
    parts = [f"{train.n_objects / train.n_images:.1f} objects each, at most {train.most_objects_in_an_image:,}"]
    if train.n_empty:
        parts.append(f"{percent(train.n_empty / train.n_images)} % without any")
    if crowded := train.layout.crowded:
        parts.append(f"{crowded:,} with more than {MAX_DETECTIONS} of one class")
    images = {row.name: row.images for row in train.classes}
    together = [
        (row.company.partner_share, row)
        for row in train.classes
        if row.company.partner
        and row.company.partner_share >= IN_COMPANY
        # a partner in nearly every picture is company to all
        and row.company.partner_share > COMPANY_LIFT * images[row.company.partner] / train.n_images
        and row.images >= COMPANY_IMAGES
    ]
    together.sort(key=lambda pair: (-pair[0], pair[1].images))
    for share, row in together[:NAMED]:
        parts.append(f"{row.name} is with {row.company.partner} in {percent(share, 0)} % of its {row.images:,}")
    if len(together) > NAMED:
        parts.append(f"{len(together) - NAMED:,} more classes keep such company")
    print_line(console, "; ".join(parts), label="Pictures", indent=LABEL)


def _print_drift(drift: Drift, reference: str, console: Console | Plain) -> None:
    if drift.distance is None or drift.by_chance is None:
        return
    text = (
        f"{drift.split}: {percent(drift.distance)} % of the objects are not of the classes that {reference}'s shares "
        f"ask for ({percent(drift.by_chance)} % by chance)"
    )
    drifted = [entry for entry in drift.classes if entry.adjusted < DRIFTED]
    if drifted:
        shown = (f"{entry.name} {percent(entry.train_share)} to {percent(entry.share)} %" for entry in drifted[:NAMED])
        more = f" and {len(drifted) - NAMED:,} more" if len(drifted) > NAMED else ""
        text += f"; beyond chance: {', '.join(shown)}{more}"
    else:
        text += "; no class differs beyond chance"
    print_line(console, text, label="Drift", indent=LABEL)


def _print_findings(report: AuditReport, console: Console | Plain) -> None:
    print_line(console, finding_counts(report), label="Findings", indent=LABEL)
    for (code, severity), group in groupby(report.findings, key=lambda finding: (finding.code, finding.severity)):
        findings = list(group)
        explain = (f"  (focal explain {code})", "dim")
        print_line(
            console, (f"{severity} ", _STYLES[severity]), (f"{code} {findings[0].title}", "bold"), explain, indent=2
        )
        for finding in findings:
            print_line(console, (f"{finding.split}: ", "bold"), place_and_message(finding), indent=4)
        for hint in dict.fromkeys(finding.hint for finding in findings):
            print_line(console, ("hint: ", "cyan"), hint, indent=4)


def _print_gates(gates: Sequence[GateResult], console: Console | Plain) -> None:
    failed = sum(not gate.passed for gate in gates)
    print_line(console, f"{failed} of {len(gates)} failed" if failed else "passed", label="Gates", indent=LABEL)
    for gate in gates:
        verdict = ("passed ", "green") if gate.passed else ("failed ", "bold red")
        print_line(console, verdict, (f"--{gate.name} {gate.limit:g}", "bold"), f": {gate.message}", indent=2)
