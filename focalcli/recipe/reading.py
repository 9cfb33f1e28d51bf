"""YAML text -> plain values and the line of each, refusing whatever YAML 1.1 would turn into something else.

PyYAML's own loader reads `no` as False, `012` as 10, `12:30:45` as 45045 and lets the last of two equal keys win,
all in silence. Here its parser is kept and its constructor is not: nothing but text, numbers, null, lists and
mappings can come out, so a tag can never build an object, and an alias can never blow a small file up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from focalcli.errors import FocalError

MAX_DEPTH = 8  # a recipe needs 3 (loss, alpha, class); a thousand open brackets would end in a RecursionError
DECIMAL_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})")  # int() gives up at 4300 digits, no key wants 20
DECIMAL_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
SWITCHES = {("schedule", "compile")}  # the keys that take true or false
EXPONENT = re.compile(r"([-+]?)([0-9]+\.?[0-9]*|\.[0-9]+)[eE]([-+]?)([0-9]+)")  # a number to a person: 1e-4, 1.0e4

HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")  # "\ud83d" can be escaped in YAML, and then never be printed

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """Where a text came from: a file, or one override typed on a command line, which has no lines to speak of."""

    place: str
    typed: bool = False

    def at(self, line: int) -> str:
        return "" if self.typed else f" (line {line})"

    def refuse(self, message: str, hint: str) -> NoReturn:
        raise FocalError(f"{self.place}: {message}", hint)


@dataclass
class Document:
    """What a text says, and the line (from 1) of every key and list item in it."""

    source: Source
    values: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)


def dotted(path: Sequence[str | int]) -> str:
    """A path as people write it: loss.alpha, anchors.sizes[2]; at the top it is "the recipe"."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return words.removeprefix(".") or "the recipe"


