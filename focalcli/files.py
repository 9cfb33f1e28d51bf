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
