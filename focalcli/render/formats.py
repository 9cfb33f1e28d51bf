"""An audit as the text of one of its formats; each format's module is imported only when it is asked for."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from focalcli.audit import AuditReport, Severity

if TYPE_CHECKING:
    from focalcli.audit.gates import GateResult
    from focalcli.coco import Dataset


def audit_text(
    format: str,
    report: AuditReport,
    splits: Mapping[str, Dataset],
    gates: Sequence[GateResult],
    wanted: Callable[[str], bool],
    fail_on: Severity | None,
) -> str:
    """The whole output of `focal audit --format`, which ends in a line break.

    Args:
        format: table, json, csv, markdown, github, junit, sarif or html.
        wanted: the codes that were checked. fail_on: the least severity that fails a check, None for none.
    """
    if format == "table":
        from focalcli.render.audit_table import print_audit
        from focalcli.render.console import make_console

        file = io.StringIO()
        print_audit(report, make_console(file=file), gates)
        return file.getvalue()
    if format == "json":
        from focalcli.render.to_json import json_text

        return json_text({**report.to_dict(), "gates": [asdict(gate) for gate in gates]})
    if format == "csv":
        from focalcli.render.to_csv import csv_text

        return csv_text(report.to_rows())
    if format == "markdown":
        from focalcli.render.to_markdown import audit_markdown

        return audit_markdown(report, gates)
    if format == "github":
        from focalcli.render.to_github import audit_commands

        return audit_commands(report, Path.cwd(), gates)
    if format == "junit":
        from focalcli.render.to_junit import audit_junit

        return audit_junit(report, wanted, fail_on, gates)
    if format == "sarif":
        from focalcli.render.to_json import json_text
        from focalcli.render.to_sarif import audit_sarif

        return json_text(audit_sarif(report, wanted, Path.cwd(), gates))
    from focalcli.render.html import audit_page

    return audit_page(report, splits, gates)
