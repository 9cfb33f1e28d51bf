"""Pictures and targets: JPEG -> resized uint8 tensors, boxes -> the few anchors that are not background.

Decoding, augmentation and anchor matching happen in the loader's workers; what travels to the device is the uint8 batch
and, for each positive anchor, its index, class and box. Everything random about a sample follows from its key's seed.

Shapes: N pictures of a batch, P positive anchors, Q ignored ones. Boxes are xyxy in pixels at network size.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from focalcli import anchors
from focalcli.anchors import AnchorSpec
from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.training import augment as augmenting
from focalcli.training.augment import Augment, Draw
from focalcli.training.cache import PictureCache
from focalcli.training.model import IMAGE_MEAN
from focalcli.training.pixels import InputSize, canvas_of, pixels_of, read_image, resize, resized, target_wh
from focalcli.training.sampling import BatchKeys, Key

__all__ = [
    "Batch", "Collate", "InputSize", "Pictures", "Sample", "batches", "canvas_of", "leave_signals_to_parent", "pad",
    "read_image", "resized", "target_wh", "train_loader", "usable", "worker_death_said",
]  # fmt: skip

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
PARENT_CHECK_SECONDS = 1.0
CROWD_COVER = 0.5  # share of an anchor inside a crowd region from which the anchor is neither object nor background


@dataclass
class Sample:
    """One picture, ready to be padded into a batch."""

    image: np.ndarray  # (h, w, 3) uint8; quickest where it is a view of (3, h, w)
    boxes: np.ndarray  # (B, 4) xyxy
    labels: np.ndarray  # (B,)
    crowds: np.ndarray  # (C, 4) xyxy
    index: int
    canvas: tuple[int, int] = (0, 0)  # what the step's other pictures need: see Key


@dataclass
class Batch:
    """What one step needs.

    Attributes:
        images: (N, 3, H, W) uint8, padded.
        indices: (N,) which pictures of the dataset.
        positive, positive_label: (P,) anchor index within the whole batch (picture * A + anchor), class.
        positive_anchor, positive_box: (P, 4) the anchor and the box it is to become.
        ignored: (Q,) anchor indices that count for nothing.
    """

    images: Tensor
    indices: Tensor
    anchors_per_image: int
    positive: Tensor
    positive_label: Tensor
    positive_anchor: Tensor
    positive_box: Tensor
    ignored: Tensor

    def to(self, device: torch.device) -> Batch:
        moved = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return Batch(**{**vars(self), **moved})

    def pin_memory(self) -> Batch:
        """What the loader calls with pin_memory=True: only from pinned memory do copies overlap with computing."""
        pinned = {name: value.pin_memory() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Batch(**{**vars(self), **pinned})


# --------------------------------------------------------------------------------------------------------- pictures


class Pictures(TorchDataset):
    """Samples by Key; a seed of None means no augmentation."""

    def __init__(
        self, dataset: Dataset, labels: np.ndarray, size: InputSize, augment: Augment, cache: PictureCache | None = None
    ) -> None:
        """labels: (K of the file,) the trained class of each category of the dataset, -1 where it is not trained."""
        self.dataset, self.labels, self.size, self.augment, self.cache = dataset, labels, size, augment, cache
        self.order = np.argsort(dataset.box_image, kind="stable")
        self.first = np.searchsorted(dataset.box_image[self.order], np.arange(len(dataset.image_ids) + 1))

    def __getitem__(self, key: Key) -> Sample | FocalError:
        """A sample, or what is wrong with its picture: an exception would lose its hint on the way out of a worker."""
        try:
            return self._sample(Key(*key))
        except FocalError as error:
            return error

    def _sample(self, key: Key) -> Sample:
        pixels, wh = self._read(key.index)
        rows = self.order[self.first[key.index] : self.first[key.index + 1]]
        boxes = self.dataset.boxes_xyxy[rows]
        if 0 in self.dataset.image_wh[key.index]:  # the dataset could not clip them
            boxes = boxes.clip(0, np.array(wh * 2))
        label, crowd = self.labels[self.dataset.box_label[rows]], self.dataset.iscrowd[rows].copy()
        wanted = ~crowd & (label >= 0)
        chance = Draw()
        if key.seed is not None:
            chance = augmenting.draw(self.augment, key.seed, wh, boxes[wanted])
        seen_wh, target = wh, target_wh(wh, self.size, key.factor)  # a window fills the whole target
        if chance.window is not None:
            boxes, held = augmenting.inside(boxes, chance.window)
            crowd |= wanted & ~held  # neither an object nor background
            x, y, right, bottom = chance.window
            seen_wh, pixels = (right - x, bottom - y), pixels[:, y:bottom, x:right]
        image = augmenting.recoloured(resize(pixels, target).permute(1, 2, 0).numpy(), chance.colours)
        boxes = anchors.resize_boxes(boxes, np.array(seen_wh), np.array(target))
        image, boxes = augmenting.flipped(image, boxes, chance)
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # a sliver can vanish in float32
        keep = solid & wanted & ~crowd
        ignored = boxes[crowd & solid]
        return Sample(image, boxes[keep], label[keep], ignored, key.index, key.canvas)

    def _read(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        """Pixels of a picture, and its width and height in the file; from the cache, they may be at network size."""
        if self.cache is not None:
            return self.cache.read(index)
        pixels = pixels_of(read_image(self.dataset, index))
        return pixels, (pixels.shape[2], pixels.shape[1])


# --------------------------------------------------------------------------------------------------------- batches


def pad(images: list[np.ndarray], canvas: tuple[int, int] = (0, 0)) -> Tensor:
    """(N, 3, H, W) uint8 of pictures of several sizes, sides multiples of 32 (torchvision) and at least the canvas's.

    The padding right and below is the mean colour, which the model's normalisation turns into torchvision's 0.
    """
    sizes = np.array([image.shape[:2] for image in images] + [canvas[::-1]])
    height, width = anchors.padded(sizes.max(axis=0))
    mean = torch.tensor([round(255 * value) for value in IMAGE_MEAN], dtype=torch.uint8).view(3, 1, 1)
    batch = torch.empty((len(images), 3, int(height), int(width)), dtype=torch.uint8)
    for target, image in zip(batch, images, strict=True):
        high, wide = image.shape[:2]
        target[:, :high, :wide] = torch.from_numpy(image).permute(2, 0, 1)
        target[:, high:] = mean
        target[:, :high, wide:] = mean
    return batch


@lru_cache(maxsize=8)
def _anchors(spec: AnchorSpec, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """(1, L, 4) grid and (A, 4) anchors of a padded size: batch after batch asks for the same few."""
    grid = anchors.grids(np.array([[width, height]]))
    return grid, anchors.anchors_of(spec, grid[0])


class Collate:
    """Samples -> Batch: pads, and assigns the anchors of the padded size to the boxes."""

    def __init__(self, spec: AnchorSpec) -> None:
        self.spec = spec

    def __call__(self, samples: list[Sample | FocalError]) -> Batch | FocalError:
        for sample in samples:
            if isinstance(sample, FocalError):
                return sample
        images = pad([sample.image for sample in samples], samples[0].canvas)
        grid, all_anchors = _anchors(self.spec, images.shape[3], images.shape[2])
        boxes = np.concatenate([sample.boxes for sample in samples])
        labels = np.concatenate([sample.labels for sample in samples])
        image = np.repeat(np.arange(len(samples)), [len(sample.boxes) for sample in samples])
        found = anchors.match(boxes, image, grid.repeat(len(samples), axis=0), self.spec)
        place = found.image * len(all_anchors) + found.anchor
        yes = found.positive
        ignored = place[~yes]
        if any(len(sample.crowds) for sample in samples):
            ignored = np.setdiff1d(np.concatenate([ignored, self._on_crowds(samples, all_anchors)]), place[yes])
        return Batch(
            images=images,
            indices=torch.tensor([sample.index for sample in samples]),
            anchors_per_image=len(all_anchors),
            positive=torch.from_numpy(place[yes]),
            positive_label=torch.from_numpy(labels[found.box[yes]]),
            positive_anchor=torch.from_numpy(all_anchors[found.anchor[yes]]),
            positive_box=torch.from_numpy(boxes[found.box[yes]]),
            ignored=torch.from_numpy(ignored),
        )

    def _on_crowds(self, samples: list[Sample], all_anchors: np.ndarray) -> np.ndarray:
        """Anchors that lie by half or more in a crowd region: COCOeval ignores detections there, so does training."""
        places = [np.zeros(0, dtype=np.int64)]
        area = (all_anchors[:, 2:] - all_anchors[:, :2]).prod(axis=1)
        for number, sample in enumerate(samples):
            for crowd in sample.crowds:
                corner = np.minimum(all_anchors[:, 2:], crowd[2:]) - np.maximum(all_anchors[:, :2], crowd[:2])
                inside = np.flatnonzero(corner.clip(0).prod(axis=1) >= CROWD_COVER * area)
                places.append(inside + number * len(all_anchors))
        return np.concatenate(places)


def batches(loader: DataLoader) -> Iterator[Any]:
    """What the loader gives.

    Raises:
        FocalError: a picture cannot be read, or a worker died while it handed something over.
    """
    with _signals_held():
        source = iter(loader)
    try:
        while (batch := next(source, None)) is not None:
            if isinstance(batch, FocalError):
                raise batch
            yield batch
    except (ConnectionError, EOFError, FileNotFoundError) as error:  # pictures raise none: see Pictures
        if not loader.num_workers:
            raise
        raise _worker_died(error, repr(error)) from None
    finally:
        del source  # an error's traceback keeps this frame, and the workers are to end now


@contextmanager
def worker_death_said() -> Iterator[None]:
    """Around everything that runs while workers load: torch raises their death wherever the process happens to be.

    Raises:
        FocalError: a worker was killed, most often for want of memory.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise _worker_died(error, str(error).splitlines()[0]) from None


