"""Values -> Recipe, or one FocalError: the first problem with its place and a hint, and how many more there are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from focalcli.errors import FocalError, nearest
from focalcli.recipe.reading import KeyPath, Source, dotted, number_hint, read
from focalcli.recipe.schema import ANNOTATIONS, KEYWORDS, METRICS, SCHEMAS, SECTIONS, TAGS, Recipe, as_dict, expected

MAX_BYTES = 256 * 1024  # three mappings over the 1203 classes of LVIS are 90 KB; PyYAML reads 50 KB in a second
LIST_OF_KEYS = "`focal recipe schema` lists every key"
ALWAYS_PATHS = ("data.path", "data.train_images", "data.val_images", "data.cache")
MAYBE_PATHS = ("data.train", "data.val", "model.weights")
HINTS = {
    "eval.score_threshold": "a higher threshold cuts the precision-recall curve and lowers AP; "
    "the score at which to use the detector is another figure",
    "loss.alpha": "alpha is the weight of positives, and negatives get 1 - alpha",
}

# the keys that a recipe must have, and sizes that leave any other size free: what overrides alone are checked with
STAND_IN: dict[str, Any] = {
    "name": "recipe",
    "data": {"path": ""},
    "model": {"backbone": "resnet50"},
    "anchors": {"sizes": [32, 64, 128, 256, 512]},
    "input": {"min_size": 32, "max_size": 16384},
    "loss": {"alpha": 0.25},
    "schedule": {"epochs": 1, "batch_size": 1, "base_batch": 1, "lr": 0.01},
}

Places = dict[KeyPath, tuple[str, str]]  # path of keys -> what stands before the message, what after the value


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: the YAML file; relative paths in it are relative to its folder.
        overrides: `key.sub=value` as typed on a command line. A path in one is relative to the current directory;
            text is taken as it stands, and 1e-4 is a number. An override may supply a key that the file lacks.

    Raises:
        FocalError: the file cannot be read, or it or an override says something that a recipe cannot.
    """
    path = Path(path)
    document = read(file_text(path), Source(str(path)))
    if document.values is None:
        raise FocalError(f"{path}: is empty", f"a recipe needs name, {', '.join(SECTIONS)}; {LIST_OF_KEYS}")
    if not isinstance(document.values, dict):
        raise FocalError(f"{path}: is not a mapping of keys to values", f"start with `name: ...`; {LIST_OF_KEYS}")
    places: Places = {key: (str(path), f" (line {line})") for key, line in document.lines.items()}
    values = document.values
    apply_overrides(overrides, values, places)
    return check(values, places, place=str(path), folder=path.parent)


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Dotted key -> value of `key.sub=value` words, for a recipe that is yet to be written; paths become absolute.

    Raises:
        FocalError: no such key, or not a value that it takes.
    """
    values = deepcopy(STAND_IN)
    places: Places = {}
    keys = apply_overrides(overrides, values, places)
    given = {key: values[key] if "." not in key else values[key.split(".")[0]][key.split(".")[1]] for key in keys}
    check(values, places, place="recipe", folder=Path())
    return given


def from_dict(values: Mapping[str, Any], *, folder: Path = Path(), place: str = "recipe") -> Recipe:
    """The recipe that plain values say, as from `as_dict`; `place` stands before a FocalError's message."""
    return check(deepcopy(dict(values)), {}, place=place, folder=folder)


def absolute(recipe: Recipe) -> Recipe:
    """The same recipe with every path in it absolute: what to dump into another folder."""
    values = as_dict(recipe)
    for key in (*ALWAYS_PATHS, *MAYBE_PATHS):
        section, leaf = key.split(".")
        values[section][leaf] = absolute_value(key, values[section][leaf], recipe.resolve(""))
    return from_dict(values)


