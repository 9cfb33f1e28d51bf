"""A checkpoint and pictures -> detections: the results file, the drawn pictures, and what was found in words.

    find (which pictures) -> numbered | listed (their ids) -> detector -> ResultsFile, Drawings, Prediction

Pictures go through in batches, and nothing of a batch stays but counts: 100,000 pictures with 10 million detections
need 0.2 GiB more than one. A picture that cannot be read is named, and the others go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from focalcli.coco import Dataset
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.files import refuse_replacing
from focalcli.splits import load_split, split_file
from focalcli.work.predicting.ids import Pictures, Unreadable, listed, numbered
from focalcli.work.predicting.pictures import Found, find
from focalcli.work.predicting.results import IMAGES_START, ResultsFile, images_file, write_images

__all__ = ["Prediction", "ResultsFile", "Unreadable", "Wanted", "predict"]

MOST_NAMED = 20  # unreadable pictures that are said; JSON has all

# (title, pictures) -> a context that gives what is to be called with pictures done and pictures in all
Counting = Callable[[str, int], AbstractContextManager[Callable[[int, int], None] | None]]


@dataclass(frozen=True)
class Wanted:
    """What shall become of the detections.

    Attributes:
        out: the results file. draw: the folder of drawn pictures. min_score: what is drawn and counted.
    """

    out: Path | None = None
    draw: Path | None = None
    min_score: float = 0.3


@dataclass(frozen=True)
class Prediction:
    """What was found.

    Attributes:
        dataset: the pictures with their ids, those that cannot be read left out, and the categories.
        found: for each of its pictures, how many objects of which category (an index) have min_score or more.
        detections: how many there are, down to the checkpoint's own score_threshold.
        unreadable: pictures that could not be read. links: those that lead out of a named folder, not followed.
    """

    checkpoint: Path
    dataset: Dataset
    found: tuple[dict[int, int], ...]
    detections: int
    min_score: float
    score_threshold: float
    unreadable: tuple[Unreadable, ...]
    links: tuple[str, ...]

    def images(self) -> list[dict[str, Any]]:
        """COCO's `images`: which id is which picture, and the frame of its boxes."""
        columns = (self.dataset.image_ids, self.dataset.file_names, self.dataset.image_wh.tolist())
        return [
            {"id": image_id, "file_name": name, "width": width, "height": height}
            for image_id, name, (width, height) in zip(*columns, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the detections themselves, which may be too many to be held."""
        return {
            "schema_version": 1,
            "checkpoint": str(self.checkpoint),
            "score_threshold": self.score_threshold,
            "image_root": str(self.dataset.image_root),
            "images": self.images(),
            "categories": [{"id": category.id, "name": category.name} for category in self.dataset.categories],
            "unreadable": [{"file": each.place, "reason": each.reason} for each in self.unreadable],
            "links_not_followed": list(self.links),
        }


def predict(
    checkpoint: Path,
    pictures: Sequence[str],
    wanted: Wanted,
    file: ResultsFile | None,
    *,
    dataset: Path | None,
    split: str | None,
    batch_size: int,
    workers: int,
    device: str,
    counting: Counting,
    raw_scores: bool = False,
) -> tuple[Prediction, list[str]]:
    """Run a checkpoint's detector on pictures, leave what is wanted, and say what the user should know beside it.

    Args:
        pictures: files, folders and patterns. file: takes all detections, where they are wanted.
        dataset: a COCO file, or a folder with its split, whose ids the results shall have.
        raw_scores: leave out the calibration that the checkpoint holds.

    Raises:
        FocalError: no readable checkpoint, no readable picture, or an output would take the place of an input.
    """
    found = find(pictures)
    listing = None if dataset is None else load_split(split_file(dataset, split), None)
    if wanted.out is not None:
        _refuse_replacing(wanted.out, listing)

    from focalcli.training import checkpoint as checkpoints
    from focalcli.training import run

    path = checkpoints.find(checkpoint)
    target = run.pick_device(device)
    trained = run.load_trained(path, target)
    shown, unreadable = numbered(found, trained.classes) if listing is None else listed(found, listing)
    if not shown.places:
        raise _nothing_readable(unreadable)
    sink = _Sink(wanted, file, found, shown, [category.name for category in trained.classes])
    broken: dict[int, str] = {}
    with counting(f"predict {path}", len(shown.places)) as progress:
        for part in run.detected(
            trained, shown, device=target, batch_size=batch_size, workers=workers, progress=progress,
            unreadable=lambda index, error: broken.setdefault(index, error.message), raw_scores=raw_scores,
        ):  # fmt: skip
            sink.take(part)
    unreadable += [
        Unreadable(shown.places[index], reason.removeprefix(f"{shown.image_path(index)}: "))
        for index, reason in sorted(broken.items())
    ]
    unreadable.sort(key=lambda each: each.place)
    if len(broken) == len(shown.places):
        raise _nothing_readable(unreadable)
    sink.finish(broken)
    result = Prediction(
        checkpoint=path,
        dataset=shown.without(broken),
        found=tuple(dict(count) for index, count in enumerate(sink.counts) if index not in broken),
        detections=sink.detections,
        min_score=wanted.min_score,
        score_threshold=trained.thresholds.score,
        unreadable=tuple(unreadable),
        links=found.links,
    )
    if wanted.out is not None and listing is None:
        write_images(images_file(wanted.out), result.images(), result.dataset)
    notes = _notes(result, wanted, listing is None)
    if trained.scaling is not None and not raw_scores:
        notes.insert(0, "scores are calibrated, as `focal calibrate` left them; --raw-scores leaves that out")
    return result, notes


class _Sink:
    """Where the detections of each batch go: the results file, the drawings, and the counts of what was found."""

    def __init__(
        self, wanted: Wanted, file: ResultsFile | None, found: Found, shown: Pictures, classes: Sequence[str]
    ) -> None:
        self._wanted, self._file, self._shown = wanted, file, shown
        self._drawings = None
        if wanted.draw is not None:
            from focalcli.work.predicting.drawings import Drawings

            self._drawings = Drawings(wanted.draw, found, shown, classes)
        if file is not None:
            file.start()
        self._drawn: set[int] = set()
        self.counts: list[Counter[int]] = [Counter() for _ in shown.places]
        self.detections = 0

    def take(self, part: Detections) -> None:
        """The detections of one batch."""
        if self._file is not None:
            self._file.add(part, self._shown)
        self.detections += len(part)
        sure = part.scores >= self._wanted.min_score
        for index in np.unique(part.image).tolist():
            rows = sure & (part.image == index)
            self.counts[index].update(part.label[rows].tolist())
            self._draw(index, part.boxes[rows], part.label[rows], part.scores[rows])

    def finish(self, broken: Collection[int]) -> None:
        """Draw the pictures in which nothing was found, and end the results."""
        nothing = np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0)
        for index in set(range(len(self.counts))).difference(self._drawn, broken):
            self._draw(index, *nothing)
        if self._file is not None:
            self._file.finish()

    def _draw(self, index: int, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> None:
        if self._drawings is not None:
            self._drawings.draw(index, boxes, labels, scores)
            self._drawn.add(index)


def _refuse_replacing(out: Path, listing: Dataset | None) -> None:
    """Raise FocalError where the results would be called what they are not, or take the place of what is read."""
    if str(out) == "-":
        raise FocalError("-o -: results go into a file", "`--format json` prints them")
    if out.suffix.lower() != ".json":
        raise FocalError(f"-o {out}: results are JSON; expected a name that ends in .json", f"-o {out}.json")
    if out.is_dir():
        raise FocalError(f"-o {out}: is a folder", f"-o {out / 'results.json'}")
    if listing is not None and out.exists() and listing.path.exists() and out.samefile(listing.path):
        raise FocalError(f"-o {out}: is the dataset itself", "give another file with -o")
    refuse_replacing(out, b"[", "detections")
    if listing is None:
        refuse_replacing(images_file(out), IMAGES_START, "the ids of `focal predict`")


def _nothing_readable(unreadable: Sequence[Unreadable]) -> FocalError:
    first = unreadable[0]
    return FocalError(
        f"{first.place}: {first.reason}{f', and {len(unreadable) - 1:,} more like it' if len(unreadable) > 1 else ''}",
        "give pictures: JPEG, PNG, TIFF, WebP or another format that Pillow reads",
    )


def _notes(result: Prediction, wanted: Wanted, own_ids: bool) -> list[str]:
    notes = [f"warning: {each.place}: {each.reason}" for each in result.unreadable[:MOST_NAMED]]
    if more := len(result.unreadable) - len(notes):
        notes.append(f"warning: {more:,} more pictures cannot be read")
    if result.links:
        links = f"{len(result.links):,} link{'s' * (len(result.links) > 1)}"
        notes.append(f"{links} out of the folders not followed, the first is {result.links[0]}: name it to include it")
    if wanted.min_score < result.score_threshold:
        notes.append(
            f"--min-score {wanted.min_score:g}: the checkpoint gives no scores below {result.score_threshold:g} "
            "(eval.score_threshold of its recipe)"
        )
    if wanted.out is not None:
        scored = f"{result.detections:,} detections with a score of {result.score_threshold:g} or more"
        ids = f", the ids in {images_file(wanted.out)}" if own_ids else ""
        notes.append(f"{scored} saved in {wanted.out}{ids}")
    if wanted.draw is not None:
        notes.append(f"drawn in {wanted.draw}")
    return notes
