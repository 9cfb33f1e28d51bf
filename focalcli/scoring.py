"""Detections of a file or of a checkpoint -> AP table with the training's counts beside it, and the files it leaves.

    evaluate = of_file | of_checkpoint -> Evaluation (-> why each class has its AP) -> save

torch is imported for a checkpoint only: any detector's results are scored without it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from focalcli import evaluation
from focalcli.coco import Dataset, find_splits, load
from focalcli.detections import Detections, load_detections, results_json
from focalcli.errors import FocalError
from focalcli.splits import load_split, refuse_missing_pictures, split_file

# (title, pictures) -> a context that gives what is to be called with pictures done and pictures in all
Counting = Callable[[str, int], AbstractContextManager[Callable[[int, int], None] | None]]


@dataclass(frozen=True)
class Wanted:
    """Which figures to compute.

    Attributes:
        engine: of AP and AR. rounds: of the bootstrap over images; 0 leaves the intervals out.
        why: the diagnosis too.
    """

    engine: evaluation.Engine = "focal"
    rounds: int = 0
    why: bool = False


@dataclass(frozen=True)
class Evaluation:
    """An AP table, and what it is of.

    Attributes:
        source: the detections or the checkpoint. dataset: what they were scored against.
        diagnosis: why each class has its AP, where that was wanted.
        found: a checkpoint's detections, None when they came from a file.
        warnings: what makes the numbers differ from what the user may expect.
    """

    table: evaluation.ApTable
    source: Path
    dataset: Dataset
    diagnosis: evaluation.Diagnosis | None = None
    found: Detections | None = None
    warnings: tuple[str, ...] = ()

    def ordered(self, column: str | None) -> Evaluation:
        """The same with the classes in another order: see ApTable.ordered."""
        return replace(self, table=self.table.ordered(column))

    def with_objects(self, least: int) -> Evaluation:
        """The same without the classes that have fewer than `least` objects; means and totals stay those of all.

        Raises:
            FocalError: no class is left.
        """
        classes = tuple(entry for entry in self.table.classes if entry.n_val >= least)
        if not classes:
            most = max(entry.n_val for entry in self.table.classes)
            raise FocalError(
                f"{self.dataset.path}: no class has {least:,} objects; the most is {most:,}", "lower --min-val"
            )
        return replace(self, table=replace(self.table, classes=classes))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the table, what it was computed from, and the diagnosis where there is one."""
        of = {"source": str(self.source), "dataset": str(self.dataset.path), "dataset_sha256": self.dataset.sha256}
        why = {} if self.diagnosis is None else {"diagnosis": self.diagnosis.to_dict()}
        return {**self.table.to_dict(), **of, **why}


def evaluate(
    source: Path,
    dataset: Path | None,
    split: str | None,
    images: Path | None,
    out: Path | None,
    wanted: Wanted,
    **work: Any,
) -> tuple[Evaluation, list[str]]:
    """Score detections or a checkpoint, save what came of it, and say what the user should know beside the table.

    Args:
        out: where to save; a run on its own validation set is saved in RUN/eval without it, anything else nowhere.
        work: of a checkpoint: see of_checkpoint.

    Raises:
        FocalError: as of_file and of_checkpoint, or `out` cannot be written to.
    """
    is_own = source.is_dir() and (source / "checkpoints").is_dir() and dataset is None and split in (None, "val")
    folder = source / "eval" if out is None and is_own else out
    if folder is not None:
        _refuse_unwritable(folder)
    if is_detections(source):
        result = of_file(source, dataset, split, images, wanted)
    else:
        result = of_checkpoint(source, dataset, split, images, wanted, **work)
    notes = [*result.warnings, *result.table.unlike_pycocotools]
    if folder is not None:
        notes.append(f"saved in {folder}: {', '.join(save(result, folder))}")
    elif result.found is not None:
        notes.append("not saved; --out DIR keeps the detections and this table")
    return result, notes


def is_detections(source: Path) -> bool:
    """True for a COCO results file, False for a checkpoint; by the name, whether it is there or not."""
    return source.name.lower().endswith((".json", ".json.gz"))


