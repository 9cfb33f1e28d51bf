"""An audit as GitHub-flavoured Markdown, for a comment on a pull request or a job's summary.

Names are shown as code, where nothing is markup, a mention, a link or an emoji; other text of the dataset is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from focalcli.audit import AuditReport, ClassRow, SplitReport
from focalcli.audit.gates import GateResult
from focalcli.render.text import finding_counts, fold, number, percent, place_and_message, plural, ratio, visible

# what GitHub makes of plain text without any markup: mentions, issues, links, emoji
_AUTOMATIC = re.compile(r"@|#\d|\bGH-\d|://|\bwww\.|:[\w+-]+:", re.IGNORECASE)


def audit_markdown(report: AuditReport, gates: Sequence[GateResult] = ()) -> str:
    """A summary line, the classes, the findings with their hints, the gates."""
    train = report.split(report.reference)
    failed = [gate for gate in gates if not gate.passed]
    verdict = finding_counts(report).replace("none", "no findings")
    if gates:
        verdict += f"; {plural(len(failed), 'gate')} of {len(gates)} failed" if failed else "; all gates passed"
    blocks = [f"### focal audit: {verdict}", _summary(train), _classes(report, train)]
    if gates:
        blocks.append("#### Gates\n\n" + "\n".join(_gate(gate) for gate in gates))
    if report.findings:
        blocks.append("#### Findings\n\n" + "\n".join(_findings(report)))
    return "\n\n".join(filter(None, blocks)) + "\n"


def code(text: object) -> str:
    """As code: between backticks, or in an element of entities where `text` has characters that would end them."""
    shown = visible(text)
    if shown and not re.search(r"[`|\\]", shown):
        return f"`{shown}`"
    return "<code>" + re.sub(r"[^\w ]", lambda match: f"&#{ord(match[0])};", shown) + "</code>"


def prose(text: str) -> str:
    """As text without markup; as code where GitHub would link or mention something."""
    if _AUTOMATIC.search(text):
        return code(text)
    return re.sub(r"[\\`*_~\[\]<>|&$#]", lambda match: f"&#{ord(match[0])};", visible(text))


def _summary(train: SplitReport) -> str:
    parts = [f"**{prose(train.name)}**: {plural(train.n_images, 'image')}, {plural(train.n_objects, 'object')}"]
    if train.head_tail is not None:
        parts.append(
            f"{ratio(train.head_tail)}:1 head to tail (Gini {train.gini:.2f}), {plural(train.n_present, 'class')} as "
            f"even as {train.effective_classes:.1f}"
        )
    if train.anchors.background_per_positive is not None:
        parts.append(f"1 positive anchor for every {ratio(train.anchors.background_per_positive)} of background")
    return "; ".join(parts)


def _classes(report: AuditReport, train: SplitReport) -> str:
    rows = sorted((row for row in train.classes if row.instances), key=lambda row: -row.instances)
    others = [split for split in report.splits if split is not train]
    counts = [{row.name: row.instances for row in split.classes} for split in others]
    top, folded, tail = fold(rows)
    titles = ["class", "images", prose(train.name), "share %", *(prose(split.name) for split in others)]
    titles += ["group", "positives per box", "reached %", "cells/side", "level"]

    def line(row: ClassRow) -> list[str]:
        given = row.anchors
        return [
            code(row.name), number(row.images), number(row.instances), percent(row.share),
            *(number(count.get(row.name)) for count in counts),
            row.group or "-", number(given.positives_per_box, "g"), percent(given.reached),
            number(given.cells_per_side, ".1f"), given.main_level or "-",
        ]  # fmt: skip

    lines = [*map(line, top), *([[f"({len(folded):,} more)"] + [""] * (len(titles) - 1)] if folded else [])]
    lines += map(line, tail)
    ruler = ["---"] + ["---:"] * (len(titles) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, ruler, *lines)) if lines else ""


def _findings(report: AuditReport) -> list[str]:
    lines = []
    for finding in report.findings:
        lines.append(
            f"- **{finding.severity}** {finding.code} {finding.title}, {prose(finding.split)}: "
            f"{prose(place_and_message(finding))}  \n  {prose(finding.hint)}"
        )
    return lines


def _gate(gate: GateResult) -> str:
    return (
        f"- **{'passed' if gate.passed else 'failed'}** {code(f'--{gate.name} {gate.limit:g}')}: {prose(gate.message)}"
    )
