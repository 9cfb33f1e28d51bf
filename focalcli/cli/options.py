"""Arguments and options that several commands take, and what they do with them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer


class Format(str, Enum):
    table = "table"
    json = "json"
    csv = "csv"


class Device(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


DEFAULT_RUNS = Path("runs")
DatasetArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET", help="COCO JSON (also .json.gz, or - for stdin), or a dataset folder.", show_default=False
    ),
]
RecipeArgument = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="A YAML file, as `focal recommend -o` writes it.", show_default=False),
]
OverridesArgument = Annotated[
    Optional[list[str]],
    typer.Argument(metavar="KEY=VALUE", help="Recipe keys to set, e.g. schedule.epochs=20.", show_default=False),
]
ImagesOption = Annotated[
    Optional[Path], typer.Option("--images", help="Folder of the pictures, when not beside the JSON.")
]
RunsOption = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU when there is one.")]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures at once, for checkpoints.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=0, help="Processes that load pictures, for checkpoints.")]
RawScoresOption = Annotated[
    bool, typer.Option("--raw-scores", help="Leave out the calibration that `focal calibrate` put in a checkpoint.")
]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")]
SelectOption = Annotated[
    Optional[list[str]],
    typer.Option(metavar="RULES", help="Only these: codes, starts of codes (F1) or names, with commas between."),
]
IgnoreOption = Annotated[Optional[list[str]], typer.Option(metavar="RULES", help="Not these; written as --select.")]


def command_line(*words: object, **options: object) -> str:
    """A focal command as one would type it, options without a value left out."""
    given = [str(word) for name, value in options.items() if value is not None for word in (name, value)]
    return shlex.join(["focal", *map(str, words), *given])


def print_data(to_dict: Callable[[], dict[str, Any]], to_rows: Callable[[], Sequence[Any]], format: Format) -> None:
    """One JSON object, or CSV, on stdout."""
    if format is Format.json:
        from focalcli.render.to_json import json_text

        typer.echo(json_text(to_dict()), nl=False)
    else:
        from focalcli.render.to_csv import csv_text

        typer.echo(csv_text(to_rows()), nl=False)
