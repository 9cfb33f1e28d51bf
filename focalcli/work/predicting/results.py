"""What a prediction leaves: the detections as COCO results, written as they come, and which picture has which id."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from focalcli.coco import Dataset
from focalcli.detections import Detections, results_json
from focalcli.errors import FocalError
from focalcli.files import write_whole

BLOCK_BYTES = 1 << 20
DESCRIPTION = "the pictures of `focal predict`"
IMAGES_START = f'{{\n "info": {{\n  "description": "{DESCRIPTION}"'.encode()  # of the file that says the ids


class ResultsFile:
    """A COCO results file that grows aside and is moved into place at the end; a context that leaves nothing else.

    Without a path it has no name and is there to be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._aside: Path | None = None
        self._file: BinaryIO | None = None
        self._separator = b"\n"

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk was said already
            if self._file is not None:
                self._file.close()
            if self._aside is not None:
                self._aside.unlink(missing_ok=True)

    def start(self) -> None:
        """Open it, before the minutes that a detector takes.

        Raises:
            FocalError: it cannot be written.
        """
        with self._failing():
            if self._path is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
            else:
                self._aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
                self._aside.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._aside.open("wb")
            self._file.write(b"[")

    def add(self, detections: Detections, dataset: Dataset) -> None:
        """Write some more.

        Raises:
            FocalError: the disk is full.
        """
        if len(detections):
            with self._failing():
                self._file.write(self._separator + results_json(detections, dataset)[1:-1])
            self._separator = b",\n"

    def finish(self) -> None:
        """End the list, and give the file its name.

        Raises:
            FocalError: a full disk, no permission.
        """
        with self._failing():
            self._file.write(b"\n]\n")
            self._file.flush()
            if self._aside is not None:
                self._file.close()
                os.replace(self._aside, self._path)

    def blocks(self) -> Iterator[str]:
        """The finished text, a piece at a time."""
        with self._file if self._path is None else self._path.open("rb") as file:
            file.seek(0)
            while block := file.read(BLOCK_BYTES):
                yield block.decode("ascii")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = tempfile.gettempdir() if self._path is None else self._path
            hint = "free some space, or give another file with -o"
            raise FocalError(f"{place}: cannot be written ({error.strerror})", hint) from None


def images_file(path: Path) -> Path:
    """The file beside the results that says which picture has which id: x.images.json of x.json."""
    return path.with_name(f"{path.stem}.images.json")


def write_images(path: Path, images: list[dict[str, Any]], dataset: Dataset) -> None:
    """Write a COCO file without annotations, in the way of COCO's own image_info_test2017.json.

    Args:
        images: as `Prediction.images` has them. dataset: whose categories the results have.

    Raises:
        FocalError: the file cannot be written.
    """
    content = {
        "info": {"description": DESCRIPTION, "image_root": str(dataset.image_root)},
        "images": images,
        "annotations": [],
        "categories": [{"id": category.id, "name": category.name} for category in dataset.categories],
    }
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())
