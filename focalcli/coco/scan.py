"""A COCO file's outline, and the cuts between its records, without ever holding the file.

The top level is walked key by key, in any order; the value of a key that nobody wants is skipped by its brackets and
strings, whatever it holds. A list that is wanted is handed to a reader in blocks of whole records. Where a block may
end is guessed first: after the last `}` that is followed by `, {`. A guess can be wrong (inside a string or a nested
list) and never does harm: `[` + block + `]` is JSON only if the cut lies between two records of this list, since
a JSON parser's state depends on nothing but the text before. Where the guess fails the block is cut at a comma that
brackets and quotes, counted from the block's start, show to be between records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from focalcli.coco.brackets import CLOSE, COMMA, STEPS, structure
from focalcli.coco.source import EXPECTED, Source
from focalcli.errors import FocalError

MOST_DEPTH = 900  # of brackets in brackets; Python's own limit is 1000 calls
MOST_BYTES = 16 << 20  # of one record, and of a key
UNREADABLE = (msgspec.DecodeError, RecursionError, OverflowError)  # what a reader of types may raise
_GUESSES = 8
_PIECE_BYTES = 1 << 20
_SPACE = re.compile(rb"[ \t\n\r]*")
_STRING_BODY = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,:\[\]{}\"]*")


class Reader(Protocol):
    """Takes the records of one list, block by block."""

    def typed(self, text: bytes) -> None:
        """A JSON list of records. Raises one of UNREADABLE, and then has taken none of them."""

    def lenient(self, entries: list[Any]) -> None:
        """The same, as json reads it."""


class Elsewhere(Protocol):
    """The records of a list from the offset `start` on, which somebody else is reading."""

    start: int

    def hand_over(self, reader: Any) -> int | None:
        """Give them to `reader`; returns the offset after the list, None where they could not be read."""


class Scanner:
    """Walks through one file, once.

    Every method raises FocalError for what is not JSON, with the place, for nesting deeper than MOST_DEPTH and for
    records of more than MOST_BYTES.
    """

    def __init__(self, source: Source, start: int = 0) -> None:
        self._source = source
        self._chunks = source.chunks(start)
        self._buffer = b""
        self._at = 0  # what lies before has been dealt with
        self._offset = start  # of the buffer's first byte, in the file

    def outline(self) -> Iterator[str]:
        """The keys of the outermost object, each to be followed by `records` or `skip`.

        Raises:
            FocalError: it is no object.
        """
        first = self.peek()
        if not first:
            raise FocalError(f"{self._source.name}: is empty", EXPECTED)
        if first != b"{":
            kind = self.skip()
            self._end()
            hint = "expected an object with the lists `images`, `annotations` and `categories`"
            if kind == "a list":
                hint += "; a list is what detections look like: `focal eval DETECTIONS.json DATASET`"
            raise FocalError(f"{self._source.name}: not a COCO dataset (it is {kind})", hint)
        self._at += 1
        separator = b"," if self.peek() != b"}" else b"}"
        self._at += separator == b"}"
        while separator == b",":
            if self.peek() != b'"':
                self._fail(self._at, "expecting property name enclosed in double quotes")
            key = self._key()
            if self.peek() != b":":
                self._fail(self._at, "expecting ':' delimiter")
            self._at += 1
            yield key
            separator = self.peek()
            if separator not in (b",", b"}"):
                self._fail(self._at, "expecting ',' delimiter")
            self._at += 1
        self._end()

    def peek(self) -> bytes:
        """The next byte that is not white space; empty at the end of the file."""
        while True:
            self._at = _SPACE.match(self._buffer, self._at).end()
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            if not self._fill():
                return b""

    def skip(self) -> str:
        """Pass over one value; returns what JSON calls it, as `kind_of`."""
        first = self.peek()
        if first in (b"[", b"{"):
            self._skip_nested()
            return "a list" if first == b"[" else "an object"
        if first == b'"':
            self._skip_string()
            return "text"
        return self._skip_scalar()

    def records(self, reader: Reader, elsewhere: Elsewhere | None = None) -> None:
        """Hand the list that comes next to `reader`; not what has been read elsewhere, if it is of this list."""
        self._at += 1
        self._records(reader, elsewhere, start=True)

    def rest_of_records(self, reader: Reader) -> int:
        """Hand the records of a list to `reader`, from one of them on; returns the offset after its end."""
        self._records(reader, None, start=False)
        return self._offset + self._at

    def _records(self, reader: Reader, elsewhere: Elsewhere | None, *, start: bool) -> None:
        while True:
            if elsewhere and self._offset + self._at == elsewhere.start:
                if end := elsewhere.hand_over(reader):
                    self._buffer, self._at, self._offset = b"", 0, end
                    self._chunks = self._source.chunks(end)
                    return
                elsewhere = None
            if self._guessed_block(reader, elsewhere.start - self._offset if elsewhere else -1):
                start = False
                self._fill()
                continue
            end, closed = self._sure_block()
            if end is None:
                self._refuse_huge_record()
                if not self._fill():
                    self._parse("[" + self._text(len(self._buffer)), cut=True)
                continue
            if closed and self._buffer[end] != ord("]"):
                self._parse("[" + self._text(end + 1))
            if self._text(end).strip():
                self._read(reader, end)
            elif not (start and closed):
                self._fail(end, "expecting value")
            self._at, start = end + 1, False
            if closed:
                return

    # --------------------------------------------------------------------------------------------------- inside a list

    def _guessed_block(self, reader: Reader, stop: int) -> bool:
        """Read up to the last record boundary that looks like one, not beyond `stop`; False, and nothing done, if it
        is none."""
        end = stop + 1 if self._at < stop < len(self._buffer) else len(self._buffer)
        for _ in range(_GUESSES):
            end = self._buffer.rfind(b"{", self._at, end)
            if end < 0:
                return False
            near = max(self._at, end - 64)
            before = self._buffer[near:end].rstrip()
            record = before[:-1].rstrip()
            if before.endswith(b",") and record.endswith(b"}"):
                try:
                    reader.typed(self._list(near + len(record)))
                except UNREADABLE:
                    return False
                self._at = end
                return True
        return False

    def _list(self, end: int) -> bytes:
        return b"".join((b"[", memoryview(self._buffer)[self._at : end], b"]"))

    def _sure_block(self) -> tuple[int | None, bool]:
        """Where the list ends, and True; or the last comma between two of its records; or None where there is none."""
        at, depth, in_string, comma = self._at, 0, False, None
        while piece := self._piece(at):
            positions, kinds, in_string = structure(piece, in_string)
            depths = depth + np.cumsum(STEPS[kinds])
            closing = np.flatnonzero(depths < 0)[:1]
            self._refuse_depth(depths[: closing[0]] if closing.size else depths)
            if closing.size:
                return at + int(positions[closing[0]]), True
            commas = positions[(kinds == COMMA) & (depths == 0)]
            comma = at + int(commas[-1]) if commas.size else comma
            depth = int(depths[-1]) if depths.size else depth
            at += len(piece)
        return comma, False

    def _read(self, reader: Reader, end: int) -> None:
        try:
            reader.typed(self._list(end))
        except UNREADABLE:
            # json, unlike msgspec, takes NaN and Infinity, which exporters write: they become findings, no full stop
            reader.lenient(self._parse(f"[{self._text(end)}]"))

    def _refuse_huge_record(self) -> None:
        if len(self._buffer) - self._at <= MOST_BYTES:
            return
        text = "[" + self._text(len(self._buffer))
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            # a quote too many makes strings of all that follows: then that is what to say
            if not error.msg.startswith("Unterminated") and error.pos < len(text) - 100:
                self._fail(self._at + _bytes(text[: error.pos]) - 1, error.msg)
        except (ValueError, RecursionError):
            pass
        self._refuse_size("record")

    # ------------------------------------------------------------------------------------------------- strings, nesting

    def _key(self) -> str:
        while True:
            end = _STRING_BODY.match(self._buffer, self._at + 1).end()
            if self._buffer[end : end + 1] == b'"':
                break
            if len(self._buffer) - self._at > MOST_BYTES:
                self._refuse_size("key")
            if not self._fill():
                self._fail(self._at, "unterminated string starting at", cut=True)
        text = self._text(end + 1)
        try:
            key = json.loads(text)
        except json.JSONDecodeError as error:
            self._fail(self._at + _bytes(text[: error.pos]), error.msg)
        self._at = end + 1
        return key

    def _skip_string(self) -> None:
        start = self._offset + self._at
        self._at += 1
        while True:
            self._at = _STRING_BODY.match(self._buffer, self._at).end()
            if self._buffer[self._at : self._at + 1] == b'"':
                self._at += 1
                return
            if not self._fill():
                self._fail(start - self._offset, "unterminated string starting at", cut=True)

    def _skip_scalar(self) -> str:
        end, more = len(self._buffer), True
        while end == len(self._buffer) and more and end - self._at <= MOST_BYTES:
            more = self._fill()
            end = _SCALAR.match(self._buffer, self._at).end()
        if end - self._at > MOST_BYTES:
            self._refuse_size("number")
        try:
            kind = kind_of(json.loads(self._text(end)))
        except json.JSONDecodeError:
            self._fail(self._at, "expecting value", cut=end == len(self._buffer))
        except ValueError:  # Python refuses to read whole numbers of more than 4300 digits
            kind = "a number"
        self._at = end
        return kind

    def _skip_nested(self) -> None:
        depth, in_string = 0, False
        while True:
            while piece := self._piece(self._at):
                positions, kinds, in_string = structure(piece, in_string)
                depths = depth + np.cumsum(STEPS[kinds])
                closing = np.flatnonzero((depths == 0) & (kinds == CLOSE))[:1]
                self._refuse_depth(depths[: closing[0]] if closing.size else depths)
                if closing.size:
                    self._at += int(positions[closing[0]]) + 1
                    return
                depth = int(depths[-1]) if depths.size else depth
                self._at += len(piece)
            if not self._fill():
                self._fail(len(self._buffer), "expecting ',' delimiter", cut=True)

    def _piece(self, at: int) -> bytes:
        """The buffer from `at`, as much as may be looked at at once; never the first half of an escape alone."""
        piece = self._buffer[at : at + _PIECE_BYTES]
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        return piece[:-1] if backslashes % 2 else piece

    # --------------------------------------------------------------------------------------- the file, its errors

    def _fill(self) -> bool:
        """Read on, at least as much as is held, so that a long record costs no more per byte; False at the end."""
        pieces = [self._buffer[self._at :]]
        wanted, got = max(1, len(pieces[0])), 0
        for chunk in self._chunks:
            pieces.append(chunk)
            got += len(chunk)
            if got >= wanted:
                break
        self._offset += self._at
        self._at = 0
        self._buffer = b"".join(pieces)
        return got > 0

    def _end(self) -> None:
        if self.peek():
            self._fail(self._at, "extra data")

    def _text(self, end: int) -> str:
        """The buffer from where we are to `end`; a character that the end of the file cut in two becomes another."""
        return self._buffer[self._at : end].decode("utf-8", "replace")

    def _parse(self, text: str, *, cut: bool = False) -> list[Any]:
        """What json makes of a bracket and the text from where we are."""
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            self._fail(self._at + _bytes(text[: error.pos]) - 1, error.msg, cut=cut)
        except RecursionError:
            self._refuse_nesting()
        except ValueError:  # Python's own limit
            message = f"{self._source.name}: not COCO (a number of more than 4,300 digits)"
            raise FocalError(message, EXPECTED) from None

    def _refuse_depth(self, depths: npt.NDArray[np.int64]) -> None:
        if depths.size and depths.max() > MOST_DEPTH:
            self._refuse_nesting()

    def _refuse_nesting(self) -> NoReturn:
        raise FocalError(f"{self._source.name}: JSON nested too deeply to be COCO", EXPECTED) from None

    def _refuse_size(self, of: str) -> NoReturn:
        raise FocalError(f"{self._source.name}: not COCO (a {of} of more than {MOST_BYTES >> 20} MB)", EXPECTED)

    def _fail(self, at: int, problem: str, *, cut: bool = False) -> NoReturn:
        """Raise FocalError with the place `at` in the buffer, and the file's end where it was cut short."""
        offset = self._offset + at
        cut = cut or not self.peek()
        place = self._source.line_and_column(offset)
        where = f"line {place[0]}, column {place[1]}" if place else f"byte {offset}"
        end = ""
        if cut:
            last = self._source.line_and_column(self._offset + len(self._buffer))
            end = f"; the file ends at line {last[0]}: it was cut short" if last else "; it was cut short"
        message = f"{self._source.name}: not JSON ({where}: {problem.lower()}{end})"
        raise FocalError(message, f"{EXPECTED}; copy or export it again") from None


def kind_of(value: Any) -> str:
    """What JSON calls a value: "a list", "an object", "text", "a number", "true", "false" or "null"."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return {list: "a list", dict: "an object", str: "text"}.get(type(value), "a number")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
