"""The figures of an earlier evaluation, read from the metrics.json that `focal eval` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focalcli.errors import FocalError

MEANS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "APr", "APc", "APf",
)  # fmt: skip
CLASS_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
MOST_BYTES = 100_000_000  # 1,203 classes with their diagnosis are 15 MB
_EXPECTED = "expected the metrics.json, or the output of --format json, of `focal eval`"


@dataclass(frozen=True)
class Saved:
    """Figures in 0..1, None where undefined.

    Attributes:
        means: of MEANS, over the classes. classes: name -> its figures, of CLASS_METRICS.
        n_val, n_train: name -> objects; None when unknown.
        source, dataset, dataset_sha256: what was scored on what; None in files of focal 0.1.
    """

    path: Path
    means: Mapping[str, float | None]
    classes: Mapping[str, Mapping[str, float | None]]
    n_val: Mapping[str, int | None]
    n_train: Mapping[str, int | None]
    source: str | None
    dataset: str | None
    dataset_sha256: str | None


def load_saved(path: Path) -> Saved:
    """Read a metrics.json, or that of a run folder or of a folder that `focal eval --out` wrote.

    Raises:
        FocalError: missing, not JSON, or not what `focal eval` writes.
    """
    file = metrics_file(path)
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise FocalError(f"{file}: {size / 1e6:,.0f} MB; {_EXPECTED}", "is it a dataset, or detections?")
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise FocalError(f"{file}: cannot be read ({error.strerror}); {_EXPECTED}", "give another file") from None
    except (ValueError, RecursionError) as error:
        raise FocalError(f"{file}: not JSON ({error}); {_EXPECTED}", "write it again with `focal eval`") from None
    if not isinstance(content, dict) or content.get("kind") != "ap":
        raise FocalError(f"{file}: holds something else; {_EXPECTED}", "`focal eval ... --out DIR` writes it")
    if (version := content.get("schema_version")) != 1:
        raise FocalError(
            f"{file}: has schema_version {version!r:.20}, expected 1", "write it again with this version of focal"
        )
    entries = content.get("classes")
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries
    ):
        raise FocalError(f"{file}: classes is not a list of named classes; {_EXPECTED}", "write it again")
    texts = {key: content.get(key) for key in ("source", "dataset", "dataset_sha256")}
    return Saved(
        path=file,
        means=_figures(file, "summary", content.get("summary"), MEANS),
        classes={e["name"]: _figures(file, f"class {e['name']!r}", e, CLASS_METRICS) for e in entries},
        n_val={e["name"]: _count(e.get("n_val")) for e in entries},
        n_train={e["name"]: _count(e.get("n_train")) for e in entries},
        **{key: value if isinstance(value, str) else None for key, value in texts.items()},
    )


def metrics_file(path: Path) -> Path:
    """The metrics.json that a path means.

    Raises:
        FocalError: nothing there.
    """
    if path.is_dir():
        places = [path / "metrics.json", path / "eval" / "metrics.json"]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise FocalError(f"{path}: has no metrics.json and no eval/metrics.json", f"`focal eval {path}` writes it")
        return found
    if not path.exists():
        raise FocalError(f"{path}: no such file; {_EXPECTED}", "`focal eval ... --out DIR` writes one")
    return path


def _figures(file: Path, place: str, entry: Any, names: tuple[str, ...]) -> dict[str, float | None]:
    if not isinstance(entry, dict):
        raise FocalError(f"{file}: {place} is not an object; {_EXPECTED}", "write it again")
    figures = {}
    for name in names:
        value = entry.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 <= value <= 1):
            raise FocalError(
                f"{file}: {name} of {place} is {value!r:.40}, expected a number in 0..1 or null", "write it again"
            )
        figures[name] = None if value is None else float(value)
    return figures


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
