"""From advice to AP: `focal recommend`, `train`, `eval`, and `demo`, which does all of it."""

from __future__ import annotations

import shutil
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli import boundary
from focalcli.cli.options import (
    DatasetArgument,
    Format,
    FormatOption,
    ImagesOption,
    OverridesArgument,
    RecipeArgument,
    command_line,
    print_data,
)
from focalcli.errors import ExitCode, FocalError


class Device(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Engine(str, Enum):
    focal = "focal"
    pycocotools = "pycocotools"


AP_COLUMNS = [
    "class", "n_train", "n_val", "found", "AP", "AP50", "interval", "AP75", "APs", "APm", "APl", "AR100", "threshold",
    "precision", "recall", "F1",
]  # fmt: skip
# an Enum, so that a wrong column is refused before a detector runs for minutes
ApColumn = Enum("ApColumn", {name: name for name in AP_COLUMNS}, type=str)
DEFAULT_RUNS = Path("runs")
# of ApColumn: those that ClassAp calls otherwise
FIELDS = {"class": "name", "found": "detections", "interval": "AP50_low"}
ROUNDS = 200  # the ends of an interval then vary by a twentieth of its width from seed to seed (bccd, face_mask)

RunsOption = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU when there is one.")]


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
        from focalcli import unpack
    from focalcli.render.progress import TrainingDisplay, print_forecast, print_look, print_overfit

    if dry_run:
        print_forecast(unpack.dry_run(loaded, device=device.value))
        return
    if overfit:
        result = unpack.overfit(loaded, device=device.value, told=print_look)
        print_overfit(result)
        raise typer.Exit(0 if result.learned else int(ExitCode.FINDINGS))
    again = command_line(
        "train", recipe, *(overrides or []), "--resume", **{"--runs": None if runs == DEFAULT_RUNS else runs}
    )
    title = f"focal train {recipe}: the recipe as it ran"
    code = unpack.train(
        loaded, runs, device=device.value, resume=resume, title=title, again=again, display=TrainingDisplay
    )
    raise typer.Exit(code)


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


def demo(runs: RunsOption = DEFAULT_RUNS) -> None:
    """Do all of it on the sample data, in about five minutes.

    audit, recommend, train, eval: each command is printed before it runs.
    """
    from focalcli.demo import run_demo

    raise typer.Exit(run_demo(runs))


def _has_gpu(device: Device) -> bool:
    return device is Device.cuda or (device is Device.auto and shutil.which("nvidia-smi") is not None)
