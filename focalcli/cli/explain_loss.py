"""`focal explain-loss`: what the chosen alpha and gamma do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli import boundary
from focalcli.cli.options import Device, DeviceOption, Format, OverridesArgument, print_data
from focalcli.cli.recommend import PageFormat, PlotsOption
from focalcli.errors import FocalError

PICTURES = 200


def explain_loss(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE|CHECKPOINT", help="A recipe, a run folder, or a .safetensors file.", show_default=False
        ),
    ],
    overrides: OverridesArgument = None,
    pictures: Annotated[
        Optional[int],
        typer.Option(
            min=0,
            help=f"Of a checkpoint: score so many training pictures, {PICTURES} without it; 0 does not run the model.",
        ),
    ] = None,
    plots: PlotsOption = None,
    device: DeviceOption = Device.auto,
    format: Annotated[PageFormat, typer.Option("--format", "-f", help="How to print it.")] = PageFormat.table,
) -> None:
    """Show what alpha and gamma do to the loss.

    Of a recipe: the cost of easy and hard anchors, and each class's share of the first loss. Of a checkpoint also its
    scores now, and what any other alpha and gamma would make of them. Keys such as loss.gamma=1 try other values.
    """
    from focalcli.work import explaining

    if source.is_dir() or source.suffix == ".safetensors":
        with boundary.importing():
            import focalcli.training.run  # noqa: F401
        from focalcli.render.progress import counting

        found = explaining.of_checkpoint(
            source,
            overrides or [],
            pictures=PICTURES if pictures is None else pictures,
            device=device.value,
            counting=counting,
        )
    elif pictures is not None:
        raise FocalError("--pictures: only a checkpoint looks at pictures", "give a run, or leave it out")
    else:
        found = explaining.of_recipe(source, overrides or [])
    typical = found.typical
    if plots is not None:
        from focalcli.render.html.loss_plots import save_loss_plots

        names = save_loss_plots(typical.alpha, typical.gamma, found.now, plots)
        print(f"saved in {plots}: {', '.join(names)}", file=sys.stderr)
    if format is PageFormat.table:
        from focalcli.render.console import make_console, print_line
        from focalcli.render.loss_tables import explained_tables, print_tables

        console = make_console()
        print_line(console, (f"The loss of {found.source}", "bold"))
        print_tables(console, explained_tables(found))
    elif format is PageFormat.html:
        from focalcli.render.html.loss import explained_page

        sys.stdout.write(explained_page(found))
    else:
        print_data(found.to_dict, lambda: found.to_dict()["classes"], Format(format.value))
