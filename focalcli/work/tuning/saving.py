"""The files that a study leaves: leaderboard.csv, tuned.yaml and report.html."""

from __future__ import annotations

import shlex
from pathlib import Path

from focalcli.files import write_whole
from focalcli.recipe import dump
from focalcli.render.html.tuning import tuning_page
from focalcli.render.to_csv import csv_text
from focalcli.render.tuning import verdict_lines
from focalcli.work.tuning.search import Outcome


def save(outcome: Outcome, *, name: str, command: str, also: Path | None = None) -> list[str]:
    """Write them, each whole or not at all, and return their names.

    Args:
        name: of the recipe. command: what goes on with the study. also: a second place for tuned.yaml.

    Raises:
        FocalError: the folder or `also` cannot be written to.
    """
    tuned = outcome.folder / "tuned.yaml"
    header = "\n".join([f"focal train {shlex.quote(str(tuned))}", f"Written by `{command}`", *verdict_lines(outcome)])
    files = {
        "leaderboard.csv": csv_text([run.to_row() for run in outcome.runs]),
        "tuned.yaml": dump(outcome.recipe, header=header),
        "report.html": tuning_page(outcome, name),
    }
    for file, text in files.items():
        write_whole(outcome.folder / file, text.encode("utf-8", "backslashreplace"), "--runs")
    if also is not None:
        write_whole(also, files["tuned.yaml"].encode("utf-8"), "-o")
    return list(files)
