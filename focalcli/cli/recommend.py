"""`focal recommend`: what to train a dataset with, and why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli.cli.options import (
    DatasetArgument,
    Device,
    Format,
    FormatOption,
    ImagesOption,
    OverridesArgument,
    command_line,
    print_data,
)


def recommend(
    dataset: DatasetArgument,
    overrides: OverridesArgument = None,
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="Write a complete recipe here; replaces only a recipe.")
    ] = None,
    images: ImagesOption = None,
    device: Annotated[
        Device, typer.Option(help="What the recipe will run on; auto looks for nvidia-smi.")
    ] = Device.auto,
    format: FormatOption = Format.table,
) -> None:
    """Recommend alpha, gamma, prior and anchors; write a recipe.

    Each value comes with its reason and with how sure it is.
    """
    from focalcli import recipe as recipes
    from focalcli import recommend as advisor
    from focalcli.recipe.recommended import find_data, save_recommendation
    from focalcli.splits import load_split

    given = recipes.read_overrides(overrides or [])
    data = find_data(dataset, given, images)
    hardware = advisor.hardware_for(_has_gpu(device), given.get("model.weights"))
    keys = {key: value for key, value in given.items() if "." in key}
    result = advisor.recommend(load_split(data.train, images), hardware, keys)
    replaced = False
    if output is not None:
        options = {"-o": output, "--images": images, "--device": None if device is Device.auto else device.value}
        command = command_line("recommend", dataset, *(overrides or []), **options)
        replaced = save_recommendation(result, data, given, output, command=command)
    from focalcli.render.console import make_console
    from focalcli.render.recommendation import print_next_step, print_recommendation, rows

    if format is Format.table:
        print_recommendation(result, make_console())
    else:
        print_data(result.to_dict, lambda: rows(result), format)
    print_next_step(make_console(stderr=True), output, train=data.train, val=data.val, replaced=replaced)


def _has_gpu(device: Device) -> bool:
    return device is Device.cuda or (device is Device.auto and shutil.which("nvidia-smi") is not None)