def file_text(path: Path) -> str:
    """The text of a recipe file; every reason why it has none is a FocalError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        others = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = nearest(path.name, others)
        hint = f"did you mean {path.parent / near}?" if near else "give the path of a recipe, a YAML file"
        raise FocalError(f"{path}: no such file", hint) from None
    except IsADirectoryError:
        hint = f"give a recipe, a YAML file; of a dataset, `focal recommend {path} -o recipe.yaml` writes one"
        raise FocalError(f"{path}: is a folder", hint) from None
    except OSError as error:
        raise FocalError(f"{path}: cannot be read: {error.strerror}", "check its permissions") from None
    if len(data) > MAX_BYTES:
        raise FocalError(f"{path}: is larger than {MAX_BYTES // 1024} KB", "is this a recipe? one has a few KB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FocalError(f"{path}: is not UTF-8 text (line {line})", "save it again as UTF-8") from None


def shown(override: str) -> str:
    """An override as the place of an error: on one line, and not longer than a line."""
    words = " ".join(override.split())
    return f"override {words if len(words) <= 80 else words[:76] + ' ...'}"


def apply_overrides(overrides: Sequence[str], values: dict[str, Any], places: Places) -> list[str]:
    """Put every override into the values; returns their keys, each of which may come once."""
    keys: list[str] = []
    for override in overrides:
        key = apply_override(override, values, places)
        if key in keys:
            raise FocalError(f"{shown(override)}: {key} is overridden twice", "keep one of them")
        keys.append(key)
    return keys


def apply_override(override: str, values: dict[str, Any], places: Places) -> str:
    """Put one `key.sub=value` into the values, and its place over the file's; returns the key."""
    key, equals, raw = override.partition("=")
    key, source = key.strip(), Source(shown(override), typed=True)
    if not equals or not key:
        source.refuse("is not a key and a value", "write key.sub=value, such as schedule.lr=0.01")
    if key in SECTIONS:
        leaves = ", ".join(k for k in SCHEMAS if k.startswith(f"{key}."))
        source.refuse(f"{key} is a section", f"set one of its keys: {leaves}")
    if key not in SCHEMAS:
        source.refuse(f"{key} is not a recipe key", key_hint(key))
    path: KeyPath = tuple(key.split("."))
    value = override_value(key, raw, source)
    for old in [p for p in places if p[: len(path)] == path]:
        del places[old]
    places[path] = (source.place, "")
    target = values
    if len(path) == 2:
        if target.get(path[0]) is None:
            target[path[0]] = {}
        target = target[path[0]]
    if isinstance(target, dict):  # else the section is not a mapping, which check() reports with its line
        target[path[-1]] = value
    return key


def override_value(key: str, raw: str, source: Source) -> Any:
    """The value of an override: for a text key what was typed, `no` and `012` included; else what YAML reads."""
    kinds = [arm.get("type") for arm in SCHEMAS[key].get("anyOf", [SCHEMAS[key]])]
    if "string" not in kinds or raw[:1] in ("'", '"'):
        value = read(raw, source, tuple(key.split("."))).values
    else:
        value = None if "null" in kinds and raw in ("", "~", "null") else raw
    return absolute_value(key, value, Path.cwd())


def absolute_value(key: str, value: Any, folder: Path) -> Any:
    """The value with a path made absolute from `folder`; the name of a split and a keyword stay as they are."""
    if not isinstance(value, str) or value == "" or (key == "model.weights" and value in KEYWORDS):
        return value
    path = os.path.abspath(folder / os.path.expanduser(value))
    if key in ALWAYS_PATHS:
        return path
    looks = any(sep in value for sep in (os.sep, os.altsep) if sep) or os.path.isfile(path)
    looks = looks or ("." in value if key == "model.weights" else value.endswith(ANNOTATIONS))
    return path if key in MAYBE_PATHS and looks else value


def check(values: dict[str, Any], places: Places, *, place: str, folder: Path) -> Recipe:
    """Validate merged values; `places` says where each came from, `place` where one without an entry did."""
    for section in SECTIONS:
        if values.get(section) is None:  # also a section with every key commented out; each missing key is then named
            values[section] = {}
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise first_problem(error.errors(include_url=False), places, place) from None
    recipe._folder = folder
    return recipe


def first_problem(errors: Iterable[Mapping[str, Any]], places: Places, place: str) -> FocalError:
    """The problem that stands first: in the order of the file, then overrides, then keys that are missing."""
    order = {path: i for i, path in enumerate(places)}  # reading noted them in the order of the text
    found_at = [(tuple(p for i, p in enumerate(e["loc"]) if not (i == 2 and p in TAGS)), e) for e in errors]
    inside = {path[:n] for path, _ in found_at for n in range(len(path))}
    # pydantic also calls a list too short because of a wrong item in it: only the innermost place counts
    problems = [(path, error) for path, error in found_at if path not in inside]

    def source(path: KeyPath) -> KeyPath | None:
        return next((path[:n] for n in range(len(path), 0, -1) if path[:n] in places), None)

    path, error = min(problems, key=lambda problem: (problem[1]["type"] == "missing", order.get(source(problem[0]), 0)))
    message, hint = explain(error, path, *places.get(source(path), (place, "")), written=path in places)
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    return FocalError(message + more, hint)


