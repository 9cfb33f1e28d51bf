"""An evaluation as GitHub workflow commands: an annotation for each failed gate, each warning, and the result.

Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions.
"""

from __future__ import annotations

from collections.abc import Sequence

from focalcli.evaluation import Evaluation
from focalcli.render.text import percent
from focalcli.render.to_github import data_text, property_text


def evaluation_commands(result: Evaluation, notes: Sequence[str]) -> str:
    """One command per line; gates first, because GitHub shows ten errors of a step."""
    lines = [_command("error", gate.option, gate.message) for gate in result.gates if not gate.passed]
    for note in notes:
        if note.startswith("warning: "):
            lines.append(_command("warning", "focal eval", note.removeprefix("warning: ")))
    means = ", ".join(f"{name} {percent(result.table.summary[name])}" for name in ("AP", "AP50", "AP75"))
    lines.append(_command("notice", "focal eval", f"{result.source} on {result.dataset.path}: {means} (x100)"))
    return "".join(f"{line}\n" for line in lines)


def _command(level: str, title: str, text: str) -> str:
    return f"::{level} title={property_text(title)}::{data_text(text)}"
