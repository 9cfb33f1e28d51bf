"""The text of a COCO file, a chunk at a time: plain or gzip, from a file, a pipe or stdin, always as UTF-8 bytes.

No more than a chunk is held, whatever a gzip file swells to. A byte order mark is dropped, UTF-16 and UTF-32 become
UTF-8. Offsets are in bytes of that text.
"""

from __future__ import annotations

import codecs
import hashlib
import sys
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from focalcli.errors import FocalError

STDIN = Path("-")
CHUNK_BYTES = 1 << 19  # from 64 KiB to 4 MiB there is hardly a difference in time
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INSIDE_A_CHARACTER = bytes(range(0x80, 0xC0))  # UTF-8 bytes that do not begin one


class Source:
    """One file, or stdin for the path `-`.

    Attributes:
        name: what messages call it. digest: the sha256 of what was read, for what cannot be read twice.
    """

    def __init__(self, path: Path, chunk_bytes: int) -> None:
        self.path = path
        self.name = "stdin" if path == STDIN else str(path)
        self.digest: str | None = None
        self._chunk_bytes = chunk_bytes

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The text; of a plain file also from an offset on, between two characters.

        Raises:
            FocalError: missing, unreadable, a damaged gzip file, a zip archive, or no text. Not at once: while it is
                read.
        """
        head, raw = _headed(self._raw(start))
        if head.startswith(_ZIP):
            raise FocalError(f"{self.name}: is a zip archive", "unpack it, and give its folder or the COCO JSON in it")
        return self._utf8(self._gunzip(raw) if head.startswith(_GZIP) else raw, start)

    def plain_bytes(self) -> int | None:
        """The size of a file whose offsets are those of the text; None for all others."""
        if not self._is_file() or not self.look(0).lstrip().startswith(b"{"):
            return None
        return self.path.stat().st_size

    def look(self, start: int) -> bytes:
        """What stands at `start`, up to a chunk of it."""
        return next(self._raw(start), b"")

    def line_and_column(self, offset: int) -> tuple[int, int] | None:
        """Where an offset is, counted from 1, in characters; reads the file again. None for a pipe."""
        if not self._is_file():
            return None
        line, column = 1, 1
        for chunk in self.chunks():
            part = chunk[:offset]
            line += part.count(b"\n")
            column = 1 if b"\n" in part else column
            column += len(part[part.rfind(b"\n") + 1 :].translate(None, _INSIDE_A_CHARACTER))
            offset -= len(part)
            if not offset:
                break
        return line, column

    def _raw(self, start: int) -> Iterator[bytes]:
        if self.path == STDIN:
            yield from self._once(_stdin())
            return
        try:
            with self.path.open("rb") as file:
                if start:
                    file.seek(start)
                yield from iter(lambda: file.read(self._chunk_bytes), b"") if self._is_file() else self._once(file)
        except OSError as error:
            raise _unreadable(self.name, error) from None

    def _is_file(self) -> bool:
        return self.path != STDIN and self.path.is_file()

    def _once(self, file: BinaryIO) -> Iterator[bytes]:
        digest = hashlib.sha256()
        while chunk := file.read(self._chunk_bytes):
            digest.update(chunk)
            yield chunk
        self.digest = digest.hexdigest()

    def _gunzip(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        member = zlib.decompressobj(wbits=31)
        for chunk in chunks:
            rest, full = chunk, False
            while rest or full:
                if member.eof:  # gzip files may be joined end to end; zeros after the last are padding
                    if not rest.strip(b"\0"):
                        break
                    member = zlib.decompressobj(wbits=31)
                try:
                    text = member.decompress(rest, self._chunk_bytes)
                except zlib.error as error:
                    raise FocalError(f"{self.name}: damaged gzip file ({error})", _COPY_AGAIN) from None
                rest = member.unused_data if member.eof else member.unconsumed_tail
                full = len(text) >= self._chunk_bytes  # then it may hold back more
                yield text
        if not member.eof:
            raise FocalError(f"{self.name}: gzip file was cut short", _COPY_AGAIN)

    def _utf8(self, chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
        head, chunks = _headed(chunks)
        mark, encoding = next(((mark, name) for mark, name in _MARKS if head.startswith(mark)), (b"", "utf-8"))
        decoder = codecs.getincrementaldecoder(encoding)()
        done = start
        for chunk in chunks:
            pending = len(decoder.getstate()[0])
            if encoding == "utf-8":
                chunk = chunk.removeprefix(mark) if not done else chunk
                if not pending and chunk.isascii():
                    done += len(chunk)
                    yield chunk
                    continue
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as error:
                place = f"byte {done - pending + error.start}"
                raise FocalError(f"{self.name}: not {encoding.upper()} text ({place})", EXPECTED) from None
            done += len(chunk)
            yield chunk if encoding == "utf-8" else text.encode()


EXPECTED = "expected a COCO JSON file"
_COPY_AGAIN = "copy or download it again; `gzip -t` says whether it is whole"


def sha256_of(path: Path) -> str:
    """Of the file's bytes, as sha256sum prints it."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(str(path), error) from None
    return digest.hexdigest()


def _headed(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, at least as many as tell what a file is, and all of it with these in one chunk."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 4:
            break
    return head, chain([head], chunks)


def _stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise FocalError("stdin: nothing is piped in", "zcat train.json.gz | focal audit -, or give a file")
    return sys.stdin.buffer


def _unreadable(name: str, error: OSError) -> FocalError:
    if isinstance(error, FileNotFoundError):
        return FocalError(f"{name}: no such file", "give the path of a COCO JSON file")
    if isinstance(error, IsADirectoryError):
        return FocalError(f"{name}: is a folder, not a COCO JSON", "give one of the JSON files in it")
    return FocalError(f"{name}: cannot be read ({error.strerror})", "check the file's permissions")
