"""`focal calibrate`: make a detector's scores the chances that it is right."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli import boundary
from focalcli.cli.delivery import check_output
from focalcli.cli.options import (
    BatchSizeOption,
    Device,
    DeviceOption,
    Format,
    FormatOption,
    ImagesOption,
    WorkersOption,
    print_data,
)
from focalcli.errors import ExitCode, FocalError


class Method(str, Enum):
    platt = "platt"
    temperature = "temperature"
    isotonic = "isotonic"


def calibrate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT|DETECTIONS", help="A run folder, a .safetensors file, or COCO results JSON."
        ),
    ],
    dataset: Annotated[
        Optional[Path],
        typer.Argument(metavar="DATASET", help="COCO JSON or dataset folder; a checkpoint's own val by default."),
    ] = None,
    split: Annotated[
        Optional[str], typer.Option(help="Which split of the dataset to fit to, never the one trained on; val without.")
    ] = None,
    images: ImagesOption = None,
    output: Annotated[
        Optional[Path],
        typer.Option("--output", "-o", help="Of results JSON: write the detections here, with chances for scores."),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(help="The map: platt has a temperature and a shift, temperature no shift, isotonic is free."),
    ] = Method.platt,
    per_class: Annotated[
        bool,
        typer.Option(
            "--per-class/--one-map", help="A map for each class, nearer to that of all the fewer detections it has."
        ),
    ] = True,
    fraction: Annotated[
        Optional[float],
        typer.Option(
            min=0.05, max=0.95,
            help="Fit to this share of the pictures and judge on the rest; without it all are fitted to, and each is "
            "judged by a map that was fitted without it.",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=0, max=10_000, help="Of the bootstrap, for 95 % intervals; 0 leaves them out.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Deals the pictures and draws the bootstrap.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Keep the map even where ECE does not fall.")] = False,
    batch_size: BatchSizeOption = 8,
    workers: WorkersOption = 2,
    device: DeviceOption = Device.auto,
    format: FormatOption = Format.table,
) -> None:  # fmt: skip
    """Make scores the chances that detections are right; AP stays.

    A checkpoint keeps the map, and eval and predict apply it. Exit code 1 when it does not help and is not kept.
    """
    from focalcli.render.progress import counting, print_notes
    from focalcli.work import calibrating

    if fraction is not None and math.isnan(fraction):
        raise FocalError("--fraction nan: is no share", "such as --fraction 0.5")
    check_output(output, (source, dataset))
    if not calibrating.is_detections(source):
        with boundary.importing():
            import focalcli.training.run  # noqa: F401
    wanted = calibrating.Wanted(method.value, per_class, fraction, rounds, seed, force)
    result = calibrating.calibrate(
        source, dataset, split, images, output, wanted,
        batch_size=batch_size, workers=workers, device=device.value, counting=counting,
    )  # fmt: skip
    from focalcli.render.calibration import in_words, print_calibration

    if format is Format.table:
        from focalcli.render.console import make_console

        print_calibration(result, make_console())
    else:
        print_data(result.to_dict, result.to_rows, format)
    print_notes([*result.warnings, in_words(result)])
    if result.kept is None:
        raise typer.Exit(ExitCode.FINDINGS)
