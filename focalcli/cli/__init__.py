"""The command line: a command parses, makes one library call, renders, and sets the exit code.

stdout is the result, stderr everything else. Heavy imports stay inside the commands: `focal --help` needs none of them,
and only `train`, and `eval` of a checkpoint, import torch. Inside: one module for each stage of the work, options for
what they share.
"""

from __future__ import annotations

from typing import Annotated

import typer

from focalcli import __version__, boundary
from focalcli.cli import (
    audit,
    calibrate,
    compare,
    demo,
    evaluate,
    explain,
    explain_loss,
    fix,
    predict,
    recipe,
    recommend,
    train,
    tune,
)

app = typer.Typer(
    help="What class imbalance does to your detector, and the focal loss that answers it.\n\n"
    "audit a COCO dataset, recommend alpha and gamma, train a RetinaNet with them, eval each class.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# in the order of `focal --help`
app.command()(audit.audit)
app.command()(fix.fix)
app.command()(recommend.recommend)
app.command()(train.train)
app.command()(tune.tune)
app.command("eval")(evaluate.evaluate)
app.command()(compare.compare)
app.command()(calibrate.calibrate)
app.command()(predict.predict)
app.command()(demo.demo)
app.command()(explain.explain)
app.command("explain-loss")(explain_loss.explain_loss)
app.add_typer(recipe.app, name="recipe")


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
