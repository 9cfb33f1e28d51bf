"""Where the text of a format goes: to a file, to stdout, to the page of a GitHub job."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Optional

import typer

from focalcli.errors import FocalError
from focalcli.files import refuse_unwritable, write_whole

OutputOption = Annotated[
    Optional[Path],
    typer.Option("--output", "-o", help="Write what is printed to this file instead; - is stdout."),
]


def check_output(output: Path | None, inputs: Iterable[Path | None]) -> None:
    """Raise FocalError where the output cannot be written, or would take the place of what the command reads.

    Before the work, not after it. Of a dataset folder all splits are read, as far as this goes.
    """
    if output is None or output == Path("-"):
        return
    for path in filter(None, inputs):
        if any(output.resolve() == file.resolve() for file in (path, *_splits_of(path))):
            raise FocalError(f"-o {output}: this is what the command reads", "give another file with -o")
    if output.is_dir():
        raise FocalError(f"-o {output}: is a folder", "give a file with -o")
    refuse_unwritable(output.parent, "-o")


def _splits_of(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return ()
    from focalcli.coco import find_splits

    try:
        return find_splits(folder).values()
    except FocalError:  # a run, say
        return ()


def deliver(text: str, output: Path | None) -> None:
    """To the file, whole or not at all, else to stdout; `-` is stdout."""
    if output is None or output == Path("-"):
        sys.stdout.write(text)
        return
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
