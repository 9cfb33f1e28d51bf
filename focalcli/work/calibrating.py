"""A checkpoint or detections -> a map that makes scores chances, judged on pictures that it has not seen, and kept.

    calibrate = detections -> hit or miss -> map, judged on pictures that it has not seen -> checkpoint | results file

torch is imported for a checkpoint only.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from focalcli import __version__, evaluation
from focalcli.coco import Dataset
from focalcli.detections import Detections, load_detections, results_json
from focalcli.errors import FocalError
from focalcli.evaluation import ApTable, HeldOut
from focalcli.files import refuse_replacing, write_whole
from focalcli.splits import load_split, split_file
from focalcli.work.scoring import Counting, data_of, is_detections


@dataclass(frozen=True)
class Wanted:
    """How to fit and judge: see evaluation.hold_out.

    Attributes:
        force: keep the map even where it does not help, or was fitted to the pictures of the training.
    """

    method: evaluation.Method = "platt"
    per_class: bool = True
    share: float | None = None
    rounds: int = 200
    seed: int = 0
    force: bool = False


@dataclass(frozen=True)
class Calibrated:
    """A map of scores, and what it does.

    Attributes:
        held_out: the map, and its worth on pictures that it has not seen.
        raw, mapped: AP of all pictures with the scores as they were, and with the map that is kept: the same figures,
            at other operating thresholds.
        kept: the checkpoint or results file that has the map now; None where it did not help.
    """

    source: Path
    dataset: Dataset
    wanted: Wanted
    held_out: HeldOut
    raw: ApTable
    mapped: ApTable
    kept: Path | None = None
    warnings: tuple[str, ...] = ()

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat dict for each class and one for all of them, for CSV."""
        rows = []
        thresholds = [
            (raw.threshold, now.threshold) for raw, now in zip(self.raw.classes, self.mapped.classes, strict=True)
        ]
        changes = (*self.held_out.classes, self.held_out.overall)
        for change, (old, new) in zip(changes, (*thresholds, (None, None)), strict=True):
            rows.append(
                {
                    "name": change.name,
                    "category_id": change.category_id,
                    "detections": change.detections,
                    "own_map": change.own_map,
                    "mean_score": change.before.mean_score,
                    "precision": change.before.precision,
                    "ECE_before": change.before.ECE,
                    "ECE_after": change.after.ECE,
                    "ECE_luck": change.ECE_luck,
                    "ECE_change": change.ECE_change,
                    "ECE_low": change.ECE_low,
                    "ECE_high": change.ECE_high,
                    "LaECE_before": change.before.LaECE,
                    "LaECE_after": change.after.LaECE,
                    "threshold_before": old,
                    "threshold_after": new,
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "schema_version": 1,
            "kind": "calibration",
            "source": str(self.source),
            "dataset": str(self.dataset.path),
            "dataset_sha256": self.dataset.sha256,
            "method": self.wanted.method,
            "per_class": self.wanted.per_class,
            "AP": self.mapped.summary["AP"],
            "AP50": self.mapped.summary["AP50"],
            "kept": None if self.kept is None else str(self.kept),
            "held_out": self.held_out.to_dict(),
            "classes": self.to_rows(),
            "maps": self.held_out.scaling.to_dict(),
        }


def calibrate(
    source: Path,
    dataset: Path | None,
    split: str | None,
    images: Path | None,
    output: Path | None,
    wanted: Wanted,
    **work: Any,
) -> Calibrated:
    """Fit a map of scores to chances, judge it on held-out pictures, and keep it where it helps.

    Args:
        output: of detections, the results file to write; a checkpoint keeps its map itself.
        work: of a checkpoint: see of_checkpoint.

    Raises:
        FocalError: as of_file and of_checkpoint.
    """
    if is_detections(source):
        return of_file(source, dataset, split, images, output, wanted)
    if output is not None:
        raise FocalError(
            f"-o {output}: a checkpoint keeps its map itself", "leave -o out; it is for the results JSON of a detector"
        )
    return of_checkpoint(source, dataset, split, images, wanted, **work)


def of_file(
    source: Path, dataset: Path | None, split: str | None, images: Path | None, output: Path | None, wanted: Wanted
) -> Calibrated:
    """Calibrate COCO results JSON, and write all its detections with chances for scores to `output`.

    Raises:
        FocalError: either file is missing or wrong, too few detections, or `output` cannot be written.
    """
    if dataset is None or output is None:
        missing = "the dataset that they belong to" if dataset is None else "a file to write them to"
        raise FocalError(
            f"{source}: detections need {missing}",
            f"`focal calibrate {shlex.quote(str(source))} DATASET -o OUT.json`",
        )
    if str(output) == "-":
        raise FocalError("-o -: results go into a file", "give its name, which ends in .json")
    refuse_replacing(output, b"[", "detections")
    data = load_split(split_file(dataset, split), images)
    found = load_detections(source, data)
    evaluation.refuse_misread(data, found, str(source))
    result = _judged(source, data, found, list(range(len(data.categories))), wanted, ())
    if not (result.held_out.helps or wanted.force):
        return result
    write_whole(output, results_json(result.held_out.scaling.of_detections(found, data.class_names), data))
    return replace(result, kept=output)


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
) -> Calibrated:
    """Run a checkpoint's detector on a dataset, by default the one that its training was scored on, and calibrate it.

    Raises:
        FocalError: no readable checkpoint, one that cannot be written, no dataset, or the one that it was trained on.
    """
    from focalcli.training import checkpoint, run

    path = checkpoint.find(source)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise FocalError(f"{path.parent}: cannot be written to (no permission)", "calibrate a copy of the checkpoint")
    target = run.pick_device(device)
    trained = run.load_trained(path, target)
    data, warnings = data_of(source, trained.meta["data"], dataset, split, images, "calibrate")
    if data.sha256 == trained.meta["data"]["train"]["sha256"] and not wanted.force:
        raise FocalError(
            f"{data.path}: the detector was trained on these pictures, where its scores are surer and more often right "
            "than elsewhere; expected others",
            "choose another split, such as val; --force fits to these",
        )
    with counting(f"calibrate {path}", len(data.image_ids)) as progress:
        found = run.detect(
            trained, data, device=target, batch_size=batch_size, workers=workers, progress=progress, raw_scores=True
        ).rounded()
    names = {entry["name"] for entry in trained.meta["classes"]}
    labels = [label for label, category in enumerate(data.categories) if category.name in names]
    result = _judged(path, data, found, labels, wanted, warnings)
    if not (result.held_out.helps or wanted.force):
        return result
    checkpoint.replace_meta(path, {**trained.meta, "calibration": _as_kept(result)})
    return replace(result, kept=path)