def _worker_died(error: Exception, how: str) -> FocalError:
    error.__traceback__ = None  # its frames hold the loader: while that lives, torch tells of the death again and again
    return FocalError(
        f"a process that loads pictures ended unexpectedly ({how})",
        "often too little memory: --resume with data.workers=0 or a larger schedule.accumulate",
    )


@contextmanager
def _signals_held() -> Iterator[None]:
    """While processes are started, stop signals wait: here until the end, in them until `leave_signals_to_parent`.

    In between torch sets a handler of its own, and a SIGTERM to the whole group would end a worker and lose the run.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C, and often SIGTERM, reach every process of the group; only the training loop decides when to stop.

    A parent that is killed tells nobody: the worker looks for it itself. torch's own look comes to nothing while a
    batch of pictures waits in a pipe that nobody reads any more.
    """
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()


def _end_without(parent: int) -> None:
    started_by = multiprocessing.parent_process()  # under forkserver that is not the system's parent
    while os.getppid() == parent and (started_by is None or started_by.is_alive()):
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


def usable(workers: int) -> int:
    """Loading processes asked for, but not more than the cores that this process may use: torch would warn of it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(workers, cores)


def train_loader(pictures: Pictures, keys: BatchKeys, spec: AnchorSpec, workers: int, pin: bool) -> DataLoader:
    workers = usable(workers)
    return DataLoader(
        pictures, batch_sampler=keys, collate_fn=Collate(spec), num_workers=workers, pin_memory=pin,
        prefetch_factor=4 if workers else None, worker_init_fn=leave_signals_to_parent,
    )  # fmt: skip
