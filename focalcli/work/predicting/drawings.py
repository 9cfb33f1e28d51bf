"""The folder of drawn pictures: what each is called, and what may not be written over."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from focalcli.errors import FocalError
from focalcli.files import write_whole
from focalcli.render.drawn import Mark, class_colour, draw_boxes
from focalcli.training.data import read_image
from focalcli.work.predicting.ids import Pictures
from focalcli.work.predicting.pictures import Found

SIGNATURE = "drawn by focal predict"  # in the comment of each: by it a later run knows which it may replace
KEPT_SUFFIXES = (".jpg", ".jpeg", ".png")  # what other pictures become is PNG
QUALITY = 90


class Drawings:
    """Writes the pictures with their detections below a folder, under the paths that they have below their own."""

    def __init__(self, folder: Path, found: Found, shown: Pictures, classes: Sequence[str]) -> None:
        """Look at what is there before anything is computed.

        Args:
            shown: the pictures that will be drawn, some of those found.
            classes: the trained ones, which have their colours by their place here, whatever a dataset calls first.

        Raises:
            FocalError: a drawing would take the place of another file, or be found as a picture by the next run.
        """
        self._folder, self._shown = folder, shown
        self._colours = {name: class_colour(label) for label, name in enumerate(classes)}
        self._targets = [folder / target for target in _targets(shown.file_names)]
        real = Path(os.path.realpath(folder))
        for named in found.folders:
            if real.is_relative_to(os.path.realpath(named)):
                raise FocalError(
                    f"--draw {folder}: lies in {named}, whose pictures are looked at",
                    "give a folder elsewhere: the next run would take the drawings for pictures",
                )
        for target in self._targets:
            if os.path.lexists(target) and not _is_drawing(target):
                raise FocalError(
                    f"{target}: is there already, and was not drawn by `focal predict`",
                    "give an empty folder with --draw",
                )

    def draw(self, index: int, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> None:
        """Draw detections on picture `index`, the surest on top, and write the file whole.

        Args:
            boxes: (D, 4) xywh in px of the picture. labels: (D,) index into the categories. scores: (D,).

        Raises:
            FocalError: the folder cannot be written to, or the picture is gone.
        """
        marks = []
        for row in np.argsort(-scores, kind="stable").tolist():
            x, y, width, height = boxes[row].tolist()
            name = self._shown.categories[int(labels[row])].name
            marks.append(Mark((x, y, x + width, y + height), f"{name} {scores[row]:.2f}", self._colours[name]))
        target = self._targets[index]
        write_whole(target, _encoded(draw_boxes(read_image(self._shown, index), marks), target.suffix), "--draw")


def _targets(names: Sequence[str]) -> list[str]:
    """The file that each picture is drawn to: its own name, with .png behind where that is neither JPEG nor PNG."""
    taken, targets = set(names), []
    for name in names:
        target = name
        if not name.lower().endswith(KEPT_SUFFIXES):
            target += ".png"
            while target in taken:
                target += ".png"
        targets.append(target)
    return targets


def _is_drawing(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            comment = picture.info.get("comment", picture.info.get("Comment", ""))
    except Exception:  # whatever Pillow says of a file that is no picture
        return False
    return SIGNATURE in (comment.decode("latin-1") if isinstance(comment, bytes) else comment)


def _encoded(picture: Image.Image, suffix: str) -> bytes:
    file = io.BytesIO()
    if suffix.lower() == ".png":
        info = PngInfo()
        info.add_text("Comment", SIGNATURE)
        picture.save(file, "PNG", pnginfo=info)
    else:
        picture.save(file, "JPEG", quality=QUALITY, comment=SIGNATURE)
    return file.getvalue()