def explain(error: Mapping[str, Any], path: KeyPath, place: str, at: str, *, written: bool) -> tuple[str, str]:
    """One of pydantic's errors as our message and hint; `at` is the line, in brackets, or empty.

    A key that is not `written` has its default, which only a check against another key can refuse.
    """
    key, kind, value = dotted(path), error["type"], error["input"]
    if kind == "extra_forbidden":
        return f"{place}: {key} is not a recipe key{at}", key_hint(key, nested=len(path) > 1)
    schema = value_schema(path)
    if kind == "missing":
        section, _, leaf = key.rpartition(".")
        under = f" under `{section}:`" if section else ""
        return f"{place}: {key} is missing", f"add `{leaf}: ...`{under}: {expected(schema)}"
    if kind == "model_type":
        return f"{place}: {key} is {found(value)}{at}, expected a section with keys", LIST_OF_KEYS
    if path[-1] == "[key]":
        return f"{place}: {dotted(path[:-1])!r} is not a class name{at}, expected 1 to 200 characters", LIST_OF_KEYS
    wanted = str(error["ctx"]["error"]) if kind == "value_error" else expected(schema)
    default = " by default" if not written and "default" in schema else ""
    return f"{place}: {key} is {found(value)}{default}{at}, expected {wanted}", value_hint(path, schema, value)


def value_schema(path: KeyPath) -> Mapping[str, Any]:
    """The JSON schema of what stands at a path: of a key, or of an item of its list or mapping."""
    key = ".".join(map(str, path[:2]))
    schema = SCHEMAS.get(key) or SCHEMAS.get(str(path[0]), {})
    if len(path) < 3:
        return schema
    if schema.get("type") == "array":
        return schema["items"]
    return schema["oneOf"][0]  # a class of loss.alpha, gamma or prior takes what the bare number does


def found(value: Any) -> str:
    """A wrong value in a few words."""
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    words = f"text {value!r}" if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)
    return words if len(words) <= 70 else f"{words[:66]} ..."


def value_hint(path: KeyPath, schema: Mapping[str, Any], value: Any) -> str:
    """What to write in place of a wrong value."""
    wanted = expected(schema)
    if isinstance(value, str) and ("number" in wanted or "integer" in wanted) and (hint := number_hint(value)):
        return hint
    if isinstance(value, str) and "," in value and schema.get("type") == "array":
        return f"a list has brackets: [{value}]"
    if isinstance(value, (int, float)) and not isinstance(value, bool) and ("text" in wanted or "enum" in schema):
        return f"to make it text, put it in quotes: '{value}'"
    if value is None and ":" in str(path[-1]):
        return "YAML needs a space after the colon: {name: 0.5}"
    words = schema.get("enum") or {("model", "weights"): KEYWORDS, ("eval", "best"): METRICS}.get(path, ())
    if isinstance(value, str) and (near := nearest(value, words)):
        return f"did you mean {near}?"
    key = dotted(path[:2])
    about = schema.get("description") or SCHEMAS.get(key, {}).get("description")
    return HINTS.get(key) or (f"{key}: {about}" if about else LIST_OF_KEYS)


def key_hint(key: str, nested: bool = True) -> str:
    """The keys most likely meant by one that does not exist: near it in its section, or the same word elsewhere."""
    section, _, leaf = key.rpartition(".")
    if key in SCHEMAS and not nested:
        return f"write `{leaf}: ...` indented under `{section}:`; {LIST_OF_KEYS}"
    siblings = [k.rpartition(".")[2] for k in SCHEMAS if k.rpartition(".")[0] == section]
    near = nearest(leaf, siblings) if section in SECTIONS else None
    likely = [f"{section}.{near}"] if near else []
    likely += [k for k in SCHEMAS if k.rpartition(".")[2] == leaf and k not in likely]
    if not likely and (near := nearest(key, [*SCHEMAS, *SECTIONS])):
        likely = [near]
    return f"did you mean {' or '.join(likely)}? {LIST_OF_KEYS}" if likely else LIST_OF_KEYS
