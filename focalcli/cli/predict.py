"""`focal predict`: a checkpoint's detections on any pictures."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli import boundary
from focalcli.cli.options import BatchSizeOption, Device, DeviceOption, RawScoresOption, WorkersOption
from focalcli.errors import ExitCode, FocalError


class PredictFormat(str, Enum):
    table = "table"
    json = "json"


def predict(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A run folder, or a .safetensors file.", show_default=False)
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Pictures, folders of them, and patterns such as 'a/**/*.jpg'.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Optional[Path],
        typer.Option(
            "--out", "-o", help="COCO results JSON; which picture has which id is in X.images.json beside it."
        ),
    ] = None,
    draw: Annotated[
        Optional[Path], typer.Option(help="Folder for the pictures with boxes, names and scores drawn.")
    ] = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="What is drawn and counted; the results have lower scores too.")
    ] = 0.3,
    dataset: Annotated[
        Optional[Path],
        typer.Option(help="COCO JSON or dataset folder whose image and category ids the results shall have."),
    ] = None,
    split: Annotated[Optional[str], typer.Option(help="Which split of --dataset; val without it.")] = None,
    batch_size: BatchSizeOption = 8,
    workers: WorkersOption = 2,
    raw_scores: RawScoresOption = False,
    device: DeviceOption = Device.auto,
    format: Annotated[
        PredictFormat, typer.Option("--format", "-f", help="How to print the result.")
    ] = PredictFormat.table,
) -> None:
    """Detect objects in pictures: COCO results, drawings, counts.

    Boxes are in px of the picture as it is displayed: what EXIF turns is turned first. With --dataset they are in the
    frame of its width and height, and `focal eval RESULTS DATASET` scores them. A picture that cannot be read is named,
    the others go on, and the exit code is 1.
    """
    from focalcli.render.progress import counting, print_notes
    from focalcli.work import predicting

    if split is not None and dataset is None:
        raise FocalError(f"--split {split}: of which dataset?", "name it with --dataset")
    if math.isnan(min_score):
        raise FocalError("--min-score nan: is no score", "such as --min-score 0.3")
    with boundary.importing():
        import focalcli.training.run  # noqa: F401
    wanted = predicting.Wanted(out, draw, min_score)
    with boundary.terminable(), predicting.ResultsFile(out) as file:
        result, notes = predicting.predict(
            checkpoint, images, wanted, file if out is not None or format is PredictFormat.json else None,
            dataset=dataset, split=split, batch_size=batch_size, workers=workers, device=device.value,
            counting=counting, raw_scores=raw_scores,
        )  # fmt: skip
        if format is PredictFormat.json:
            from focalcli.render.to_json import json_text

            typer.echo(json_text(result.to_dict()).removesuffix("\n}\n") + ',\n  "detections": ', nl=False)
            for block in file.blocks():
                typer.echo(block, nl=False)
            typer.echo("}")
        else:
            from focalcli.render.console import make_console
            from focalcli.render.prediction import print_prediction

            print_prediction(result, make_console())
    print_notes(notes)
    if result.unreadable:
        raise typer.Exit(int(ExitCode.FINDINGS))
