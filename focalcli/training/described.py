"""A checkpoint's meta, checked before a detector is made of it: somebody may have changed the file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_PX = 100_000  # of a side: no training takes more, and a larger one would only fill the memory
DEEPEST = 8  # as the recipe allows
WIDEST = 65_536


def refuse_misfit(meta: Mapping[str, Any]) -> None:
    """Raise ValueError, in words, for the first entry that is not what description.describe writes."""
    classes = meta.get("classes")
    _hold("classes", classes, "a list of classes", isinstance(classes, list) and len(classes) > 0)
    for entry in classes:
        whole = isinstance(entry, dict) and entry.keys() == {"id", "name"}
        good = whole and isinstance(entry["name"], str) and isinstance(entry["id"], (int, str))
        _hold("classes", entry, "an id and a name", good)
    for key in ("id", "name"):
        values = [entry[key] for entry in classes]
        _hold("classes", values, f"no {key} twice", len(set(values)) == len(values))
    for place, expected, fits in _ENTRIES:
        value: Any = meta
        for key in place.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        _hold(place, value, expected, fits(value))
    for split, facts in meta["data"].items():
        _hold(f"data.{split}", facts, "path, image_root and sha256", _texts(facts, "path", "image_root", "sha256"))
        for key in ("objects", "images"):
            counts = facts.get(key)
            good = isinstance(counts, dict) and all(_whole(0)(count) for count in counts.values())
            _hold(f"data.{split}.{key}", counts, "a number for each class", good)
    if (fitted := meta.get("calibration")) is not None:
        good = _texts(fitted, "method", "path", "sha256") and _whole(0)(fitted.get("images"))
        _hold("calibration", fitted, "what `focal calibrate` keeps", good)


def _texts(entry: Any, *keys: str) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in keys)


def _hold(place: str, value: Any, expected: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{place} is {value!r:.60}, expected {expected}")


def _whole(least: int, most: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(least: float, most: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _one_or_each(value: Any) -> bool:
    return all(map(_number(0, 1e6), value if isinstance(value, list) else [value]))


# (where, what belongs there, whether it does)
_ENTRIES: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("network.width", "a number of channels", _whole(1, WIDEST)),
    ("network.head_depth", f"0 to {DEEPEST} convolutions", _whole(0, DEEPEST)),
    ("input.min_size", f"1 to {LONGEST_PX} px", _whole(1, LONGEST_PX)),
    ("input.max_size", f"1 to {LONGEST_PX} px", _whole(1, LONGEST_PX)),
    ("thresholds.score", "a score in 0..1", _number(0, 1)),
    ("thresholds.nms_iou", "an IoU in 0..1", _number(0, 1)),
    ("thresholds.max_detections", "1 or more", _whole(1)),
    ("loss.alpha", "a number, or one for each class", _one_or_each),
    ("loss.gamma", "a number, or one for each class", _one_or_each),
    ("data.train", "the training set", lambda value: isinstance(value, dict)),
    ("recipe", "the recipe", lambda value: isinstance(value, dict)),
)  # fmt: skip
