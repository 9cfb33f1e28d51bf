"""Small pictures of what a finding is about, with the boxes drawn, as data: URIs.

Only pictures below the image root are opened (Dataset.image_path); one that is missing or broken has no thumbnail.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from focalcli.audit import Finding
from focalcli.audit.checks.headers import UNREADABLE
from focalcli.coco import Dataset, Floats, Ints
from focalcli.errors import FocalError

if TYPE_CHECKING:
    from PIL import Image

SIDE_PX = 320
QUALITY = 72
MOST_OF_A_FINDING, MOST_OF_A_PAGE = 4, 24  # about 15 kB each
MOST_PIXELS = 60_000_000  # of a picture that is decoded for a thumbnail
DETAIL_SHARE = 0.12  # of the picture's longer side: smaller boxes are shown in a part of it
Rectangle = tuple[int, int, int, int]
Window = Callable[[Floats, int, int], tuple[Rectangle, bool]]
NAMED, OTHERS = (255, 140, 0), (120, 200, 255)  # the finding's boxes and the rest of the picture's


@dataclass(frozen=True)
class Thumbnail:
    """One picture of a finding.

    Attributes:
        uri: data: URI of a JPEG. alt: what it shows. caption: image id and file name. detail: only a part is shown.
    """

    uri: str
    alt: str
    caption: str
    detail: bool


class Album:
    """Makes the thumbnails of a page and stops at its limit."""

    def __init__(self, splits: Mapping[str, Dataset]) -> None:
        self._splits = splits
        self._left = MOST_OF_A_PAGE
        self._index: dict[str, dict[object, int]] = {}

    def of(self, finding: Finding) -> tuple[Thumbnail, ...]:
        """Those of the first pictures that a finding names; none where the pictures are not there."""
        dataset = self._splits.get(finding.split)
        if dataset is None:
            return ()
        if finding.split not in self._index:
            self._index[finding.split] = {name: index for index, name in enumerate(dataset.image_ids)}
        indices = dict.fromkeys(self._index[finding.split].get(name) for name in finding.image_ids)
        made: list[Thumbnail] = []
        for index in indices:
            if len(made) < min(MOST_OF_A_FINDING, self._left) and index is not None:
                thumbnail = _thumbnail(dataset, index, finding.annotation_ids)
                made += [thumbnail] if thumbnail else []
        self._left -= len(made)
        return tuple(made)


def _thumbnail(dataset: Dataset, index: int, annotation_ids: Sequence[object]) -> Thumbnail | None:
    from PIL import Image

    rows = np.flatnonzero(dataset.box_image == index)
    named = np.array([dataset.annotation_ids[row] in annotation_ids for row in rows], dtype=bool)
    boxes = dataset.boxes_xyxy[rows]
    try:
        jpeg, detail = _draw(dataset, index, boxes[named], boxes[~named])
    except (FocalError, *UNREADABLE, Image.DecompressionBombError):
        return None
    what = f"{int(named.sum())} marked" if named.any() else f"{len(rows)} boxes"
    caption = f"image {dataset.image_ids[index]} · {dataset.file_names[index]}"
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    return Thumbnail(uri, f"{dataset.file_names[index]}, {what}", caption, detail)


def _draw(dataset: Dataset, index: int, named: Floats, others: Floats) -> tuple[bytes, bool]:
    """JPEG bytes, and whether they show only a part of the picture. named, others: (N, 4) xyxy as in the file."""
    from PIL import ImageDraw

    part = open_part(dataset, index, named, SIDE_PX, _window)
    pen = ImageDraw.Draw(part.picture)
    for group, colour, line in ((others, OTHERS, 1), (named, NAMED, 3)):
        for x1, y1, x2, y2 in part.place(group).tolist():
            # a box of less than a pixel is drawn as one
            pen.rectangle((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)), outline=colour, width=line)
    return part.jpeg(), part.detail


@dataclass(frozen=True)
class Part:
    """A picture or a window of it, made to a size.

    Attributes:
        picture: RGB. corner: (2,) of the window, and scale: (2,) of it, both from the file's frame in px.
        detail: the window is not all of the picture.
    """

    picture: Image.Image
    corner: Floats
    scale: Floats
    detail: bool

    def place(self, boxes: Floats) -> Floats:
        """(N, 4) xyxy of the file's frame in px of this picture."""
        return (boxes - np.tile(self.corner, 2)) * np.tile(self.scale, 2)

    def jpeg(self) -> bytes:
        target = io.BytesIO()
        self.picture.save(target, "JPEG", quality=QUALITY)
        return target.getvalue()


def open_part(dataset: Dataset, index: int, boxes: Floats, side_px: int, window: Window) -> Part:
    """What `window` chooses of picture `index` for these boxes, its longer side `side_px`, at most 8 times enlarged.

    Args:
        boxes: (N, 4) xyxy as in the file. window: (boxes in the picture's own px, its width and height) -> (xyxy in
            whole px, whether it is a detail).

    Raises:
        FocalError, OSError, ValueError, DecompressionBombError: as UNREADABLE says; no such file, or too large.
    """
    from PIL import Image

    path = dataset.image_path(index)
    if not path.is_file():
        raise FileNotFoundError(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError("too large")
            upright = _as_in_file(picture, dataset.image_wh[index])
            width, height = upright.size
            stated = np.where(dataset.image_wh[index] > 0, dataset.image_wh[index], (width, height))
            to_pixels = np.array([width, height]) / stated
            chosen, detail = window(boxes * np.tile(to_pixels, 2), width, height)
            sides = chosen[2] - chosen[0], chosen[3] - chosen[1]
            scale = min(side_px / max(sides), 8.0)
            upright.draft("RGB", (int(width * scale) + 1, int(height * scale) + 1))  # a JPEG decodes smaller at once
            decoded = np.tile(np.array(upright.size) / (width, height), 2)
            part = _rgb(upright).crop(tuple(np.round(np.array(chosen) * decoded).astype(int).tolist()))
            small = part.resize(tuple(max(1, round(scale * side)) for side in sides))
    return Part(small, np.array(chosen[:2]) / to_pixels, scale * to_pixels, detail)


def _as_in_file(picture: Image.Image, stated: Ints) -> Image.Image:
    """The picture in the frame that the file's width and height are given in (EXIF may turn it)."""
    from PIL import ExifTags, ImageOps

    turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # 5 to 8 are quarter turns
    if turned and tuple(stated.tolist()) == picture.size[::-1] != picture.size:
        return ImageOps.exif_transpose(picture)
    return picture


def _window(named: Floats, width: int, height: int) -> tuple[Rectangle, bool]:
    """The part to show: all of the picture, or the surroundings of boxes too small to be seen in it."""
    whole = (0, 0, width, height)
    if not len(named):
        return whole, False
    left, top = named[:, :2].min(axis=0)
    right, bottom = named[:, 2:].max(axis=0)
    if max(right - left, bottom - top) > DETAIL_SHARE * max(width, height):
        return whole, False
    half = max(4 * max(right - left, bottom - top), 32) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    window = (max(0, x - half), max(0, y - half), min(width, x + half), min(height, y + half))
    return tuple(int(value) for value in window), True


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits a pixel would saturate
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return picture.convert("RGB")
