"""The command line: a command parses, makes one library call, renders, and sets the exit code.

stdout is the result, stderr everything else. Heavy imports stay inside the commands: `focal --help` needs none of them,
and only `train`, and `eval` of a checkpoint, import torch.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from focalcli import __version__, boundary
from focalcli.errors import ExitCode, FocalError, nearest

app = typer.Typer(
    help="What class imbalance does to your detector, and the focal loss that answers it.\n\n"
    "audit a COCO dataset, recommend alpha and gamma, train a RetinaNet with them, eval each class.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipe_app = typer.Typer(help="Check, show and explain recipes.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(recipe_app, name="recipe")


class Format(str, Enum):
    table = "table"
    json = "json"
    csv = "csv"


class FailOn(str, Enum):
    error = "error"
    warning = "warning"
    never = "never"


class Device(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


AP_COLUMNS = ["class", "n_train", "n_val", "found", "AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"]
# an Enum, so that a wrong column is refused before a detector runs for minutes
ApColumn = Enum("ApColumn", {name: name for name in AP_COLUMNS}, type=str)
DEFAULT_RUNS = Path("runs")
FIELDS = {"class": "name", "found": "detections"}  # of ApColumn: those that ClassAp calls otherwise

DatasetArgument = Annotated[
    Path,
    typer.Argument(metavar="DATASET", help="COCO JSON, or a folder with annotations/*.json.", show_default=False),
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
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")]
RunsOption = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU when there is one.")]


def main() -> None:
    """The entry point of `focal` and of `python -m focalcli`."""
    boundary.run(lambda: app(prog_name="focal"))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"focal {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def audit(
    dataset: DatasetArgument,
    images: ImagesOption = None,
    min_size: Annotated[
        Optional[int], typer.Option(min=32, help="Network input: short side in px; 800 without it.")
    ] = None,
    max_size: Annotated[
        Optional[int], typer.Option(min=32, help="Network input: cap of the long side in px; 1333 without it.")
    ] = None,
    anchor_sizes: Annotated[
        Optional[str],
        typer.Option(help="Anchor sides of P3 to P7, in px at network size; 32,64,128,256,512 without it."),
    ] = None,
    recipe: Annotated[Optional[Path], typer.Option(help="Take from this recipe what these three leave open.")] = None,
    fail_on: Annotated[FailOn, typer.Option(help="Exit 1 on findings of this severity or worse.")] = FailOn.error,
    format: FormatOption = Format.table,
) -> None:
    """Show how imbalanced a dataset is, and what is wrong in it.

    Classes, anchors against background, and findings with codes that `focal explain` explains.
    """
    from focalcli.anchors import AnchorSpec
    from focalcli.audit import SEVERITIES
    from focalcli.audit import audit as run_audit
    from focalcli.splits import load_splits

    spec, short, long = AnchorSpec(), 800, 1333  # RetinaNet's
    if recipe is not None:
        from focalcli import recipe as recipes

        loaded = recipes.load(recipe)
        spec = AnchorSpec(tuple(loaded.anchors.sizes), tuple(loaded.anchors.ratios))
        short, long = loaded.input.min_size, loaded.input.max_size
    if anchor_sizes is not None:
        spec = AnchorSpec(_five_sizes(anchor_sizes), spec.ratios)
    short, long = min_size or short, max_size or long
    if short > long:
        raise FocalError(f"--min-size {short} is above --max-size {long}", "the long side is at least the short one")
    report = run_audit(load_splits(dataset, images), spec, min_size=short, max_size=long)
    if format is Format.table:
        from focalcli.render.console import make_console, print_audit

        print_audit(report, make_console())
    else:
        _print_data(report.to_dict, report.to_rows, format)
    worst = report.worst()
    if fail_on is not FailOn.never and worst and SEVERITIES.index(worst) >= SEVERITIES.index(fail_on.value):
        raise typer.Exit(ExitCode.FINDINGS)


@app.command()
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
        command = _command("recommend", dataset, *(overrides or []), **options)
        replaced = save_recommendation(result, data, given, output, command=command)
    from focalcli.render.console import make_console
    from focalcli.render.recommendation import print_next_step, print_recommendation, rows

    if format is Format.table:
        print_recommendation(result, make_console())
    else:
        _print_data(result.to_dict, lambda: rows(result), format)
    print_next_step(make_console(stderr=True), output, train=data.train, val=data.val, replaced=replaced)


@app.command()
def train(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint; give the recipe and keys of the start.")
    ] = False,
    runs: RunsOption = DEFAULT_RUNS,
    device: DeviceOption = Device.auto,
) -> None:
    """Train a RetinaNet as a recipe says; leaves runs/<name>.

    Checkpoints, the recipe as it ran, metrics.jsonl, results.csv and train.log.
    """
    from focalcli import recipe as recipes

    loaded = recipes.load(recipe, overrides or [])  # before the seconds that torch takes to import
    with boundary.importing():
        from focalcli import unpack
    from focalcli.render.progress import TrainingDisplay

    again = _command(
        "train", recipe, *(overrides or []), "--resume", **{"--runs": None if runs == DEFAULT_RUNS else runs}
    )
    title = f"focal train {recipe}: the recipe as it ran"
    code = unpack.train(
        loaded, runs, device=device.value, resume=resume, title=title, again=again, display=TrainingDisplay
    )
    raise typer.Exit(code)


@app.command("eval")
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

    if not scoring.is_detections(source):
        with boundary.importing():
            import focalcli.training.run  # noqa: F401
    result, notes = scoring.evaluate(
        source, dataset, split, images, out,
        batch_size=batch_size, workers=workers, device=device.value, counting=counting,
    )  # fmt: skip
    result = result.ordered(sort and FIELDS.get(sort.value, sort.value))
    if format is Format.table:
        from focalcli.render.console import make_console, print_ap

        print_ap(result.table, make_console(), f"{result.source} on {result.dataset.path}")
    else:
        _print_data(result.to_dict, result.table.to_rows, format)
    print_notes(notes)


@app.command()
def demo(runs: RunsOption = DEFAULT_RUNS) -> None:
    """Do all of it on the sample data, in about five minutes.

    audit, recommend, train, eval: each command is printed before it runs.
    """
    from focalcli.demo import run_demo

    raise typer.Exit(run_demo(runs))


@app.command()
def explain(
    code: Annotated[
        Optional[str], typer.Argument(metavar="CODE", help="Of a finding, such as F101; its name will do.")
    ] = None,
) -> None:
    """Print the page of a finding, or list the codes.

    What it finds, why it is bad, an example, how to fix it, and where the claim can be checked.
    """
    from focalcli.audit import RULES

    if code is None:
        from focalcli.render.console import make_console, print_rows

        rows = [{"code": rule.code, "severity": rule.severity, "name": rule.name} for rule in RULES.values()]
        print_rows(rows, make_console())
        return
    rules = {name: rule for rule in RULES.values() for name in (rule.code, rule.name)}
    rule = rules.get(code.upper()) or rules.get(code.lower())
    if rule is None:
        near = nearest(code, rules)
        raise FocalError(f"{code}: no such finding", f"did you mean {near}?" if near else "`focal explain` lists them")
    typer.echo(rule.doc, nl=False)


@recipe_app.command("check")
def recipe_check(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Check keys, types and ranges.

    Exit 2 with the line and the nearest key when something is wrong.
    """
    from focalcli import recipe as recipes

    recipes.load(recipe, overrides or [])
    typer.echo(f"{recipe}: a valid recipe")