def of_file(source: Path, dataset: Path | None, split: str | None, images: Path | None, wanted: Wanted) -> Evaluation:
    """Score COCO results JSON. Classes are counted in the dataset folder's train split, where it has one.

    Raises:
        FocalError: either file is missing or wrong, or they do not belong together.
    """
    if dataset is None:
        if not source.is_file():
            raise FocalError(f"{source}: no such file", "give the results JSON that a detector wrote, and its dataset")
        hint = f"`focal eval {shlex.quote(str(source))} DATASET`"
        raise FocalError(f"{source}: detections need the dataset that they belong to", hint)
    data = load_split(split_file(dataset, split), images)
    found = load_detections(source, data)
    evaluation.refuse_misread(data, found, str(source))
    percent = evaluation.in_percent(found)
    warnings = (f"warning: {source}: {percent}",) if percent else ()
    splits = find_splits(dataset) if dataset.is_dir() else {}
    train = next((load(file) for name, file in splits.items() if name.startswith("train")), None)
    counts = {}
    if train is not None:
        counts["objects"] = dict(zip(train.class_names, train.objects_per_class.tolist(), strict=True))
        counts["images"] = dict(zip(train.class_names, train.images_per_class.tolist(), strict=True))
    table, diagnosis = _score(data, found, wanted, counts, list(range(len(data.categories))))
    return Evaluation(table, source, data, diagnosis, warnings=warnings)


def of_checkpoint(
    source: Path,
    dataset: Path | None,
    split: str | None,
    images: Path | None,
    wanted: Wanted,
    *,
    batch_size: int,
    workers: int,
    device: str,
    counting: Counting,
) -> Evaluation:
    """Run a checkpoint's detector on a dataset, by default on the one that its training was scored on, and score it.

    Ghost categories, which it was not trained on, are left out. What is scored is what the saved file will hold
    (`rounded`), so that scoring that file again gives the same numbers.

    Raises:
        FocalError: no readable checkpoint, no dataset, or one of other classes.
    """
    from focalcli.training import checkpoint, run

    path = checkpoint.find(source)
    target = run.pick_device(device)
    trained = run.load_trained(path, target)
    warning = None
    if dataset is None:
        data, warning = _recorded(source, trained.meta["data"], split or "val", images)
    else:
        data = load_split(split_file(dataset, split), images)
    refuse_missing_pictures(data, "--images DIR")
    with counting(f"eval {path}", len(data.image_ids)) as progress:
        found = run.detect(trained, data, device=target, batch_size=batch_size, workers=workers, progress=progress)
    found = found.rounded()
    names = {entry["name"] for entry in trained.meta["classes"]}
    labels = [label for label, category in enumerate(data.categories) if category.name in names]
    table, diagnosis = _score(data, found, wanted, trained.meta["data"]["train"], labels)
    return Evaluation(table, path, data, diagnosis, found, () if warning is None else (warning,))


def _score(
    data: Dataset, found: Detections, wanted: Wanted, counts: Mapping[str, Mapping[str, int]], labels: list[int]
) -> tuple[evaluation.ApTable, evaluation.Diagnosis | None]:
    """`counts`: objects and images of each class in training, where they are known."""
    table = evaluation.evaluate(
        data,
        found,
        n_train=counts.get("objects"),
        images_train=counts.get("images"),
        labels=labels,
        engine=wanted.engine,
        rounds=wanted.rounds,
    )
    return table, evaluation.diagnose(data, found, labels) if wanted.why else None


def _recorded(source: Path, splits: dict[str, Any], name: str, images: Path | None) -> tuple[Dataset, str | None]:
    """The dataset that the training used, and a warning when it is no longer the same."""
    hint = f"give the dataset: `focal eval {shlex.quote(str(source))} DATASET`"
    if name not in splits:
        raise FocalError(f"{source}: knows the splits {' and '.join(splits)}, not {name!r}", hint)
    file, root = Path(splits[name]["path"]), Path(splits[name]["image_root"])
    if not file.is_file():
        raise FocalError(f"{source}: its {name} set {file} is no longer there", hint)
    data = load_split(file, images or (root if root.is_dir() else None))
    changed = data.sha256 != splits[name]["sha256"]
    warning = f"warning: {file} has changed since the training; the figures are of what it is now"
    return data, warning if changed else None


# ------------------------------------------------------------------------------------------------- what is kept of it


def _refuse_unwritable(folder: Path) -> None:
    """Raise FocalError for a folder that could not be made or written to, before the minutes that a detector takes."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise FocalError(f"{folder}: {there} is not a folder", "choose another folder with --out DIR")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FocalError(f"{folder}: cannot be written to (no permission)", "choose another folder with --out DIR")


def save(result: Evaluation, folder: Path) -> tuple[str, ...]:
    """Write metrics.json, per_class.csv and, of a checkpoint, predictions.coco.json; each whole or not at all.

    Raises:
        FocalError: the folder cannot be written to.
    """
    rows = result.table.to_rows()
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files = {
        "metrics.json": (json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n").encode(),
        "per_class.csv": text.getvalue().encode("utf-8", "backslashreplace"),
    }
    if result.found is not None:
        files["predictions.coco.json"] = results_json(result.found, result.dataset)
    aside = folder / f".{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            aside.write_bytes(content)
            os.replace(aside, folder / name)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        reason = f"{folder}: cannot be written to ({error.strerror})"
        raise FocalError(reason, "choose another folder with --out DIR") from None
    return tuple(files)
