"""`focal fix`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli.cli.options import IgnoreOption, ImagesOption, SelectOption
from focalcli.errors import FocalError


class FixFormat(str, Enum):
    table = "table"
    json = "json"


def fix(
    source: Annotated[
        Path,
        typer.Argument(metavar="DATASET", help="COCO JSON (also .json.gz, or - for stdin).", show_default=False),
    ],
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="The repaired copy; compressed when it ends in .gz.")
    ] = None,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    images: ImagesOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, print what would be done.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT when it is there.")] = False,
    format: Annotated[FixFormat, typer.Option("--format", "-f", help="How to print the result.")] = FixFormat.table,
) -> None:
    """Write a repaired copy of a COCO JSON.

    Never in place. What has more than one answer is left, with the reason; pictures are never touched.
    """
    from focalcli.fix import fix as run_fix

    if output is None and not dry_run:
        raise FocalError("no file to write the repaired copy to", "name one with -o, or look first with --dry-run")
    report = run_fix(
        source, None if dry_run else output, select=select or (), ignore=ignore or (), images=images, force=force
    )
    from focalcli.render.console import make_console
    from focalcli.render.fixes import print_fix, print_next_step

    if format is FixFormat.table:
        print_fix(report, make_console())
    else:
        from focalcli.render.to_json import json_text

        typer.echo(json_text(report.to_dict()), nl=False)
    print_next_step(report, make_console(stderr=True))
