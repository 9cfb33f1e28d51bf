"""Where the process ends: every way out of a command becomes an exit code, and a mistake two lines on stderr.

Typer turns usage errors (2) and Ctrl-C (130) into SystemExit; what it does not know is dealt with here.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from focalcli.errors import ExitCode, FocalError

PIPE_CLOSED = 128 + 13  # what a shell says of a program that SIGPIPE ended


def run(app: Callable[[], None]) -> None:
    """Run the app and end the process as ExitCode says."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by `>&-`: else the next file that is opened takes its number
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # what the terminal cannot show becomes an escape
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # what a pipe or a disk does not take shall fail here, not after the end of Python
    except FocalError as error:
        _end(error)
    except KeyboardInterrupt:
        sys.exit(int(ExitCode.INTERRUPTED))
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # Typer makes it 1, which would mean findings
            _end_quietly()
        raise
    except BrokenPipeError:
        _end_quietly()
    except OSError as error:  # a full disk, say: the environment, not a bug
        place = f"{error.filename}: " if error.filename else ""
        _end(FocalError(f"{place}{error.strerror or error}", "check the space on the disk and the permissions"))
    except MemoryError as error:
        hint = "smaller pictures (--min-size, input.min_size) or a smaller schedule.batch_size need less"
        _end(FocalError(f"out of memory{f': {error}' if str(error) else ''}", hint))
    except Exception:  # a bug of ours: 1 would tell a script that there are findings
        traceback.print_exc()
        sys.exit(int(ExitCode.BAD_INPUT))


@contextmanager
def importing() -> Iterator[None]:
    """For the seconds that torch takes to import: Ctrl-C ends the process at once, as a shell's 130.

    As an exception it can be lost there in somebody's `except`, and the training goes on as if nothing had been typed.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds what is open, so that no file stays half-written, and then ends the process as it always does."""
    owner = os.getpid()

    def stop(number: int, _: object) -> None:
        if os.getpid() != owner:  # a worker that inherited this has nothing to tidy up
            os._exit(128 + number)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(error: FocalError) -> NoReturn:
    from focalcli.render.console import print_error

    print_error(error)
    _leave(int(error.exit_code))


def _end_quietly() -> NoReturn:
    """`focal audit ... | head -1` is no mistake: end without a word, as other tools do."""
    _leave(PIPE_CLOSED)


def _leave(code: int) -> NoReturn:
    """Exit without a second complaint about what stdout did not take."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
