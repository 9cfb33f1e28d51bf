"""What every result for people is printed with: rich in a terminal, plain text in a pipe, which needs no rich at all.

Nothing of a user's file is interpreted: markup is off, and what cannot be printed (escape sequences, lone surrogates)
is shown as an escape.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from focalcli.errors import FocalError
from focalcli.render.text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FOLD_WORDS = 28  # a terminal may wrap names and paths from this width on, rather than lose a column
GAP = 2
LABEL = 13  # screen cells of the words that stand before a paragraph


@dataclass(frozen=True)
class Plain:
    """A console that is no terminal: no colour, and lines as long as they have to be."""

    file: TextIO
    is_terminal = False

    @property
    def encoding(self) -> str:
        return self.file.encoding or "utf-8"

    def print(self) -> None:
        """An empty line, as rich's."""
        self.file.write("\n")


def make_console(stderr: bool = False, file: TextIO | None = None) -> Console | Plain:
    """For stdout, stderr or `file`: rich in a terminal, without colour when NO_COLOR is set."""
    stream = file or (sys.stderr if stderr else sys.stdout)
    if not stream.isatty():
        return Plain(stream)
    from rich.console import Console

    color = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=stream, color_system=color, markup=False, emoji=False, highlight=False)


def print_error(error: FocalError, console: Console | Plain | None = None) -> None:
    """`error:` and `hint:`, one line each, on stderr."""
    console = console or make_console(stderr=True)
    print_line(console, ("error: ", "bold red"), error.message)
    if error.hint:
        print_line(console, ("hint: ", "cyan"), error.hint)


def _safe(text: object, console: Console | Plain) -> str:
    """`text` as the console can show it: whatever is not printable, or not in its encoding, becomes an escape."""
    return visible(text).encode(console.encoding, "backslashreplace").decode(console.encoding)


def print_line(console: Console | Plain, *parts: str | tuple[str, str], indent: int = 0, label: str = "") -> None:
    """One line of text; a terminal wraps it below its own start, a pipe gets it whole.

    Args:
        parts: text, or (text, style). label: stands bold in the indent.
    """
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    if not console.is_terminal:
        text = "".join(_safe(words, console) for words, _ in pairs)
        console.file.write(f"{label.ljust(indent)}{text}\n")
        return
    from rich.table import Table
    from rich.text import Text

    styled = Text.assemble(*((_safe(words, console), style) for words, style in pairs))
    if not indent:
        console.print(styled)
        return
    grid = Table.grid(padding=0)
    grid.add_column(width=indent, style="bold")
    grid.add_column(overflow="fold")
    grid.add_row(label, styled)
    console.print(grid)


def has_unicode(console: Console | Plain) -> bool:
    return console.encoding.lower().startswith("utf")


@dataclass(frozen=True)
class Column:
    """A column of a table; those with a `rank` are left out of a terminal that is too narrow, highest rank first.

    Attributes:
        note: what the title means, said under the table when the column is shown.
    """

    title: str
    cells: Sequence[str]
    left: bool = False
    style: str = ""
    rank: int = 0
    note: str = ""


def print_table(console: Console | Plain, columns: Sequence[Column], caption: str = "") -> None:
    """A table that never cuts a cell: in a narrow terminal it leaves out whole columns and says which."""
    shown, dropped = list(columns), []
    if console.is_terminal:
        while _least_width(shown) > console.width and any(column.rank for column in shown):
            dropped.append(max(shown, key=lambda column: column.rank))
            shown.remove(dropped[-1])
        console.print(rich_table(console, shown))
    else:
        console.file.write(_plain_table(console, shown))
    left_out = f"left out of this narrow terminal: {', '.join(c.title or 'bar' for c in dropped)}" if dropped else ""
    if note := "; ".join(filter(None, (*(column.note for column in shown), caption, left_out))):
        print_line(console, (note, "dim"))


def _least_width(columns: Sequence[Column]) -> int:
    """Screen cells that a table of these columns needs when text wraps at FOLD_WORDS; GAP between two columns."""
    widest = [max(map(_cells, (column.title, *column.cells))) for column in columns]
    foldable = [column.left and not column.rank for column in columns]  # rather none than half a path
    return sum(min(w, FOLD_WORDS) if f else w for w, f in zip(widest, foldable, strict=True)) + GAP * len(columns)


def _cells(text: str) -> int:
    """How many screen cells a text takes: two for each letter of some scripts."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def rich_table(console: Console, columns: Sequence[Column]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD if has_unicode(console) else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0) if has_unicode(console) else (0, GAP, 0, 0),  # the box adds a cell between columns
        header_style="bold",
    )
    for column in columns:
        justify = "left" if column.left else "right"
        table.add_column(column.title, justify=justify, style=column.style, no_wrap=not column.left, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(_safe(cell, console) for cell in row))
    return table


def _plain_table(console: Console | Plain, columns: Sequence[Column]) -> str:
    """Every cell whole on one line, however long; a rule under the titles where the encoding has one."""
    filled = []
    for column in columns:
        texts = [_safe(text, console) for text in (column.title, *column.cells)]
        widths = list(map(_cells, texts))
        pads = [" " * (max(widths) - width) for width in widths]
        filled.append([text + pad if column.left else pad + text for text, pad in zip(texts, pads, strict=True)])
    gap = " " * GAP
    lines = [gap.join(cells) for cells in zip(*filled, strict=True)]
    if has_unicode(console):
        lines.insert(1, "─" * max(map(_cells, lines)))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def print_rows(rows: Sequence[dict[str, Any]], console: Console | Plain) -> None:
    """Flat records as a table of text; the columns are the keys of the first."""
    keys = list(rows[0]) if rows else []
    print_table(console, [Column(key, [str(row[key]) for row in rows], left=True) for key in keys])
