"""A COCO file as Python objects, to be changed in place and written again in the layout that it came in.

Unlike the audit, which streams, this holds the whole file, as everything that focal does not know must come out as it
came in: about ten times the file's size.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["images", "annotations", "categories"]
KINDS: tuple[Kind, ...] = ("images", "annotations", "categories")

_HEAD = 1 << 16  # bytes that show the layout
_INDENTED = re.compile(r'\s*\{\r?\n([ \t]*)"')
_RECORD_ON_ONE_LINE = re.compile(r'^([ \t]*)\{[ \t]*"', re.MULTILINE)


@dataclass(frozen=True)
class Layout:
    """How the file is laid out, so that a diff shows the repairs only.

    Attributes:
        indent: of the keys; None when all is on one line. record: of records that take one line each, else None.
        spaced: a blank after commas and colons. ascii: other letters are escapes. end: what follows the last brace.
    """

    indent: str | None
    record: str | None
    spaced: bool
    ascii: bool
    end: str

    @classmethod
    def of(cls, data: bytes) -> Layout:
        """The layout of a JSON text, judged by its first lines and its last."""
        head = data[:_HEAD].decode("utf-8", "replace").strip()
        indented = _INDENTED.match(head)
        record = _RECORD_ON_ONE_LINE.search(head, 1)
        return cls(
            indent=None if "\n" not in head else indented[1] if indented else "",
            record=record[1] if record and "\n" in head else None if indented else "",
            spaced=re.search(r'":\s', head) is not None,
            ascii=data.isascii(),
            end="\n" if data.endswith(b"\n") else "",
        )


@dataclass
class Document:
    """The file's content, with the records that repairs take out; these keep their row until `compact`."""

    content: dict[str, Any]
    layout: Layout
    dropped: dict[Kind, set[int]] = field(default_factory=lambda: {kind: set() for kind in KINDS})

    @classmethod
    def of(cls, content: dict[str, Any], data: bytes) -> Document:
        return cls(content, Layout.of(data))

    def alive(self, kind: Kind) -> Iterator[tuple[int, Any]]:
        """(row, record) of those that no repair has taken out."""
        gone = self.dropped[kind]
        return ((row, record) for row, record in enumerate(self.content[kind]) if row not in gone)

    def counts(self) -> dict[Kind, int]:
        return {kind: len(self.content[kind]) - len(self.dropped[kind]) for kind in KINDS}

    def compact(self) -> None:
        """Take the dropped records out for good."""
        for kind in KINDS:
            if self.dropped[kind]:
                self.content[kind] = [record for _, record in self.alive(kind)]
                self.dropped[kind] = set()

    def without_nan(self) -> int:
        """Put null where NaN or Infinity stand, which are not JSON; how many there were."""
        found, todo = 0, [self.content]
        while todo:
            holder: Any = todo.pop()
            for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
                if isinstance(value, float) and not math.isfinite(value):
                    holder[key] = None
                    found += 1
                elif isinstance(value, (dict, list)):
                    todo.append(value)
        return found

    def text(self) -> bytes:
        """The file's bytes. NaN and Infinity raise ValueError: see `without_nan`."""
        try:
            return self._text(self.layout.ascii).encode()
        except UnicodeEncodeError:  # half of a pair of escapes, which only an escape can write
            return self._text(True).encode()

    def _text(self, ascii_only: bool) -> str:
        layout = self.layout
        by_record = layout.indent is not None and layout.record is not None
        indent = None if by_record else layout.indent
        comma, colon = ("," if indent is not None or not layout.spaced else ", "), (": " if layout.spaced else ":")
        encode = json.JSONEncoder(
            ensure_ascii=ascii_only, allow_nan=False, indent=indent, separators=(comma, colon), check_circular=False
        ).encode
        if not by_record:
            return encode(self.content) + layout.end
        parts = []
        for key, value in self.content.items():
            if key in KINDS and value:
                rows = ",\n".join(f"{layout.record}{encode(record)}" for record in value)
                text = f"[\n{rows}\n{layout.indent}]"
            else:
                text = encode(value)
            parts.append(f"{layout.indent}{encode(key)}{colon}{text}")
        return "{\n" + ",\n".join(parts) + "\n}" + layout.end
