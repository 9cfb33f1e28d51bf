"""Contact sheets of the evaluation page: the worst pictures of a class, and the labels that a detector disputes.

Pictures are opened as those of the audit's page are (thumbnails); one that is missing or broken is only counted.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from focalcli.audit.checks.headers import UNREADABLE
from focalcli.coco import Dataset, Floats
from focalcli.errors import FocalError
from focalcli.evaluation.suspects import Suspect
from focalcli.evaluation.worst import BadPicture
from focalcli.render.html.thumbnails import Rectangle, Thumbnail, open_part
from focalcli.render.html.wording import label, listed, plural, shown

SIDE_PX = 380
MOST_PICTURES = 64  # of a page, about 25 kB each
MOST_MARKS = 60  # of a picture
LONGEST_TEXT = 16  # of a class's name beside a box
# Okabe and Ito's, seen on any ground with their rims: what should have been found, what is wrong, what is right
LABELLED, FALSE, RIGHT = (213, 94, 0), (240, 228, 66), (86, 180, 233)
WHOLE_FROM = 0.6  # of the picture's longer side: a larger window is the picture itself
LEAST_WINDOW_PX = 48


@dataclass(frozen=True)
class Box:
    """What to draw: xywh as in the file, its text, its colour, dashed for what is labelled and not found."""

    box: Sequence[float]
    text: str
    colour: tuple[int, int, int]
    dashed: bool = False


class Sheets:
    """Makes the pictures of a page and stops at its limit.

    Attributes:
        unopened: pictures that could not be shown. first_reason: why, of the first of them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._left = MOST_PICTURES
        self.unopened = 0
        self.first_reason = ""

    def worst(self, pictures: Iterable[BadPicture]) -> tuple[Thumbnail, ...]:
        """What was missed (dashed), made up, and found."""
        made = []
        for picture in pictures:
            wrong = [
                *(Box(one.box, _called(one.other, one.score), LABELLED, True) for one in picture.missed),
                *(Box(one.box, f"{one.score:.2f}{_on(one.other)}", FALSE) for one in picture.false),
            ]
            right = [Box(box, "", RIGHT) for box in picture.right]
            words = f"{len(picture.missed)} missed, {len(picture.false)} false, {len(picture.right)} right"
            made.append(self._thumbnail(picture.image, wrong, right, words, margin=1.3))
        return tuple(thumbnail for thumbnail in made if thumbnail)

    def suspect(self, suspect: Suspect) -> Thumbnail | None:
        """The label (dashed) and what the detector says there."""
        boxes = []
        if suspect.box is not None:
            boxes.append(Box(suspect.box, label(suspect.name or "", LONGEST_TEXT), LABELLED, True))
        if suspect.found_box is not None:
            text = f"{label(suspect.found or '', LONGEST_TEXT)} {suspect.score:.2f}"
            boxes.insert(0, Box(suspect.found_box, text, FALSE))
        return self._thumbnail(suspect.image, boxes, [], suspect_in_words(suspect), margin=2.4)

    def _thumbnail(
        self, image: int, named: Sequence[Box], others: Sequence[Box], words: str, margin: float
    ) -> Thumbnail | None:
        from PIL import Image

        if self._left <= 0:
            return None
        try:
            jpeg, detail = _draw(self._dataset, image, named, others, margin)
        except (FocalError, *UNREADABLE, Image.DecompressionBombError) as error:
            self.unopened += 1
            self.first_reason = self.first_reason or _reason(error)
            return None
        self._left -= 1
        name = self._dataset.file_names[image]
        uri = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
        return Thumbnail(uri, f"{name}: {words}", f"image {self._dataset.image_ids[image]} · {name}", detail)


def suspect_in_words(suspect: Suspect) -> str:
    """One disputed label: what is labelled, and what the detector says."""
    name, found = shown(suspect.name), shown(suspect.found)
    if suspect.kind == "missed label":
        return f"nothing is labelled where the detector sees {found} ({suspect.score:.2f})"
    if suspect.kind == "wrong class":
        return f"labelled {name}, the detector sees {found} ({suspect.score:.2f})"
    if suspect.kind == "bad box":
        return f"the box of {name} and the detector's ({suspect.score:.2f}) have an IoU of {suspect.iou:.2f} only"
    return f"labelled {name}, the detector sees nothing at any score"


def sheet_in_words(pictures: Sequence[BadPicture]) -> str:
    """What the pictures of a class show together."""
    missed = [one for picture in pictures for one in picture.missed]
    false = [one for picture in pictures for one in picture.false]
    called = sum(one.other is not None for one in missed)
    on_others = sum(one.other is not None for one in false)
    parts = [f"{plural(len(missed), 'object')} missed" + (f" ({called} of them under another name)" if called else "")]
    more = f" ({on_others} of them on another class's object)" if on_others else ""
    parts.append(f"{plural(len(false), 'false detection')}{more}")
    return listed(parts)


def _called(other: str | None, score: float | None) -> str:
    return "" if other is None else f"{label(other, LONGEST_TEXT)} {score:.2f}"


def _on(other: str | None) -> str:
    return "" if other is None else f" on {label(other, LONGEST_TEXT)}"


def _reason(error: Exception) -> str:
    if isinstance(error, FocalError):
        return error.message
    return (
        f"{error.filename or error}: {error.strerror or 'no such file'}" if isinstance(error, OSError) else str(error)
    )


def _draw(
    dataset: Dataset, image: int, named: Sequence[Box], others: Sequence[Box], margin: float
) -> tuple[bytes, bool]:
    """JPEG bytes, and whether they show only a part of the picture, around the `named` boxes."""
    from focalcli.render.drawn import Mark, draw_boxes

    def window(boxes: Floats, width: int, height: int) -> tuple[Rectangle, bool]:
        return close_up(boxes, width, height, margin)

    corners = _corners([one.box for one in named])
    part = open_part(dataset, image, corners, SIDE_PX, window)
    drawn = [*named, *others][:MOST_MARKS]
    places = part.place(_corners([one.box for one in drawn])).tolist()
    size = np.tile(part.picture.size, 2)
    marks = [
        Mark(tuple(place), one.text, one.colour, one.dashed)
        for place, one in zip(places, drawn, strict=True)
        if _is_inside(place, size)
    ]
    picture = draw_boxes(part.picture, marks, least_side_px=0)
    return type(part)(picture, part.corner, part.scale, part.detail).jpeg(), part.detail


def close_up(boxes: Floats, width: int, height: int, margin: float) -> tuple[Rectangle, bool]:
    """The window around all the boxes, `margin` times as large, and True; all of a picture that it nearly fills."""
    whole = (0, 0, width, height)
    if not len(boxes):
        return whole, False
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = max(margin * float((high - low).max()), LEAST_WINDOW_PX)
    if side >= WHOLE_FROM * max(width, height):
        return whole, False
    # moved, not cut, where it would leave the picture
    left, top = (
        min(max(0.0, middle - side / 2), max(0.0, limit - side))
        for middle, limit in zip(((low + high) / 2).tolist(), (width, height), strict=True)
    )
    return (int(left), int(top), int(min(width, left + side)), int(min(height, top + side))), True


def _corners(boxes: Sequence[Sequence[float]]) -> Floats:
    """(N, 4) xyxy of xywh."""
    xywh = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _is_inside(place: Sequence[float], size: Floats) -> bool:
    x1, y1, x2, y2 = place
    return x2 > 0 and y2 > 0 and x1 < size[0] and y1 < size[1]