def _judged(
    source: Path, data: Dataset, found: Detections, labels: list[int], wanted: Wanted, warnings: Sequence[str]
) -> Calibrated:
    """Raises FocalError where nothing can be fitted, or scores differ by less than a map can keep apart."""
    try:
        held_out = evaluation.hold_out(
            data, evaluation.judge(data, found, labels), labels, wanted.method,
            per_class=wanted.per_class, share=wanted.share, rounds=wanted.rounds, seed=wanted.seed,
        )  # fmt: skip
    except FocalError as error:
        raise FocalError(f"{source} on {data.path}: {error.message}", error.hint) from None
    mapped = held_out.scaling.of_detections(found, data.class_names)
    raw, now = (evaluation.evaluate(data, each, labels=labels) for each in (found, mapped))
    if raw.summary != now.summary:
        raise FocalError(
            f"{source}: some scores differ by so little that a map makes them equal: AP {raw.summary['AP']:.6f} would "
            f"become {now.summary['AP']:.6f}",
            "write the scores with 12 digits or fewer",
        )
    return Calibrated(source, data, wanted, held_out, raw, now, warnings=tuple(warnings))


def _as_kept(result: Calibrated) -> dict[str, Any]:
    """What the checkpoint's meta says of its map: what it is, what it was fitted to, and what it was worth."""
    overall = result.held_out.overall
    return {
        "method": result.wanted.method,
        "per_class": result.wanted.per_class,
        "maps": result.held_out.scaling.to_dict(),
        "path": str(result.dataset.path.resolve()),
        "sha256": result.dataset.sha256,
        "images": result.held_out.n_fitted,
        "held_out": {"ECE_before": overall.before.ECE, "ECE_after": overall.after.ECE},
        "focal": __version__,
    }