class NodeReader(yaml.SafeLoader):
    """PyYAML's parser, stopped at the first alias, anchor, tag or absurd depth; its constructor is never called."""

    source: Source
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        at = self.source.at(event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            kind = "alias *" if isinstance(event, yaml.AliasEvent) else "anchor &"
            hint = "write the value out; to mean the text, put it in quotes"
            self.source.refuse(f"the YAML {kind}{event.anchor} is refused{at}", hint)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.source.refuse(f"the YAML tag {tag} is refused{at}", "a recipe holds plain values only: delete the tag")
        if isinstance(event, yaml.ScalarEvent) and HALF_CHARACTER.search(event.value):
            self.source.refuse(f"half a character as a \\u escape{at}", "write the character itself")
        if self.depth >= MAX_DEPTH:
            self.source.refuse(f"nested deeper than {MAX_DEPTH} levels{at}", "`focal recipe schema` lists every key")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read(text: str, source: Source, root: KeyPath = ()) -> Document:
    """Read one YAML document.

    Args:
        text: the whole of it.
        source: for the messages; with `typed`, 1e-4 is a number although YAML takes it for text.
        root: the key path that the text is the value of.

    Returns:
        values made of None, str, int, float, bool, list and dict with str keys; None for a text that says nothing.

    Raises:
        FocalError: bad syntax, several documents, or a value that YAML would turn into something else.
    """
    try:
        reader = NodeReader(text)
        reader.source = source
        node = reader.get_node() if reader.check_node() else None
        if reader.check_node():
            at = source.at(reader.peek_event().start_mark.line + 1)
            source.refuse(f"a second YAML document starts{at}", "a file holds one recipe: delete the `---`")
    except yaml.reader.ReaderError as error:
        at = source.at(text.count("\n", 0, error.position) + 1)
        source.refuse(f"character {error.character:#06x} is not allowed in YAML{at}", "delete it, or save as UTF-8")
    except yaml.MarkedYAMLError as error:
        syntax_error(error, source)
    except (ValueError, OverflowError):  # PyYAML hands the digits of an escape to chr() unchecked
        source.refuse("not valid YAML: a \\U escape of no character", "write the character itself")
    document = Document(source)
    if node is not None:
        document.values = convert(node, root, document)
    return document


def syntax_error(error: yaml.MarkedYAMLError, source: Source) -> NoReturn:
    """PyYAML's error in one line, with the hint for the mistakes that people make most."""
    mark = error.problem_mark or error.context_mark
    found = error.problem or error.context or "cannot be read"
    hint = "check the indentation, the brackets and the quotes of this line and the one before"
    if r"'\t'" in found:
        hint = "indent with spaces, not with tabs"
    elif "mapping values are not allowed" in found:
        hint = "indent keys of a section alike, and put text with ': ' in it in quotes"
    source.refuse(f"not valid YAML: {found}{source.at(mark.line + 1) if mark else ''}", hint)


def convert(node: yaml.Node, path: KeyPath, document: Document) -> Any:
    """A node as a plain value; notes the line of everything inside it."""
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return scalar(node, path, document.source)
    if isinstance(node, yaml.SequenceNode):
        return [convert(item, (*path, i), document) for i, item in enumerate(node.value)]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = mapping_key(key_node, path, document.source)
        line = key_node.start_mark.line + 1
        inner = (*path, key)
        if key in values:
            first = document.lines[inner]
            where = "" if document.source.typed else f" (lines {first} and {line})"
            hint = "keep one: YAML would take the last in silence"
            document.source.refuse(f"{dotted(inner)} is given twice{where}", hint)
        document.lines[inner] = line
        values[key] = convert(value_node, inner, document)
    return values


def mapping_key(node: yaml.Node, path: KeyPath, source: Source) -> str:
    """The key that a node spells. A class called no or 1 must be quoted: bare, YAML makes it False or a number."""
    at = source.at(node.start_mark.line + 1)
    if not isinstance(node, yaml.ScalarNode):
        hint = "a key is text; text with a bracket goes in quotes"
        source.refuse(f"{dotted(path)} has a list or mapping as a key{at}", hint)
    if node.style is None and yaml_kind(node) in ("bool", "int", "float", "null"):
        source.refuse(
            f"{dotted(path)} has the key {node.value or 'null'}, which YAML does not read as text{at}",
            f"write '{node.value}' in quotes",
        )
    return node.value


def yaml_kind(node: yaml.ScalarNode) -> str:
    """What YAML 1.1 takes a plain scalar for: str, int, float, bool, null, timestamp, merge, value."""
    return node.tag.rpartition(":")[2]


def scalar(node: yaml.ScalarNode, path: KeyPath, source: Source) -> str | int | float | bool | None:
    """The value of a scalar: quoted is text; bare is text, null or a decimal number, for SWITCHES true or false, and
    nothing else."""
    raw, kind = node.value, yaml_kind(node)
    if node.style is not None or kind not in ("bool", "int", "float", "null"):
        # a date, `<<` and `=` have YAML types of their own; here each stays the text that was written
        typed_number = source.typed and node.style is None and EXPONENT.fullmatch(raw)
        return float(raw) if typed_number else raw
    if kind == "null":
        return None
    if kind == "int" and DECIMAL_INT.fullmatch(raw):
        return int(raw)
    if kind == "float" and DECIMAL_FLOAT.fullmatch(raw):
        return float(raw)
    if path in SWITCHES and raw in ("true", "false"):
        return raw == "true"
    hint = f"{dotted(path)} takes no true or false; if {raw} is a name, write '{raw}' in quotes"
    if path in SWITCHES:
        hint = "write true or false"
    if kind != "bool":
        digits = raw.replace("_", "").lstrip("0") or "0"
        hint = f"write '{raw[:40]}' in quotes for text; for a number, write it in plain decimals"
        hint += f": {digits}" if DECIMAL_INT.fullmatch(digits) else ""
    at = source.at(node.start_mark.line + 1)
    source.refuse(f"{dotted(path)} is {raw[:40]}{at}, which YAML reads as {reading_of(raw)[:60]}", hint)


def reading_of(raw: str) -> str:
    """What PyYAML makes of a bare scalar, in its spelling; of some of its own numbers (0b_) it makes a crash."""
    try:
        value = yaml.safe_load(raw)
    except (ValueError, yaml.YAMLError):
        return "a number"
    return str(value).lower() if isinstance(value, bool) else f"the number {value}"


def number_hint(raw: str) -> str | None:
    """What to write for text that was meant as a number, or None for text that was not."""
    if match := EXPONENT.fullmatch(raw):
        sign, mantissa, exponent_sign, digits = match.groups()
        missing = ["a point"] * ("." not in mantissa) + ["a signed exponent"] * (not exponent_sign)
        mantissa += ".0" * ("." not in mantissa)
        if missing:
            return f"YAML needs {' and '.join(missing)}: {sign}{mantissa}e{exponent_sign or '+'}{digits}"
    for plain in (raw, raw.lstrip("0")):
        if DECIMAL_INT.fullmatch(plain) or DECIMAL_FLOAT.fullmatch(plain):
            return f"write {plain} without quotes"
    return None
