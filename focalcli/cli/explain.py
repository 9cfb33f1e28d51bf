"""`focal explain`: the page of a rule or of a figure."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Optional

import typer

from focalcli.errors import FocalError, nearest


class PageFormat(str, Enum):
    text = "text"
    markdown = "markdown"


def explain(
    name: Annotated[
        Optional[str],
        typer.Argument(metavar="NAME", help="A finding's code or name, such as F101, or a figure, such as gini."),
    ] = None,
    format: Annotated[PageFormat, typer.Option("--format", "-f", help="How to print it.")] = PageFormat.text,
) -> None:
    """Print the page of a finding or a figure, or list them.

    What it finds, why it is bad, an example, how to fix it, and where the claim can be checked. Without a name and with
    --format markdown, all pages as one document.
    """
    from focalcli.audit import RULES, TERMS
    from focalcli.render import pages

    if name is None:
        if format is PageFormat.markdown:
            typer.echo(pages.document(), nl=False)
        else:
            pages.print_list()
        return
    known = {word.lower(): rule for rule in RULES.values() for word in (rule.code, rule.name)}
    known |= {word.lower(): term for word, term in TERMS.items()}
    page = known.get(re.sub(r"[\s_]+", "-", name.lower()))
    if page is None:
        near = nearest(name, known)
        near = near.upper() if near and near.upper() in RULES else near
        hint = f"did you mean {near}?" if near else "`focal explain` lists them"
        raise FocalError(f"{name}: no such finding or figure", hint)
    typer.echo(pages.markdown(page) if format is PageFormat.markdown else page.doc, nl=False)
