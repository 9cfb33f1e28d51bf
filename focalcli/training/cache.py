"""Pictures kept decoded in a folder, for the next epoch and the next run; what is read from it is what was decoded.

One file for each picture, mapped into memory by whoever reads it: loading processes and runs share what is in memory
without a copy. Its name is a hash of all that decides its content: path, size and time of the picture, the size that
the json says, the network's, and the versions of what decodes. So a changed picture is another file, and nothing has to
be locked. Files are written aside, flushed and moved: one that is there is whole.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import struct
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from focalcli import anchors
from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.training.pixels import InputSize, pixels_of, read_image, resize, target_wh

HEADER = struct.Struct("<8s4I")  # magic; width and height of the picture, then of the pixels that follow
MAGIC = b"focalpx1"
LEFT_OVER_SECONDS = 3600  # from then on a file aside belongs to nobody who still writes it


class PictureCache:
    """The pictures of a dataset, decoded once."""

    def __init__(self, folder: Path, dataset: Dataset, size: InputSize | None) -> None:
        """size: what the pictures are kept at, where every showing begins with it; None keeps them in full."""
        self.folder, self.dataset, self.size = folder, dataset, size
        self.writes = True

    def prepare(self) -> str:
        """Make the folder and take away what killed processes left half-written; returns what it will hold, in words.

        Raises:
            FocalError: it cannot be written to, or the disk has no room for what is missing.
        """
        hint = "data.cache=null trains without it; data.cache=FOLDER names a folder on another disk"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            (aside := self._aside()).touch()
            aside.unlink()
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise FocalError(f"data.cache: {self.folder}: cannot be written to ({error.strerror})", hint) from None
        sizes = self._bytes()
        places = (self._place(index) for index in range(len(sizes)))
        there = np.array([place is not None and place.is_file() for place in places])
        needed = int(sizes[~there].sum())
        if needed > free:
            raise FocalError(
                f"data.cache: {self.folder}: needs {_in_words(needed)} more for {int((~there).sum()):,} pictures, "
                f"and {_in_words(free)} are free",
                hint if self.size else f"a constant size (data.scale_jitter=[1, 1] data.crop=0) needs less; {hint}",
            )
        kind = "at network size" if self.size else "in full, because their size varies (data.scale_jitter, data.crop)"
        return (
            f"cache {self.folder}: {len(sizes):,} pictures {kind}, {_in_words(int(sizes.sum()))}; "
            f"{int(there.sum()):,} of them are there"
        )

    def read(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        """(3, h, w) pixels of a picture, which must not be changed, and its width and height in the file.

        Raises:
            FocalError: as read_image.
        """
        place = self._place(index)
        found = None if place is None else self._mapped(place)
        if found is not None:
            return found
        pixels = pixels_of(read_image(self.dataset, index))
        wh = pixels.shape[2], pixels.shape[1]
        if self.size is not None:
            pixels = resize(pixels, target_wh(wh, self.size))
        if place is not None and self.writes:
            self._store(place, pixels, wh)
        return pixels, wh

    def _bytes(self) -> np.ndarray:
        """(I,) bytes of each picture's file; of a picture whose size the json does not say, the mean of the others."""
        wh = self.dataset.image_wh
        known = (wh > 0).all(axis=1)
        if not known.any():
            return np.zeros(len(wh))
        if self.size is not None:
            wh = anchors.network_size(np.maximum(1, wh), self.size.min_size, self.size.max_size)
        sizes = HEADER.size + 3.0 * np.maximum(1, wh).prod(axis=1)
        return np.where(known, sizes, sizes[known].mean())

    def _place(self, index: int) -> Path | None:
        """The file of a picture; None where there is no picture."""
        path = self.dataset.image_path(index)
        try:
            facts = path.stat()
        except OSError:
            return None
        size = self.size and (self.size.min_size, self.size.max_size)
        what = os.path.abspath(path), facts.st_size, facts.st_mtime_ns, self.dataset.image_wh[index].tolist(), size
        name = hashlib.blake2b(repr((what, *_decoders())).encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / name[2:]

    def _mapped(self, place: Path) -> tuple[Tensor, tuple[int, int]] | None:
        try:
            with place.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # torch wants it writable
        except (OSError, ValueError):  # not there, or empty
            return None
        if len(content) < HEADER.size:
            return None
        magic, *wh, width, height = HEADER.unpack_from(content)
        if magic != MAGIC or len(content) != HEADER.size + 3 * width * height:
            return None
        flat = torch.frombuffer(content, dtype=torch.uint8, offset=HEADER.size)
        pixels = flat.view(height, width, 3).permute(2, 0, 1) if self.size is None else flat.view(3, height, width)
        return pixels, (wh[0], wh[1])

    def _store(self, place: Path, pixels: Tensor, wh: tuple[int, int]) -> None:
        """Keep a picture; where that fails the training goes on, and the user is told once by each process."""
        order = pixels.permute(1, 2, 0) if self.size is None else pixels  # as resizing or a batch wants them
        aside = self._aside()
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(HEADER.pack(MAGIC, *wh, pixels.shape[2], pixels.shape[1]))
                file.write(np.ascontiguousarray(order.numpy()).data)
                file.flush()
                os.fsync(file.fileno())  # or a power cut can leave the name without the pixels
            os.replace(aside, place)
        except OSError as error:
            self.writes = False
            with suppress(OSError):
                aside.unlink()
            warnings.warn(
                f"data.cache: {self.folder} cannot be written to ({error.strerror}): pictures that are not in it are "
                "decoded every time",
                stacklevel=2,
            )

    def _aside(self) -> Path:
        return self.folder / f".{uuid.uuid4().hex}"

    def _sweep(self) -> None:
        for path in self.folder.glob(".*"):
            with suppress(OSError):  # another process was quicker
                if path.is_file() and time.time() - path.stat().st_mtime > LEFT_OVER_SECONDS:
                    path.unlink()


def _decoders() -> tuple[str, ...]:
    return PIL.__version__, torch.__version__


def _in_words(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
