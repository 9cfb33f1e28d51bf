"""`focal eval`: what happened to each class."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli import boundary
from focalcli.cli.options import Device, DeviceOption, Format, FormatOption, ImagesOption, print_data
from focalcli.errors import FocalError


class Engine(str, Enum):
    focal = "focal"
    pycocotools = "pycocotools"


AP_COLUMNS = [
    "class", "n_train", "n_val", "found", "AP", "AP50", "interval", "AP75", "APs", "APm", "APl", "AR100", "threshold",
    "precision", "recall", "F1",
]  # fmt: skip
# an Enum, so that a wrong column is refused before a detector runs for minutes
ApColumn = Enum("ApColumn", {name: name for name in AP_COLUMNS}, type=str)

# of ApColumn: those that ClassAp calls otherwise
FIELDS = {"class": "name", "found": "detections", "interval": "AP50_low"}
ROUNDS = 200  # the ends of an interval then vary by a twentieth of its width from seed to seed (bccd, face_mask)


def evaluate(
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
    split: Annotated[Optional[str], typer.Option(help="Which split of the dataset; val without it.")] = None,
    images: ImagesOption = None,
    sort: Annotated[
        Optional[ApColumn],
        typer.Option(
            metavar="COLUMN",
            help="Sort classes by a column, lowest first: AP puts the worst first. Most frequent first without it.",
            case_sensitive=False,
        ),
    ] = None,
    min_val: Annotated[
        int, typer.Option(min=0, help="Show only classes with this many objects or more; totals stay those of all.")
    ] = 0,
    why: Annotated[
        bool, typer.Option("--why", help="Say what each class loses AP50 to: kinds of error, confusion, calibration.")
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=0, max=10_000, help="Of the bootstrap, for 95 % intervals; 0 leaves them out.")
    ] = ROUNDS,
    engine: Annotated[
        Engine, typer.Option(help="What computes AP and AR; pycocotools is the slow referee.")
    ] = Engine.focal,
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder for metrics.json, per_class.csv and predictions.coco.json; "
            "RUN/eval without it, for a run on its own val."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 8,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load pictures.")] = 2,
    device: DeviceOption = Device.auto,
    format: FormatOption = Format.table,
) -> None:
    """Print the AP of each class: checkpoint or any detections."""
    from focalcli import scoring
    from focalcli.render.progress import counting, print_notes

    if sort is not None and sort.value == "interval" and not rounds:
        raise FocalError("--sort interval: there are no intervals with --rounds 0", "leave --rounds out")
    if not scoring.is_detections(source):
        with boundary.importing():
            import focalcli.training.run  # noqa: F401
    result, notes = scoring.evaluate(
        source, dataset, split, images, out, scoring.Wanted(engine.value, rounds, why),
        batch_size=batch_size, workers=workers, device=device.value, counting=counting,
    )  # fmt: skip
    result = result.ordered(sort and FIELDS.get(sort.value, sort.value))
    shown = result.with_objects(min_val)
    if hidden := len(result.table.classes) - len(shown.table.classes):
        notes.insert(0, f"--min-val {min_val}: {hidden:,} of {len(result.table.classes):,} classes are not shown")
    if format is Format.table:
        from focalcli.render.ap_table import print_ap
        from focalcli.render.console import make_console

        console = make_console()
        print_ap(result.table, console, f"{result.source} on {result.dataset.path}", shown.table.classes)
        if result.diagnosis is not None:
            from focalcli.render.diagnosis import print_diagnosis

            print_diagnosis(result.diagnosis, shown.table.classes, console)
    else:
        print_data(shown.to_dict, shown.table.to_rows, format)
    print_notes(notes)
