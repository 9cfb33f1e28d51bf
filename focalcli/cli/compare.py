"""`focal compare`: what each class gained or lost, and whether that is more than the luck of the images."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from focalcli import boundary
from focalcli.cli.delivery import OutputOption, check_output, deliver
from focalcli.cli.options import BatchSizeOption, Device, DeviceOption, ImagesOption, WorkersOption
from focalcli.errors import ExitCode

if TYPE_CHECKING:
    from focalcli.evaluation import Evaluation

ROUNDS = 500  # a standard error then varies by 3 % from seed to seed


class CompareFormat(str, Enum):
    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


class ComparedMetric(str, Enum):
    AP = "AP"
    AP50 = "AP50"


def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C ...]",
            help="Runs, .safetensors files, folders or metrics.json of `focal eval`, or COCO results JSON.",
            show_default=False,
        ),
    ],
    dataset: Annotated[
        Optional[Path],
        typer.Option(metavar="DATASET", help="COCO JSON or dataset folder; what the evaluations name without it."),
    ] = None,
    split: Annotated[Optional[str], typer.Option(help="Which split of --dataset; val without it.")] = None,
    images: ImagesOption = None,
    metric: Annotated[
        ComparedMetric, typer.Option(help="What the table shows; json and csv have both.", case_sensitive=False)
    ] = ComparedMetric.AP,
    rounds: Annotated[int, typer.Option(min=50, max=100_000, help="Of the paired bootstrap over images.")] = ROUNDS,
    fail_on_drop: Annotated[
        bool, typer.Option("--fail-on-drop", help="Exit 1 when a detector is really worse than A, in a class or all.")
    ] = False,
    batch_size: BatchSizeOption = 8,
    workers: WorkersOption = 2,
    device: DeviceOption = Device.auto,
    format: Annotated[CompareFormat, typer.Option("--format", "-f", help="How to print it.")] = CompareFormat.table,
    output: OutputOption = None,
) -> None:
    """Compare detectors class by class: what is more than luck.

    Each is set against the first one, on the same images. Saved evaluations are taken as they are; checkpoints are run.
    """
    from focalcli.render.compare_table import comparison_text, print_comparisons, reasons
    from focalcli.render.progress import counting, print_notes
    from focalcli.work import comparing, scoring

    check_output(output, (*sources, dataset))

    def run_detector(checkpoint: Path, given: Path | None) -> Evaluation:
        with boundary.importing():
            import focalcli.training.run  # noqa: F401
        return scoring.of_checkpoint(
            checkpoint, given, split, images, scoring.Wanted(),
            batch_size=batch_size, workers=workers, device=device.value, counting=counting,
        )  # fmt: skip

    result, notes = comparing.compare(sources, dataset, split, images, rounds=rounds, run_detector=run_detector)
    if format is CompareFormat.table and output is None:
        from focalcli.render.console import make_console

        print_comparisons(result, metric.value, make_console())
    else:
        deliver(comparison_text(format.value, result, metric.value, notes), output)
    drops = reasons(result, metric.value) if fail_on_drop else []
    print_notes([*notes, *drops])
    if drops:
        raise typer.Exit(ExitCode.FINDINGS)
