"""`focal tune`: alpha, gamma and what rare classes weigh, found by short real runs, with the noise known."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli import boundary
from focalcli.cli.delivery import check_output
from focalcli.cli.options import (
    DEFAULT_RUNS,
    Device,
    DeviceOption,
    Format,
    FormatOption,
    OverridesArgument,
    RecipeArgument,
    RunsOption,
    command_line,
    print_data,
)


def tune(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to work, from now.")] = 60.0,
    trials: Annotated[int, typer.Option(min=1, help="Runs of the search at most, repeats not counted.")] = 40,
    epochs: Annotated[
        Optional[int], typer.Option(min=1, help="Of a run; without it, so many that a dozen runs fit.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What counts: AP, AP50, APr ..., or class:NAME.")] = "AP",
    jobs: Annotated[
        Optional[int], typer.Option(min=1, help="Processes that share the work; without it one for each GPU.")
    ] = None,
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="Write the recipe to train here too.")
    ] = None,
    runs: RunsOption = DEFAULT_RUNS,
    device: DeviceOption = Device.auto,
    format: FormatOption = Format.table,
) -> None:
    """Search alpha and gamma by short real runs, within a budget.

    Leaves runs/<name>-tune with study.db, leaderboard.csv, tuned.yaml and report.html; the same command goes on
    with it. A difference inside the noise between seeds is called a tie, and then the recipe stays as it is.
    """
    from focalcli import recipe as recipes
    from focalcli.errors import FocalError, nearest
    from focalcli.recipe.recommended import refuse_other_file
    from focalcli.recipe.schema import METRICS

    if metric not in METRICS and not metric.startswith("class:"):
        near = nearest(metric, METRICS)
        raise FocalError(
            f"--metric {metric}: no such figure", f"did you mean {near}?" if near else f"one of {', '.join(METRICS)}"
        )
    if not math.isfinite(minutes):
        raise FocalError(f"--minutes {minutes}: is no time; expected a number of minutes", "such as --minutes 60")
    check_output(output, (recipe,))
    if output is not None:
        refuse_other_file(output)
    loaded = recipes.load(recipe, overrides or [])
    if jobs is not None and jobs > 1:  # before torch reads it
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    with boundary.importing():
        from focalcli.work import tuning
    from focalcli.render.tuning import TuningDisplay, print_outcome

    said = {
        "--minutes": (minutes, 60.0), "--trials": (trials, 40), "--epochs": (epochs, None), "--metric": (metric, "AP"),
        "--jobs": (jobs, None), "-o": (output, None), "--runs": (runs, DEFAULT_RUNS),
        "--device": (device.value, Device.auto.value),
    }  # fmt: skip
    options = {name: value for name, (value, default) in said.items() if value != default}
    again = command_line("tune", recipe, *(overrides or []), **options)
    gpus = tuning.gpus(device.value)
    jobs = jobs or max(1, gpus)
    budget = tuning.Budget(minutes, trials, epochs)
    others = [
        "tune", recipe, *(overrides or []), "--minutes", minutes, "--trials", trials, "--metric", metric,
        *(["--epochs", epochs] if epochs else []), "--runs", runs, "--device", device.value, "--format", "json",
    ]  # fmt: skip
    with (
        TuningDisplay(runs / f"{loaded.name}-tune") as display,
        _helpers(jobs - 1, others, gpus, runs / f"{loaded.name}-tune") as others_done,
    ):
        outcome = tuning.tune(
            loaded, runs, budget, device=device.value, metric=metric, told=display.told, others_done=others_done
        )
    saved = tuning.save(outcome, name=loaded.name, command=again, also=output)
    if format is Format.table:
        print_outcome(outcome, saved, again)
    else:
        print_data(outcome.to_dict, lambda: [run.to_row() for run in outcome.runs], format)
    raise typer.Exit(outcome.stopped or 0)


@contextmanager
def _helpers(count: int, words: list[object], gpus: int, folder: Path) -> Iterator[Callable[[], None]]:
    """So many more processes of the same study, and what waits for their end; GPUs are taken in turn.

    What they say goes to worker-N.log in `folder`: two live tables in one terminal would be none.
    """
    started = []
    for number in range(1, count + 1):
        environment = dict(os.environ)
        if gpus > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
        command = [sys.executable, "-m", "focalcli", *map(str, words)]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"worker-{number}.log").open("ab") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log))

    def wait() -> None:
        for process in started:
            process.wait()

    try:
        yield wait
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
                process.wait()
