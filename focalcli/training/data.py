"""Pictures and targets: JPEG -> resized uint8 tensors, boxes -> the few anchors that are not background.

Decoding, augmentation and anchor matching happen in the loader's workers; what travels to the device is the uint8 batch
and, for each positive anchor, its index, class and box. Everything random about a sample follows from (seed, epoch,
position), so a resumed run sees the pictures that the unbroken one would have seen.

Shapes: N pictures of a batch, P positive anchors, Q ignored ones. Boxes are xyxy in pixels at network size.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from focalcli import anchors
from focalcli.anchors import AnchorSpec
from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.training.model import IMAGE_MEAN

CROWD_COVER = 0.5  # share of an anchor inside a crowd region from which the anchor is neither object nor background


@dataclass(frozen=True)
class InputSize:
    """Short side, and cap of the long side, in pixels."""

    min_size: int
    max_size: int


@dataclass(frozen=True)
class Augment:
    """Chances of flips in 0..1, and the range of a factor on the input size, drawn once for each batch."""

    flip: float = 0.5
    vertical_flip: float = 0.0
    scale: tuple[float, float] = (0.8, 1.25)


@dataclass
class Sample:
    """One picture, ready to be padded into a batch."""

    image: np.ndarray  # (h, w, 3) uint8
    boxes: np.ndarray  # (B, 4) xyxy
    labels: np.ndarray  # (B,)
    crowds: np.ndarray  # (C, 4) xyxy
    index: int


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


def resized(image: Image.Image, size: InputSize, factor: float = 1.0) -> np.ndarray:
    """(h, w, 3) uint8 at network size; the size is torchvision's, the filter antialiased bilinear."""
    wh = np.array([image.size])
    width, height = anchors.network_size(wh, round(size.min_size * factor), round(size.max_size * factor))[0]
    return np.array(image.resize((max(1, int(width)), max(1, int(height))), Image.Resampling.BILINEAR))


class Pictures(TorchDataset):
    """Samples by (index, seed, scale factor); a seed of None means no augmentation."""

    def __init__(self, dataset: Dataset, labels: np.ndarray, size: InputSize, augment: Augment) -> None:
        """labels: (K of the file,) the trained class of each category of the dataset, -1 where it is not trained."""
        self.dataset, self.labels, self.size, self.augment = dataset, labels, size, augment
        self.order = np.argsort(dataset.box_image, kind="stable")
        self.first = np.searchsorted(dataset.box_image[self.order], np.arange(len(dataset.image_ids) + 1))

    def __getitem__(self, key: tuple[int, int | None, float]) -> Sample | FocalError:
        """A sample, or what is wrong with its picture: an exception would lose its hint on the way out of a worker."""
        try:
            return self._sample(*key)
        except FocalError as error:
            return error

    def _sample(self, index: int, seed: int | None, factor: float) -> Sample:
        image = read_image(self.dataset, index)
        old_wh = np.array(image.size)
        pixels = resized(image, self.size, factor)
        height, width = pixels.shape[:2]
        rows = self.order[self.first[index] : self.first[index + 1]]
        boxes = anchors.resize_boxes(self.dataset.boxes_xyxy[rows], old_wh, np.array([width, height]))
        if 0 in self.dataset.image_wh[index]:  # the dataset could not clip them
            boxes = boxes.clip(0, np.array([width, height] * 2, dtype=np.float32))
        if seed is not None:
            pixels, boxes = self._flip(pixels, boxes, np.random.default_rng(seed))
        label, crowd = self.labels[self.dataset.box_label[rows]], self.dataset.iscrowd[rows]
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # a sliver can vanish in float32
        keep = solid & ~crowd & (label >= 0)
        return Sample(np.ascontiguousarray(pixels), boxes[keep], label[keep], boxes[crowd & solid], index)

    def _flip(self, pixels: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = pixels.shape[:2]
        across, down = rng.random(2)
        if across < self.augment.flip:
            pixels = pixels[:, ::-1]
            boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
        if down < self.augment.vertical_flip:
            pixels = pixels[::-1]
            boxes = np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], axis=1)
        return pixels, boxes


# --------------------------------------------------------------------------------------------------------- batches


