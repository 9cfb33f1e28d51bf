"""A study's file among processes: who holds it, who still lives, what a damaged one says, and in what two differ."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from focalcli.errors import FocalError


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Whatever a damaged study does to Optuna and SQLite is an error of the file's."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0][:120]
        raise FocalError(
            f"{folder / 'study.db'}: cannot be read or written any more ({reason})",
            f"is the disk full? a damaged study is of no use: delete {folder}, or choose another name with name=...",
        ) from None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process of a study at a time decides what is next."""
    with (folder / "study.lock").open("w") as file:
        _lock(file)
        yield


def me() -> list[Any]:
    """Machine, process and time: who trains a run."""
    return [socket.gethostname(), os.getpid(), time.time()]


def lives(owner: Sequence[Any]) -> bool:
    """Whether the process that began a run is still there; on another machine it is taken to be."""
    host, pid, _ = owner
    if host != socket.gethostname():
        return True
    if pid == os.getpid():
        return False  # it is asking for the next run, so it is not at this one
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lock(file: Any) -> None:
    """Held until the file is closed; where there is no fcntl (Windows) two processes may do one run twice."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna warns of its own experimental parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def unlike(known: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """In what a study differs from what is asked for, in words."""
    if known.get("data") != facts.get("data"):
        return "other training annotations"
    if known.get("recipe") != facts.get("recipe"):
        theirs, ours = _flat(known.get("recipe") or {}), _flat(facts["recipe"])
        keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
        return f"another recipe: {', '.join(keys[:4])}{' and more' if len(keys) > 4 else ''} differ"
    if known.get("metric") != facts.get("metric"):
        return f"another metric, {known.get('metric')} in place of {facts['metric']}"
    if known.get("epochs") != facts.get("epochs"):
        return f"runs of another length, {known.get('epochs')} epochs in place of {facts['epochs']}"
    return "another version of focal"


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value."""
    return {f"{name}.{key}": value for name, section in recipe.items() for key, value in dict(section).items()}
