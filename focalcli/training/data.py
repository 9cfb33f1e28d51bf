"""Pictures and targets: JPEG -> resized uint8 tensors, boxes -> the few anchors that are not background.

Decoding, augmentation and anchor matching happen in the loader's workers; what travels to the device is the uint8 batch
and, for each positive anchor, its index, class and box. Everything random about a sample follows from its key's seed.

Shapes: N pictures of a batch, P positive anchors, Q ignored ones. Boxes are xyxy in pixels at network size.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from focalcli import anchors
from focalcli.anchors import AnchorSpec
from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.training import augment as augmenting
from focalcli.training.augment import Augment, Draw
from focalcli.training.model import IMAGE_MEAN
from focalcli.training.sampling import BatchKeys, Key

CROWD_COVER = 0.5  # share of an anchor inside a crowd region from which the anchor is neither object nor background


@dataclass(frozen=True)
class InputSize:
    """Short side, and cap of the long side, in pixels."""

    min_size: int
    max_size: int


@dataclass
class Sample:
    """One picture, ready to be padded into a batch."""

    image: np.ndarray  # (h, w, 3) uint8
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


def read_image(dataset: Dataset, index: int) -> Image.Image:
    """Picture `index` as RGB, in the frame that its boxes are in.

    A picture whose EXIF orientation swaps its sides is turned only when the json has the turned size (TRAPS 31).

    Raises:
        FocalError: missing, cut short or not a picture; or its size differs from the json's.
    """
    path = dataset.image_path(index)
    try:
        with Image.open(path) as image:
            image.load()
            expected = tuple(dataset.image_wh[index])
            turned = ImageOps.exif_transpose(image)
            if turned.size == expected:
                image = turned
            rgb = _to_rgb(image)
    except FileNotFoundError:
        raise FocalError(
            f"{path}: no such picture (image {dataset.image_ids[index]} of {dataset.path})",
            "name the folder of the pictures with data.train_images / data.val_images, or `focal eval --images`",
        ) from None
    except Exception as error:  # a broken picture fails in many ways (AVIF: RuntimeError, EXIF: struct.error)
        raise FocalError(f"{path}: not a readable picture ({error})", "`focal audit` lists such pictures") from None
    if 0 not in expected and rgb.size != expected:
        raise FocalError(
            f"{path}: is {rgb.width} x {rgb.height} px, {dataset.path} says {expected[0]} x {expected[1]}",
            "its boxes would be in the wrong place: correct width and height, or the picture",
        )
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: 16-bit pictures keep their range (a plain conversion saturates), transparent pixels become grey."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float32)
        return Image.fromarray((np.clip(values, 0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image).convert("RGB")
    return image.convert("RGB")


def target_wh(wh: tuple[int, int], size: InputSize, factor: float = 1.0) -> tuple[int, int]:
    """Width and height at network size, as torchvision resizes."""
    minimum, maximum = round(size.min_size * factor), round(size.max_size * factor)
    width, height = anchors.network_size(np.array([wh]), minimum, maximum)[0].tolist()
    return max(1, width), max(1, height)


def canvas_of(image_wh: np.ndarray, size: InputSize, factor: float) -> tuple[int, int]:
    """(width, height) in px that pictures of these sizes, (I, 2), need together; those of unknown size do not count."""
    known = image_wh[(image_wh > 0).all(axis=1)]
    if not len(known):
        return 0, 0
    minimum, maximum = round(size.min_size * factor), round(size.max_size * factor)
    width, height = anchors.network_size(known, minimum, maximum).max(axis=0).tolist()
    return width, height


def resized(image: Image.Image, size: InputSize) -> np.ndarray:
    """(h, w, 3) uint8 at network size, antialiased bilinear."""
    return np.array(image.resize(target_wh(image.size, size), Image.Resampling.BILINEAR))


class Pictures(TorchDataset):
    """Samples by Key; a seed of None means no augmentation."""

    def __init__(self, dataset: Dataset, labels: np.ndarray, size: InputSize, augment: Augment) -> None:
        """labels: (K of the file,) the trained class of each category of the dataset, -1 where it is not trained."""
        self.dataset, self.labels, self.size, self.augment = dataset, labels, size, augment
        self.order = np.argsort(dataset.box_image, kind="stable")
        self.first = np.searchsorted(dataset.box_image[self.order], np.arange(len(dataset.image_ids) + 1))

    def __getitem__(self, key: Key) -> Sample | FocalError:
        """A sample, or what is wrong with its picture: an exception would lose its hint on the way out of a worker."""
        try:
            return self._sample(Key(*key))
        except FocalError as error:
            return error

    def _sample(self, key: Key) -> Sample:
        image = read_image(self.dataset, key.index)
        rows = self.order[self.first[key.index] : self.first[key.index + 1]]
        boxes = self.dataset.boxes_xyxy[rows]
        if 0 in self.dataset.image_wh[key.index]:  # the dataset could not clip them
            boxes = boxes.clip(0, np.array(image.size * 2))
        label, crowd = self.labels[self.dataset.box_label[rows]], self.dataset.iscrowd[rows].copy()
        wanted = ~crowd & (label >= 0)
        chance = Draw()
        if key.seed is not None:
            chance = augmenting.draw(self.augment, key.seed, image.size, boxes[wanted])
        seen_wh, target = image.size, target_wh(image.size, self.size, key.factor)  # a window fills the whole target
        if chance.window is not None:
            boxes, held = augmenting.inside(boxes, chance.window)
            crowd |= wanted & ~held  # neither an object nor background
            seen_wh = chance.window[2] - chance.window[0], chance.window[3] - chance.window[1]
        image = image.resize(target, Image.Resampling.BILINEAR, box=chance.window)
        pixels = np.array(augmenting.recoloured(image, chance.colours))
        boxes = anchors.resize_boxes(boxes, np.array(seen_wh), np.array(target))
        pixels, boxes = augmenting.flipped(pixels, boxes, chance)
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # a sliver can vanish in float32
        keep = solid & wanted & ~crowd
        ignored = boxes[crowd & solid]
        return Sample(np.ascontiguousarray(pixels), boxes[keep], label[keep], ignored, key.index, key.canvas)


# --------------------------------------------------------------------------------------------------------- batches


def pad(images: list[np.ndarray], canvas: tuple[int, int] = (0, 0)) -> Tensor:
    """(N, 3, H, W) uint8 of pictures of several sizes, sides multiples of 32 (torchvision) and at least the canvas's.

    The padding right and below is the mean colour, which the model's normalisation turns into torchvision's 0.
    """
    sizes = np.array([image.shape[:2] for image in images] + [canvas[::-1]])
    height, width = anchors.padded(sizes.max(axis=0))
    mean = torch.tensor([round(255 * value) for value in IMAGE_MEAN], dtype=torch.uint8)
    batch = mean.view(1, 3, 1, 1).repeat(len(images), 1, int(height), int(width))
    for target, image in zip(batch, images, strict=True):
        target[:, : image.shape[0], : image.shape[1]] = torch.from_numpy(image).permute(2, 0, 1)
    return batch


class Collate:
    """Samples -> Batch: pads, and assigns the anchors of the padded size to the boxes."""

    def __init__(self, spec: AnchorSpec) -> None:
        self.spec = spec

    def __call__(self, samples: list[Sample | FocalError]) -> Batch | FocalError:
        for sample in samples:
            if isinstance(sample, FocalError):
                return sample
        images = pad([sample.image for sample in samples], samples[0].canvas)
        grid = anchors.grids(np.array([[images.shape[3], images.shape[2]]] * len(samples)))
        all_anchors = anchors.anchors_of(self.spec, grid[0])
        boxes = np.concatenate([sample.boxes for sample in samples])
        labels = np.concatenate([sample.labels for sample in samples])
        image = np.repeat(np.arange(len(samples)), [len(sample.boxes) for sample in samples])
        found = anchors.match(boxes, image, grid, self.spec)
        place = found.image * len(all_anchors) + found.anchor
        yes = found.positive
        ignored = np.setdiff1d(np.concatenate([place[~yes], self._on_crowds(samples, all_anchors)]), place[yes])
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


def leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C, and often SIGTERM, reach every process of the group; only the training loop decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


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
