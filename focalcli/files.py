"""Files that focal writes: whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from focalcli.errors import FocalError


def write_whole(path: Path, content: bytes, option: str = "-o") -> None:
    """Write to a name beside `path` and move it there; a device or a named pipe is written to as it is.

    Args:
        option: how the user names the file, for the hint.

    Raises:
        FocalError: a folder of that name, no permission, a full disk.
    """
    if path.is_dir():  # `.` and `/` have no name to write aside under
        raise FocalError(f"{path}: is a folder", f"give a file with {option}")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise FocalError(f"{path}: cannot be written ({error.strerror})", f"give another file with {option}") from None


def refuse_unwritable(folder: Path, option: str = "--out DIR") -> None:
    """Raise FocalError for a folder that could not be made or written to, before the minutes that a detector takes."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise FocalError(f"{folder}: {there} is not a folder", f"choose another folder with {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FocalError(f"{folder}: cannot be written to (no permission)", f"choose another folder with {option}")


def refuse_replacing(path: Path, start: bytes, kind: str, option: str = "-o") -> None:
    """Raise FocalError where a folder or a file of another kind is in the place of what will be written.

    Args:
        start: what all files of `kind` start with, but for white space. An empty file may be replaced.
    """
    if path.is_dir():
        raise FocalError(f"{path}: is a folder", f"give another file with {option}")
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            there = file.read(len(start) + 80).lstrip()
    except OSError:  # unreadable, so nothing is known of it
        there = b"?"
    if there and not there.startswith(start):
        raise FocalError(
            f"{path}: is there already, and holds something else than {kind}", f"give another file with {option}"
        )
