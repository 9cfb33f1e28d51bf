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
from focalcli.evaluation import NO_LIMITS, Evaluation, Limits
from focalcli.files import refuse_unwritable
from focalcli.splits import load_split, refuse_missing_pictures, split_file

# (title, pictures) -> a context that gives what is to be called with pictures done and pictures in all
Counting = Callable[[str, int], AbstractContextManager[Callable[[int, int], None] | None]]


@dataclass(frozen=True)
class Wanted:
    """Which figures to compute.

    Attributes:
        engine: of AP and AR. rounds: of the bootstrap over images; 0 leaves the intervals out.
        why: the diagnosis too. limits: of the gates; a class that they name and nobody scores is refused before a
            detector runs. suspects: the labels that are disputed too.
    """

    engine: evaluation.Engine = "focal"
    rounds: int = 0
    why: bool = False
    limits: Limits = NO_LIMITS
    suspects: bool = False


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
        refuse_unwritable(folder)
        _refuse_to_replace_baseline(folder, wanted.limits)
    if is_detections(source):
        result = of_file(source, dataset, split, images, wanted)
    else:
        result = of_checkpoint(source, dataset, split, images, wanted, **work)
    result = replace(result, gates=evaluation.check(result.table, wanted.limits))
    if wanted.suspects:
        result = replace(result, suspects=_disputed(result))
    notes = [*result.warnings, *result.table.unlike_pycocotools]
    if wanted.limits.baseline is not None:
        notes += evaluation.baseline_warnings(result.table, result.dataset.sha256, wanted.limits.baseline)
    if folder is not None:
        notes.append(f"saved in {folder}: {', '.join(save(result, folder))}")
    elif result.of_checkpoint:
        notes.append("not saved; --out DIR keeps the detections and this table")
    return result, notes


def _disputed(result: Evaluation) -> tuple[evaluation.Suspect, ...]:
    scored = {row.category_id for row in result.table.classes}
    labels = [label for label, category in enumerate(result.dataset.categories) if category.id in scored]
    return evaluation.find_suspects(result.dataset, result.found, labels)


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
    wanted.limits.refuse_unknown_classes(data.class_names, str(data.path))
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
    return Evaluation(table, source, data, found, False, diagnosis, warnings=warnings)


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
    raw_scores: bool = False,
) -> Evaluation:
    """Run a checkpoint's detector on a dataset, by default on the one that its training was scored on, and score it.

    Ghost categories, which it was not trained on, are left out. What is scored is what the saved file will hold
    (`rounded`), so that scoring that file again gives the same numbers.

    Args:
        raw_scores: leave out the calibration that the checkpoint holds.

    Raises:
        FocalError: no readable checkpoint, no dataset, or one of other classes.
    """
    from focalcli.training import checkpoint, run

    path = checkpoint.find(source)
    target = run.pick_device(device)
    trained = run.load_trained(path, target)
    wanted.limits.refuse_unknown_classes([entry["name"] for entry in trained.meta["classes"]], str(path))
    data, warnings = data_of(source, trained.meta["data"], dataset, split, images)
    if not raw_scores:
        warnings += calibration_notes(trained.meta, data)
    with counting(f"eval {path}", len(data.image_ids)) as progress:
        found = run.detect(
            trained, data, device=target, batch_size=batch_size, workers=workers, progress=progress,
            raw_scores=raw_scores,
        )  # fmt: skip
    found = found.rounded()
    names = {entry["name"] for entry in trained.meta["classes"]}
    labels = [label for label, category in enumerate(data.categories) if category.name in names]
    table, diagnosis = _score(data, found, wanted, trained.meta["data"]["train"], labels)
    return Evaluation(table, path, data, found, True, diagnosis, warnings=warnings)


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


def data_of(
    source: Path,
    splits: Mapping[str, Any],
    dataset: Path | None,
    split: str | None,
    images: Path | None,
    command: str = "eval",
) -> tuple[Dataset, tuple[str, ...]]:
    """The dataset to run a checkpoint on, by default one that its training used, and warnings.

    Args:
        splits: what the checkpoint's meta says of its data. command: the one that asks, for the hint.

    Raises:
        FocalError: it is not there, or its pictures are not.
    """
    warning = None
    if dataset is None:
        data, warning = _recorded(source, splits, split or "val", images, command)
    else:
        data = load_split(split_file(dataset, split), images)
    refuse_missing_pictures(data, "--images DIR")
    return data, () if warning is None else (warning,)


def calibration_notes(meta: Mapping[str, Any], data: Dataset) -> tuple[str, ...]:
    """That the scores of a checkpoint are calibrated, and on which pictures."""
    if not (fitted := meta.get("calibration")):
        return ()
    note = f"scores are calibrated ({fitted['method']}, on {fitted['path']}); --raw-scores leaves that out"
    if fitted["sha256"] == data.sha256:
        note += f". ECE on these pictures flatters: {fitted['images']:,} of them made the map"
    return (note,)


def _recorded(
    source: Path, splits: Mapping[str, Any], name: str, images: Path | None, command: str
) -> tuple[Dataset, str | None]:
    """The dataset that the training used, and a warning when it is no longer the same."""
    hint = f"give the dataset: `focal {command} {shlex.quote(str(source))} DATASET`"
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


def _refuse_to_replace_baseline(folder: Path, limits: Limits) -> None:
    """Raise FocalError where a worse result would become the next one's baseline, which the next one then passes."""
    if limits.baseline is not None and limits.baseline.path.resolve() == (folder / "metrics.json").resolve():
        raise FocalError(
            f"--baseline {limits.baseline.path}: this evaluation would be saved in its place",
            "keep the baseline elsewhere, or save this one elsewhere with --out DIR",
        )


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
    if result.of_checkpoint:
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
