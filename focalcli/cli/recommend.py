"""`focal recommend`: what to train a dataset with, and why."""

from __future__ import annotations

import shutil
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli import boundary
from focalcli.cli.options import (
    DatasetArgument,
    Device,
    Format,
    ImagesOption,
    OverridesArgument,
    command_line,
    print_data,
)
from focalcli.errors import FocalError


class PageFormat(str, Enum):
    table = "table"
    json = "json"
    csv = "csv"
    html = "html"


CheckpointOption = Annotated[
    Optional[Path],
    typer.Option(
        metavar="RUN|FILE",
        help="A run folder or .safetensors file of focal's: its scores on this dataset then decide alpha and gamma.",
    ),
]
PicturesOption = Annotated[
    Optional[int],
    typer.Option("--pictures", min=1, help="With a checkpoint: look at so many pictures, evenly drawn; all without."),
]
PlotsOption = Annotated[Optional[Path], typer.Option("--plots", metavar="DIR", help="Save the plots here as PNG.")]


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
    checkpoint: CheckpointOption = None,
    pictures: PicturesOption = None,
    plots: PlotsOption = None,
    format: Annotated[PageFormat, typer.Option("--format", "-f", help="How to print it.")] = PageFormat.table,
) -> None:
    """Recommend alpha, gamma, prior and anchors; write a recipe.

    Each value comes with its reason and with how sure it is. With --checkpoint, one pass of a trained model shows what
    carries the loss, and for every alpha and gamma what would.
    """
    from focalcli import recipe as recipes
    from focalcli import recommend as advisor
    from focalcli.recipe.recommended import find_data, save_recommendation
    from focalcli.splits import load_split

    if pictures is not None and checkpoint is None:
        raise FocalError("--pictures: only a checkpoint looks at pictures", "add --checkpoint RUN, or leave it out")
    if output is not None and output.suffix not in ("", ".yaml", ".yml"):
        hint = "give a .yaml file with -o; the page, the JSON and the CSV go to stdout: --format html > page.html"
        raise FocalError(f"-o {output}: takes the recipe", hint)
    if output is not None and dataset == Path("-"):
        raise FocalError("-o: a recipe names its dataset, and stdin has no name", "give the file, or leave -o out")
    given = recipes.read_overrides(overrides or [])
    data = find_data(dataset, given, images)
    hardware = advisor.hardware_for(_has_gpu(device), given.get("model.weights"))
    keys = {key: value for key, value in given.items() if "." in key}
    train = load_split(data.train, images)
    measured = None
    if checkpoint is not None:
        with boundary.importing():
            from focalcli.work.measuring import measure
        from focalcli.render.progress import counting

        measured = measure(checkpoint, train, most_images=pictures, device=device.value, counting=counting)
    result = advisor.recommend(train, hardware, keys, measured)
    replaced = False
    if output is not None:
        options = {
            "-o": output,
            "--images": images,
            "--device": None if device is Device.auto else device.value,
            "--checkpoint": checkpoint,
            "--pictures": pictures,
        }
        command = command_line("recommend", dataset, *(overrides or []), **options)
        replaced = save_recommendation(result, data, given, output, command=command)
    from focalcli.render.console import make_console
    from focalcli.render.recommendation import pair, print_next_step, print_recommendation, rows

    if plots is not None:
        from focalcli.render.html.loss_plots import save_loss_plots

        print(f"saved in {plots}: {', '.join(save_loss_plots(*pair(result), measured, plots))}", file=sys.stderr)
    if format is PageFormat.table:
        print_recommendation(result, make_console())
    elif format is PageFormat.html:
        from focalcli.render.html.loss import recommendation_page

        sys.stdout.write(recommendation_page(result))
    else:
        print_data(result.to_dict, lambda: rows(result), Format(format.value))
    print_next_step(make_console(stderr=True), output, train=data.train, val=data.val, replaced=replaced)


def _has_gpu(device: Device) -> bool:
    return device is Device.cuda or (device is Device.auto and shutil.which("nvidia-smi") is not None)
