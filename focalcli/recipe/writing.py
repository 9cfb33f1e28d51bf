"""Recipe -> YAML that a person wants to edit: every key, in schema order, each with what it means beside it.

The text reads back the same under YAML 1.1 (PyYAML) and 1.2: numbers have a point and a signed exponent, and text
that any reader could take for something else is in quotes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from focalcli.recipe.schema import SCHEMAS, SECTIONS, Recipe, as_dict, expected

COMMENT_COLUMN = 44  # comments stand no further right than this; a longer value pushes only its own comment
PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")


def dump(recipe: Recipe, *, header: str = "", comments: Mapping[str, str] | None = None) -> str:
    """The recipe as commented YAML; `load` of it gives an equal recipe.

    Args:
        recipe: what to write. Its relative paths mean nothing in another folder: see `absolute`.
        header: lines to put on top, as comments.
        comments: by dotted key ("loss.alpha", "loss.alpha.<class>", or a section), in place of the description.

    Raises:
        ValueError: a comment is for a key that this recipe does not have.
    """
    notes = dict(comments or {})
    values = as_dict(recipe)
    blocks = [aligned(list(block(values, section, notes))) for section in (None, *SECTIONS)]
    if notes:
        raise ValueError(f"comments for keys that the recipe does not have: {', '.join(notes)}")
    if header:
        blocks.insert(0, "".join(f"# {printable(line)}".rstrip() + "\n" for line in header.splitlines()))
    return "\n".join(blocks)


def schema_rows() -> list[tuple[str, str, str, str]]:
    """A row per key, in schema order: (dotted key, what it takes, default as written in a recipe, description).

    The default of a key that every recipe must give is "required".
    """
    return [
        (key, expected(leaf), value_text(leaf["default"]) if "default" in leaf else "required", leaf["description"])
        for key, leaf in SCHEMAS.items()
    ]


def block(values: Mapping[str, Any], section: str | None, notes: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(line, comment) of each line of a section, or of the keys outside sections for None; uses up `notes`."""
    if section is not None:
        yield f"{section}:", notes.pop(section, "")
    for key, schema in SCHEMAS.items():
        parent, _, leaf = key.rpartition(".")
        if parent != (section or ""):
            continue
        indent = "  " if section else ""
        value = values[section][leaf] if section else values[leaf]
        note = notes.pop(key, schema["description"])
        if not isinstance(value, dict):
            yield f"{indent}{leaf}: {value_text(value)}", note
            continue
        yield f"{indent}{leaf}:", note
        for name, number in value.items():
            yield f"{indent}  {text(name)}: {value_text(number)}", notes.pop(f"{key}.{name}", "")


def aligned(lines: list[tuple[str, str]]) -> str:
    """The lines with their comments in one column, as far left as the lines that reach COMMENT_COLUMN allow."""
    column = max((len(line) for line, _ in lines if len(line) <= COMMENT_COLUMN), default=0) + 2
    return "".join((f"{line:<{column - 2}}  # {printable(note)}" if note else line) + "\n" for line, note in lines)


def value_text(value: Any) -> str:
    """A value as YAML on one line. A list of whole numbers is written without points: 24, not 24.0."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{text(name)}: {value_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        whole = all(float(item).is_integer() and abs(item) < 1e6 for item in value)
        return "[" + ", ".join(str(int(item)) if whole else value_text(item) for item in value) + "]"
    written = repr(value)
    # YAML 1.1 takes 1e-05 for text: it wants the point
    return written.replace("e", ".0e") if "e" in written and "." not in written else written


def text(value: str) -> str:
    """Text as a YAML scalar on one line: plain where every reader takes it as text, else in double quotes."""
    if PLAIN.fullmatch(value) and value.lower() not in ("y", "n") and isinstance(yaml.safe_load(value), str):
        return value
    return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=math.inf).rstrip("\n")


def printable(comment: str) -> str:
    """A comment on one line; YAML refuses control characters even there."""
    return "".join(c if c.isprintable() else " " for c in comment)