@recipe_app.command("show")
def recipe_show(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Print the recipe as it would run.

    Every key, with overrides applied and paths absolute.
    """
    from focalcli import recipe as recipes

    typer.echo(recipes.dump(recipes.absolute(recipes.load(recipe, overrides or []))), nl=False)


@recipe_app.command("schema")
def recipe_schema(format: FormatOption = Format.table) -> None:
    """List every key: type, default, meaning.

    json is a JSON schema, for editors.
    """
    from focalcli import recipe as recipes

    names = ("key", "takes", "default", "meaning")
    rows = [dict(zip(names, row, strict=True)) for row in recipes.schema_rows()]
    if format is Format.table:
        from focalcli.render.console import make_console, print_rows

        print_rows(rows, make_console())
    else:
        _print_data(recipes.schema_json, lambda: rows, format)


# ------------------------------------------------------------------------------------------------ what commands share


def _five_sizes(text: str) -> tuple[float, ...]:
    try:
        sizes = tuple(float(word) for word in text.split(","))
    except ValueError:
        sizes = ()
    ascending = all(low < high < 1e6 for low, high in zip((0, *sizes), sizes, strict=False))  # False for NaN too
    if len(sizes) != 5 or not ascending:
        raise FocalError(
            f"--anchor-sizes {text}: expected five ascending numbers above 0",
            "one for each of P3 to P7: --anchor-sizes 32,64,128,256,512",
        )
    return sizes


def _has_gpu(device: Device) -> bool:
    return device is Device.cuda or (device is Device.auto and shutil.which("nvidia-smi") is not None)


def _command(*words: object, **options: object) -> str:
    """A focal command as one would type it, options without a value left out."""
    given = [str(word) for name, value in options.items() if value is not None for word in (name, value)]
    return shlex.join(["focal", *map(str, words), *given])


def _print_data(to_dict: Callable[[], dict[str, Any]], to_rows: Callable[[], Sequence[Any]], format: Format) -> None:
    if format is Format.json:
        from focalcli.render.to_json import print_json

        print_json(to_dict())
    else:
        from focalcli.render.to_csv import print_csv

        print_csv(to_rows())
