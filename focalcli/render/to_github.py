"""An audit as GitHub workflow commands: one annotation for each finding and each failed gate.

Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions; the escapes are those of
actions/toolkit, packages/core/src/command.ts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from focalcli.audit import AuditReport
from focalcli.audit.gates import GateResult
from focalcli.render.text import place_and_message, visible

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def audit_commands(report: AuditReport, folder: Path, gates: Sequence[GateResult] = ()) -> str:
    """One command per line; gates first, because GitHub shows ten errors of a step.

    Args:
        folder: the checkout; files below it are named relative to it, which is what GitHub can show.
    """
    lines = [
        f"::error title={property_text(f'gate {gate.name}')}::{data_text(gate.message)}"
        for gate in gates
        if not gate.passed
    ]
    for finding in report.findings:
        title = f"{finding.code} {finding.title} ({finding.split})"
        file = _relative(report.split(finding.split).path, folder)
        text = f"{place_and_message(finding)}; {finding.hint}"
        lines.append(
            f"::{_LEVELS[finding.severity]} file={property_text(file)},title={property_text(title)}::{data_text(text)}"
        )
    return "".join(f"{line}\n" for line in lines)


def _relative(path: Path, folder: Path) -> str:
    whole = path.resolve()
    return (whole.relative_to(folder.resolve()) if whole.is_relative_to(folder.resolve()) else whole).as_posix()


def data_text(text: str) -> str:
    """What follows the `::` of a command."""
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def property_text(text: str) -> str:
    """A value between the command's name and the `::`."""
    return data_text(text).replace(":", "%3A").replace(",", "%2C")
