"""`focal eval`: what happened to each class."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from focalcli import boundary
from focalcli.cli.delivery import OutputOption, check_output, deliver, step_summary
from focalcli.cli.options import BatchSizeOption, Device, DeviceOption, ImagesOption, RawScoresOption, WorkersOption
from focalcli.errors import ExitCode, FocalError

if TYPE_CHECKING:
    from focalcli.evaluation import Evaluation


class Engine(str, Enum):
    focal = "focal"
    pycocotools = "pycocotools"


class EvalFormat(str, Enum):
    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    github = "github"
    junit = "junit"
    html = "html"


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
    suspects: Annotated[
        bool, typer.Option("--suspects", help="List the labels that the detector disputes most, which may be wrong.")
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=0, max=10_000, help="Of the bootstrap, for 95 % intervals; 0 leaves them out.")
    ] = ROUNDS,
    engine: Annotated[
        Engine, typer.Option(help="What computes AP and AR; pycocotools is the slow referee.")
    ] = Engine.focal,
    least: Annotated[
        Optional[list[str]],
        typer.Option("--min", metavar="METRIC=X", help="Exit 1 when a mean is lower: AP50=0.4. May be repeated."),
    ] = None,
    least_of_class: Annotated[
        Optional[list[str]],
        typer.Option(
            "--min-class",
            metavar="CLASS[:METRIC]=X",
            help="Exit 1 when a class is lower: crack=0.1 (its AP), crack:AP50=0.3; * is every class. May be repeated.",
        ),
    ] = None,
    baseline: Annotated[
        Optional[Path],
        typer.Option(metavar="METRICS", help="An earlier metrics.json, or the run that has one, for --max-drop."),
    ] = None,
    most_drop: Annotated[
        Optional[list[str]],
        typer.Option(
            "--max-drop",
            metavar="[METRIC=]X",
            help="Exit 1 when the mean or a class dropped by more since the baseline: 0.01 is of AP, AP50=0.02.",
        ),
    ] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder for metrics.json, per_class.csv and predictions.coco.json; "
            "RUN/eval without it, for a run on its own val."
        ),
    ] = None,
    plots: Annotated[Optional[Path], typer.Option(help="Folder for the plots of the html format as PNG files.")] = None,
    batch_size: BatchSizeOption = 8,
    workers: WorkersOption = 2,
    raw_scores: RawScoresOption = False,
    device: DeviceOption = Device.auto,
    format: Annotated[EvalFormat, typer.Option("--format", "-f", help="How to print it.")] = EvalFormat.table,
    output: OutputOption = None,
) -> None:
    """Print the AP of each class: checkpoint or any detections.

    Limits are fractions in 0..1; the table shows x100.
    """
    from focalcli import evaluation
    from focalcli.files import refuse_unwritable
    from focalcli.render.progress import counting, print_notes
    from focalcli.work import scoring

    if sort is not None and sort.value == "interval" and not rounds:
        raise FocalError("--sort interval: there are no intervals with --rounds 0", "leave --rounds out")
    check_output(output, (source, dataset, baseline))
    earlier = None if baseline is None else evaluation.load_saved(baseline)
    limits = evaluation.parse_limits(least or (), least_of_class or (), most_drop or (), earlier)
    if not scoring.is_detections(source):
        with boundary.importing():
            import focalcli.training.run  # noqa: F401
    if plots is not None:
        refuse_unwritable(plots, "--plots DIR")
    why = why or format is EvalFormat.html or plots is not None
    result, notes = scoring.evaluate(
        source, dataset, split, images, out, scoring.Wanted(engine.value, rounds, why, limits, suspects),
        batch_size=batch_size, workers=workers, device=device.value, counting=counting, raw_scores=raw_scores,
    )  # fmt: skip
    result = result.ordered(sort and FIELDS.get(sort.value, sort.value))
    shown = result.with_objects(min_val)
    if hidden := len(result.table.classes) - len(shown.table.classes):
        notes.insert(0, f"--min-val {min_val}: {hidden:,} of {len(result.table.classes):,} classes are not shown")
    if plots is not None:
        from focalcli.render.plots import save_plots

        notes.append(f"saved in {plots}: {', '.join(save_plots(result.table, result.diagnosis, plots))}")
    _print(format, result, shown, notes, output)
    print_notes(notes)
    if any(not gate.passed for gate in result.gates):
        raise typer.Exit(ExitCode.FINDINGS)


def _print(
    format: EvalFormat,
    result: Evaluation,
    shown: Evaluation,
    notes: Sequence[str],
    output: Path | None,
) -> None:
    """The result where it belongs, and why gates failed on stderr where the table on stdout has not said it."""
    from focalcli.render import eval_formats

    if format is EvalFormat.table and output is None:
        from focalcli.render.console import make_console

        eval_formats.print_evaluation(result, shown, make_console())
        return
    deliver(eval_formats.evaluation_text(format.value, result, shown, notes), output)
    if format is EvalFormat.github:
        step_summary(eval_formats.evaluation_text("markdown", result, shown, notes))
    from focalcli.render.gates import reasons

    for reason in reasons(result.gates):
        print(reason, file=sys.stderr)
