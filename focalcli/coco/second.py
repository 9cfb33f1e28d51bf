"""The second half (or nearly) of a large file's annotations, read by a second process at the same time.

Where that half begins is guessed: at what looks like the start of a record in the middle of the file. The first process
finds out. Once it has read every record before that place, and the list of annotations goes on there, the guess was
right, since how JSON is to be read depends on nothing but the text before. Otherwise, or when the second process met
anything out of the ordinary, what that has read is thrown away and the first one goes on alone.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, NoReturn

from focalcli.coco.records import RecordReader, readers
from focalcli.coco.scan import Scanner
from focalcli.coco.source import Source

LARGE_BYTES = 64 << 20  # below, the 20 ms that the process costs are not worth it
FIRST_SHARE = 0.53  # of the file is the first process's: the second one has its columns to send as well
PIPE_BYTES = 1 << 20  # as much as any user may ask for; through the usual 64 KiB the columns take twice as long
_BETWEEN_RECORDS = re.compile(rb"}\s*,\s*(?={)")


class SecondHalf:
    """What the second process reads.

    Attributes:
        start: the offset of its first record, if it is one.
    """

    def __init__(self, start: int, pipe: BinaryIO) -> None:
        self.start = start
        self._pipe = pipe

    def hand_over(self, reader: RecordReader) -> int | None:
        """Give `reader` the records from `start` on; returns where their list ends, None where they were not read."""
        try:
            end, columns = pickle.load(self._pipe)
        except (EOFError, pickle.UnpicklingError):
            return None
        reader.take(columns)
        return end


@contextmanager
def second_half(source: Source) -> Iterator[SecondHalf | None]:
    """Start the process, where the file is large and there is a core for it, and end it whatever happens.

    Only on Linux and from a process of one thread is a fork without risk.
    """
    size = source.plain_bytes()
    able = sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1 and threading.active_count() == 1
    middle = int((size or 0) * FIRST_SHARE)
    between = _BETWEEN_RECORDS.search(source.look(middle)) if able and size and size >= LARGE_BYTES else None
    if between is None:
        yield None
        return
    start = middle + between.end()
    import fcntl  # not everywhere, as fork is not

    outlet, inlet = os.pipe()
    with suppress(OSError):  # where less is allowed
        fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that numpy keeps, which hold no lock of ours
        child = os.fork()
    if not child:
        _read(source, start, outlet, inlet)
    os.close(inlet)
    try:
        with open(outlet, "rb") as pipe:
            yield SecondHalf(start, pipe)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


class _OutOfTheOrdinary(Exception):
    """A record that does not fit its type."""


class _Typed:
    """A scan.Reader that gives up where a record would have to be read slowly, and numbered."""

    def __init__(self, reader: RecordReader) -> None:
        self.typed = reader.typed

    def lenient(self, entries: list[Any]) -> None:
        raise _OutOfTheOrdinary


def _read(source: Source, start: int, outlet: int, inlet: int) -> NoReturn:
    """All that the second process does; it ends here, without a word."""
    try:
        os.close(outlet)
        reader = readers(source.name)["annotations"]
        end = Scanner(source, start).rest_of_records(_Typed(reader))
        with open(inlet, "wb") as pipe:
            pickle.dump((end, reader.columns()), pipe, protocol=pickle.HIGHEST_PROTOCOL)
    finally:
        os._exit(0)
