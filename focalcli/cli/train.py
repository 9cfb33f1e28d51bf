"""`focal train`: a run from a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from focalcli import boundary
from focalcli.cli.options import (
    DEFAULT_RUNS,
    Device,
    DeviceOption,
    OverridesArgument,
    RecipeArgument,
    RunsOption,
    command_line,
)
from focalcli.errors import ExitCode, FocalError


def train(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint; give the recipe and keys of the start.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take a few real steps, predict time and memory, and leave nothing.")
    ] = False,
    overfit: Annotated[
        bool,
        typer.Option("--overfit", help="Learn a few pictures by heart in about a minute; exit 1 if that fails."),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Curves for TensorBoard too, in runs/<name>/tensorboard.")
    ] = False,
    runs: RunsOption = DEFAULT_RUNS,
    device: DeviceOption = Device.auto,
) -> None:
    """Train a RetinaNet as a recipe says; leaves runs/<name>.

    Checkpoints, the recipe as it ran, metrics.jsonl, results.csv and train.log. On several GPUs:
    torchrun --nproc-per-node=N -m focalcli train RECIPE.
    """
    from focalcli import recipe as recipes

    if dry_run + overfit + resume > 1:
        raise FocalError("--dry-run, --overfit and --resume exclude each other", "give one of them")
    loaded = recipes.load(recipe, overrides or [])  # before the seconds that torch takes to import
    with boundary.importing():
        from focalcli.work import unpack
    from focalcli.render.progress import TrainingDisplay, print_forecast, print_look, print_overfit

    if dry_run:
        print_forecast(unpack.dry_run(loaded, device=device.value))
        return
    if overfit:
        result = unpack.overfit(loaded, device=device.value, told=print_look)
        print_overfit(result)
        raise typer.Exit(0 if result.learned else int(ExitCode.FINDINGS))
    again = command_line(
        "train",
        recipe,
        *(overrides or []),
        "--resume",
        *["--tensorboard"] * tensorboard,
        **{"--runs": None if runs == DEFAULT_RUNS else runs},
    )
    title = f"focal train {recipe}: the recipe as it ran"
    code = unpack.train(
        loaded,
        runs,
        device=device.value,
        resume=resume,
        title=title,
        again=again,
        display=TrainingDisplay,
        tensorboard=tensorboard,
    )
    raise typer.Exit(code)
