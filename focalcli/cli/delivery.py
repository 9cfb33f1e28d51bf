"""Where the text of a format goes: to a file, to stdout, to the page of a GitHub job."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli.errors import FocalError

OutputOption = Annotated[
    Optional[Path],
    typer.Option("--output", "-o", help="Write what is printed to this file instead; - is stdout."),
]


def refuse_to_replace(output: Path | None, inputs: Iterable[Path | None]) -> None:
    """Raise FocalError where the output would be written over what the command reads; before the work, not after it."""
    if output is not None and any(path is not None and output.resolve() == path.resolve() for path in inputs):
        raise FocalError(f"-o {output}: this is what the command reads", "give another file with -o")


def deliver(text: str, output: Path | None) -> None:
    """To the file, whole or not at all, else to stdout; `-` is stdout."""
    if output is None or output == Path("-"):
        sys.stdout.write(text)
        return
    from focalcli.files import write_whole

    write_whole(output, text.encode("utf-8", "backslashreplace"))


def step_summary(text: str) -> None:
    """Append Markdown to the file that GitHub names in GITHUB_STEP_SUMMARY and shows on the page of the job.

    Raises:
        FocalError: it cannot be written to.
    """
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if not place:
        return
    try:
        with open(place, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise FocalError(
            f"{place}: cannot be written ({error.strerror})", "GITHUB_STEP_SUMMARY names it; unset it to go without"
        ) from None
