"""Detections that fit a dataset in form and not in meaning: corners for sizes, fractions for pixels, ids off by one.

Such a file scores an AP near 0 without a word of why. Each reading that other programs write is tried on the surest
detections; where it finds objects and the file as it stands finds next to none, that is the mistake, and the file is
refused with what to change. A detector that is merely bad fits no reading, and is scored.

Shapes: n detections looked at. Boxes are xywh in pixels unless said otherwise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from focalcli.coco import Dataset, Floats, Ints
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.evaluation.matching import Ranked, overlaps, rank_in_group

_IMAGES = 500  # looked at, evenly spread
_OF_EACH_IMAGE = 10  # the surest
_IOU = 0.5
_FEWEST = 5  # detections that a reading must place on objects: fewer can be chance
_ENOUGH = 0.2  # of the detections looked at
_BETTER = 3  # times as many as the file as it stands; large objects overlap their own misread boxes
_BETTER_CLASSES = 10  # with few classes a bad detector may well call one of them the next


def refuse_misread(dataset: Dataset, detections: Detections, place: str) -> None:
    """Raise FocalError when the detections find objects only if they are read in another way.

    Args:
        place: what messages call the detections.
    """
    ranked = _surest(dataset, detections)
    if not len(ranked):
        return
    as_written = _on_objects(dataset, ranked)
    if _BETTER * as_written <= len(ranked):
        _refuse_boxes(dataset, ranked, as_written, place)
        _refuse_images(dataset, ranked, as_written, place)
    _refuse_classes(dataset, ranked, place)


def in_percent(detections: Detections) -> str | None:
    """What to say of scores that go to 100 instead of 1: AP is the same, thresholds and calibration are not."""
    highest, lowest = float(detections.scores.max(initial=0.0)), float(detections.scores.min(initial=0.0))
    if not 1.5 < highest <= 100 or lowest < 0:
        return None
    return f"scores reach {highest:g}: in percent? AP is the same; thresholds and calibration want 0 to 1"


def _surest(dataset: Dataset, detections: Detections) -> Ranked:
    """The best few of some images, in any class."""
    some = np.zeros(len(dataset.image_ids), dtype=np.bool_)
    some[:: len(some) // _IMAGES + 1] = True
    index = np.flatnonzero(some[detections.image])
    index = index[np.lexsort((-detections.scores[index], detections.image[index]))]
    index = index[rank_in_group(detections.image[index]) < _OF_EACH_IMAGE]
    return Ranked(
        index=index,
        label=detections.label[index],
        image=detections.image[index],
        scores=detections.scores[index].astype(np.float64),
        boxes=detections.boxes[index].astype(np.float64),
        rank=np.zeros_like(index),
        starts=np.zeros(0, dtype=np.int64),
        beyond=0,
    )


def _on_objects(dataset: Dataset, ranked: Ranked) -> int:
    """How many of the detections lie on an object of any class."""
    return np.unique(overlaps(ranked, dataset, _IOU, same_class=False).found).size


def _explains(other: int, as_written: int, looked_at: int, better: int = _BETTER) -> bool:
    return other >= max(_FEWEST, _ENOUGH * looked_at, better * as_written)


def _refuse_boxes(dataset: Dataset, ranked: Ranked, as_written: int, place: str) -> None:
    readings = []
    for what, hint, boxes in _readings(ranked.boxes, dataset.image_wh[ranked.image]):
        usable = np.where((boxes[:, 2:] > 0).all(axis=1)[:, None], boxes, 0.0)
        readings.append((_on_objects(dataset, replace(ranked, boxes=usable)), what, hint))
    hits, what, hint = max(readings)
    if _explains(hits, as_written, len(ranked)):
        raise FocalError(
            f"{place}: boxes are {what}: read so, {hits} of the {len(ranked)} surest lie on objects, as they stand "
            f"{as_written}; expected [x, y, width, height] in pixels of the picture",
            hint,
        )


def _readings(boxes: Floats, wh: Ints) -> list[tuple[str, str, Floats]]:
    """What else four numbers can mean: (what they are, what to do, xywh in pixels)."""
    a, b, c, d = boxes.T
    corners = np.stack([a, b, c - a, d - b], axis=1)
    centre = np.stack([a - c / 2, b - d / 2, c, d], axis=1)
    rows = np.stack([b, a, d - b, c - a], axis=1)
    found = [
        ("two corners, [x1, y1, x2, y2]", "write [x1, y1, x2 - x1, y2 - y1]", corners),
        ("[centre x, centre y, width, height]", "take half the width from x and half the height from y", centre),
        ("two corners, rows first, [y1, x1, y2, x2]", "write [x1, y1, x2 - x1, y2 - y1]", rows),
    ]
    if boxes.size and np.abs(boxes).max() <= 2:
        scale = np.concatenate([wh, wh], axis=1)
        pixels = "multiply x and width by the picture's width, y and height by its height"
        fractions = [("fractions of the picture, [x, y, width, height]", pixels, boxes * scale)]
        for what, hint, other in found:
            fractions.append((f"fractions of the picture, {what}", f"{pixels}, and {hint}", other * scale))
        return fractions
    return found


def _refuse_classes(dataset: Dataset, ranked: Ranked, place: str) -> None:
    """Ids that are all known and all meant otherwise: of a list that starts at 0, or with the background."""
    pairs = overlaps(ranked, dataset, _IOU, same_class=False)
    if not len(pairs.found):
        return
    ids = [category.id for category in dataset.categories]
    label_of = {value: label for label, value in enumerate(ids)}
    found, truth = ranked.label[pairs.found], dataset.box_label[pairs.truth]
    objects = np.unique(pairs.found).size
    right = np.unique(pairs.found[found == truth]).size
    for shift, verb in ((1, "add 1 to"), (-1, "take 1 from")):
        moved = np.array([label_of.get(value + shift, -1) if isinstance(value, int) else -1 for value in ids])
        hits = np.unique(pairs.found[moved[found] == truth]).size
        if _explains(hits, right, objects, _BETTER_CLASSES):
            raise FocalError(
                f"{place}: category ids are off by one: of {objects} sure detections on objects {right} have the "
                f"object's class, and {hits} would after a shift; expected the `id` of `categories`",
                f"{verb} every category_id",
            )


def _refuse_images(dataset: Dataset, ranked: Ranked, as_written: int, place: str) -> None:
    index_of = {value: index for index, value in enumerate(dataset.image_ids)}
    for shift, verb in ((1, "add 1 to"), (-1, "take 1 from")):
        moved = [index_of.get(value + shift, -1) if isinstance(value, int) else -1 for value in dataset.image_ids]
        image = np.array(moved)[ranked.image]
        known = image >= 0
        shifted = replace(ranked, **{key: getattr(ranked, key)[known] for key in ("label", "boxes", "index")})
        shifted = replace(shifted, image=image[known])
        hits = _on_objects(dataset, shifted)
        if _explains(hits, as_written, len(ranked)):
            raise FocalError(
                f"{place}: image ids are off by one: {as_written} of the {len(ranked)} surest detections lie on "
                f"objects, and {hits} would after a shift; expected the `id` of `images`",
                f"{verb} every image_id",
            )
