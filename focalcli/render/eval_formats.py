"""An evaluation as the text of one of its formats; each format's module is imported only when it is asked for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from focalcli.evaluation import Evaluation
from focalcli.render.console import Plain, make_console

if TYPE_CHECKING:
    from rich.console import Console


def evaluation_text(format: str, result: Evaluation, shown: Evaluation, notes: Sequence[str]) -> str:
    """The whole output of `focal eval --format`, which ends in a line break.

    Args:
        format: table, json, csv, markdown, github, junit or html.
        shown: the same with the classes that the user wants to see; html and junit have all.
        notes: what the user should know beside the figures; the formats that have no place for them leave them out.
    """
    if format == "table":
        file = io.StringIO()
        print_evaluation(result, shown, make_console(file=file))
        return file.getvalue()
    if format == "json":
        from focalcli.render.to_json import json_text

        return json_text(shown.to_dict())
    if format == "csv":
        from focalcli.render.to_csv import csv_text

        return csv_text(shown.table.to_rows())
    if format == "markdown":
        from focalcli.render.eval_markdown import evaluation_markdown

        return evaluation_markdown(result, shown.table.classes, notes)
    if format == "github":
        from focalcli.render.eval_github import evaluation_commands

        return evaluation_commands(result, notes)
    if format == "junit":
        from focalcli.render.eval_junit import evaluation_junit

        return evaluation_junit(result)
    from focalcli.render.html.evaluation import evaluation_page

    return evaluation_page(result, result.gates)


def print_evaluation(result: Evaluation, shown: Evaluation, console: Console | Plain) -> None:
    """The table, why each class has its AP where that was wanted, and the gates."""
    from focalcli.render.ap_table import print_ap

    title = f"{result.source} on {result.dataset.path}"
    print_ap(result.table, console, title, shown.table.classes)
    if result.diagnosis is not None:
        from focalcli.render.diagnosis import print_diagnosis

        print_diagnosis(result.diagnosis, shown.table.classes, console)
    if result.suspects is not None:
        from focalcli.render.suspects import print_suspects

        console.print()
        print_suspects(result.suspects, console)
    if result.gates:
        from focalcli.render.gates import print_gates

        console.print()
        print_gates(result.gates, console)
