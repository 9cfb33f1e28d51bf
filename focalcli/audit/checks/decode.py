"""--deep: decode every picture, in several processes, for damage in its pixels, real transparency and a small likeness.

A picture with more pixels than Pillow opens (a decompression bomb) is never decoded; of several frames only the first.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from focalcli.audit.checks.headers import DEEP_MODES, SEE_THROUGH_MODES, UNREADABLE, said
from focalcli.errors import FocalError

if TYPE_CHECKING:
    from PIL import Image

Progress = Callable[[int, int], None]  # (pictures done, of all)
SIDE = 32  # px of a likeness
FLAT = 2.0  # grey levels: the standard deviation below which a likeness shows nothing
CHUNK, FEW = 16, 64  # pictures that a process takes at once; below FEW, starting processes costs more than it saves
PROGRAMS = ("EPS", "WMF")  # formats that Pillow would hand to other programs


@dataclass(frozen=True)
class Pixels:
    """What decoding showed of one picture.

    Attributes:
        problem: why it cannot be decoded, None where it can. hides: some pixels are not opaque.
        likeness: SIDE x SIDE grey levels, uint8; None for flat pictures and with a problem.
    """

    problem: str | None = None
    hides: bool = False
    likeness: bytes | None = None


def decode_all(paths: Sequence[str], progress: Progress | None = None) -> list[Pixels]:
    """Decode each file once, on all cores.

    Raises:
        FocalError: a decoder brought its process down (most often for lack of memory).
    """
    done: list[Pixels] = []
    for pixels in map(decode, paths) if len(paths) < FEW else _in_processes(paths):
        done.append(pixels)
        if progress:
            progress(len(done), len(paths))
    return done


def _in_processes(paths: Sequence[str]) -> Iterator[Pixels]:
    from concurrent.futures import ProcessPoolExecutor  # 30 ms to import, for --deep alone
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # spawn: the same on every system, and safe beside the threads of numpy
    with ProcessPoolExecutor(min(cores, 32), get_context("spawn"), initializer=_leave_interrupts) as pool:
        try:
            yield from pool.map(decode, paths, chunksize=CHUNK)
        except BrokenProcessPool:
            hint = "audit without --deep, or with more memory; the pictures named by F317 are the largest"
            raise FocalError("decoding the pictures: a process died, perhaps for lack of memory", hint) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _leave_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, once


def decode(path: str) -> Pixels:
    """Decode one file here."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                if picture.format in PROGRAMS:
                    return Pixels(f"{picture.format} is no picture of pixels")
                picture.draft("L", (2 * SIDE, 2 * SIDE))  # a JPEG is read to its end and drawn small: half the time
                picture.load()
                return _look(picture)
    except Image.DecompressionBombError:
        return Pixels("more pixels than Pillow decodes")
    except UNREADABLE as error:
        return Pixels(said(error))


def _look(picture: Image.Image) -> Pixels:
    from PIL import Image

    hides = False
    if picture.mode in SEE_THROUGH_MODES or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        hides = picture.getchannel("A").getextrema()[0] < 255
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (128, 128, 128, 255)), picture)
    deep = picture.mode.startswith(DEEP_MODES)
    small = picture.convert("F" if deep else "L").resize((SIDE, SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.float64)
    if deep:  # from black to white, whatever the numbers mean
        grey = (grey - grey.min()) * (255 / max(np.ptp(grey), 1e-9))
    shows = bool(np.isfinite(grey).all() and grey.std() >= FLAT)
    return Pixels(hides=hides, likeness=np.rint(grey).astype(np.uint8).tobytes() if shows else None)