def pad(images: list[np.ndarray]) -> Tensor:
    """(N, 3, H, W) uint8 of pictures of several sizes, sides multiples of 32 (torchvision).

    The padding right and below is the mean colour, which the model's normalisation turns into torchvision's 0.
    """
    sizes = np.array([image.shape[:2] for image in images])
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
        images = pad([sample.image for sample in samples])
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
    """What the loader gives; a picture's FocalError is raised here, and so is the death of a worker.

    Raises:
        FocalError: a picture cannot be read, or a loading process was killed (most often for want of memory).
    """
    try:
        for batch in loader:
            if isinstance(batch, FocalError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise FocalError(
            f"a process that loads pictures ended unexpectedly ({str(error).splitlines()[0]})",
            "often too little memory: set data.workers=0 or a smaller schedule.batch_size, then --resume",
        ) from None


def repeat_factors(dataset: Dataset, threshold: float) -> np.ndarray:
    """(I,) how often each picture is shown in an epoch: max over its classes of max(1, sqrt(threshold / f_c)).

    f_c is the share of pictures that hold class c. Source: Gupta et al. 2019 (LVIS), sec. 4.2. Threshold 0: all 1.
    """
    factors = np.ones(len(dataset.image_ids))
    if threshold > 0:
        share = dataset.images_per_class / max(1, len(dataset.image_ids))
        per_class = np.maximum(1.0, np.sqrt(threshold / np.maximum(share, 1e-12)))
        keep = ~dataset.iscrowd
        np.maximum.at(factors, dataset.box_image[keep], per_class[dataset.box_label[keep]])
    return factors


class BatchKeys(Sampler):
    """The batches of one epoch after another, from any step on: a function of (seed, epoch) and nothing else.

    Wide and tall pictures come in batches of their own: mixed, each would be padded to the other's long side.
    """

    def __init__(
        self,
        factors: np.ndarray,
        batch_size: int,
        seed: int,
        augment: Augment,
        epochs: int,
        wide: np.ndarray | None = None,
    ) -> None:
        """factors: (I,) as from repeat_factors. wide: (I,) True where width >= height; None takes all as alike."""
        self.factors, self.batch_size, self.seed, self.augment, self.epochs = factors, batch_size, seed, augment, epochs
        self.wide = np.ones(len(factors), dtype=np.bool_) if wide is None else wide
        self.epoch_length = max(len(factors), int(factors.sum()))
        self.steps_per_epoch = max(1, self.epoch_length // batch_size)
        self.start = 0

    def __iter__(self) -> Iterator[list[tuple[int, int, float]]]:
        for step in range(self.start, self.steps_per_epoch * self.epochs):
            epoch, position = divmod(step, self.steps_per_epoch)
            if position == 0 or step == self.start:
                order = self._order(epoch)
            rng = np.random.default_rng((self.seed, epoch, position))
            low, high = np.log(self.augment.scale)
            factor = float(np.exp(rng.uniform(low, high)))
            chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
            yield [
                (int(index), int(seed), factor)
                for index, seed in zip(chosen, rng.integers(2**62, size=len(chosen)), strict=True)
            ]

    def __len__(self) -> int:
        return self.steps_per_epoch * self.epochs - self.start

    def _order(self, epoch: int) -> np.ndarray:
        """Every picture floor or ceil of its factor times, the fractions by systematic sampling, shuffled."""
        rng = np.random.default_rng((self.seed, epoch))
        times = self.factors.astype(np.int64)
        fraction, extra = self.factors - times, self.epoch_length - times.sum()
        reach = np.cumsum(fraction) * (extra / max(fraction.sum(), 1e-12))
        picked = np.searchsorted(reach, np.arange(extra) + rng.random(), side="right")
        times[np.minimum(picked, len(times) - 1)] += 1
        order = rng.permutation(np.repeat(np.arange(len(times)), times))
        wide = self.wide[order]
        if wide.all() or not wide.any():
            return order
        if rng.random() < 0.5:  # which kind comes last, and loses the pictures that fill no batch
            wide = ~wide
        sorted_by_kind = np.concatenate([order[wide], order[~wide]])
        starts = rng.permutation(self.steps_per_epoch) * self.batch_size
        return np.concatenate([sorted_by_kind[start : start + self.batch_size] for start in starts])


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
