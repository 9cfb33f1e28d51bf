"""`focal demo`: all of it on the sample data."""

from __future__ import annotations

import typer

from focalcli.cli.options import DEFAULT_RUNS, RunsOption


def demo(runs: RunsOption = DEFAULT_RUNS) -> None:
    """Do all of it on the sample data, in about five minutes.

    audit, recommend, train, eval: each command is printed before it runs.
    """
    from focalcli.work.demo import run_demo

    raise typer.Exit(run_demo(runs))
