"""What a user's mistake becomes: one line of error, one line of hint, and an exit code. Imports nothing of ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What `focal` tells the shell."""

    OK = 0
    FINDINGS = 1
    BAD_INPUT = 2
    DIVERGED = 3
    INTERRUPTED = 130


class FocalError(Exception):
    """A mistake in the input, the usage or the environment, with what to do about it.

    Args:
        message: the place, what was found and what was expected, in one line.
        hint: the next step, in one line.
        exit_code: what the shell gets; a mistake is 2, a training that diverged is 3.
    """

    def __init__(self, message: str, hint: str | None = None, exit_code: ExitCode = ExitCode.BAD_INPUT) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, whatever the case of either; None when none is near enough to be meant."""
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None
