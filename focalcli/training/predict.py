"""Detector + pictures -> Detections in pixels of the original pictures.

Post-processing is RetinaNet's: per level the 1000 best scores above the threshold, boxes decoded and clipped, NMS per
class, the best `max_detections` of a picture (Lin et al. 2017, sec. 4.1, with torchvision's order of steps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.ops import batched_nms

from focalcli import anchors
from focalcli.anchors import AnchorSpec
from focalcli.coco import Dataset
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.training.data import (
    InputSize,
    batches,
    leave_signals_to_parent,
    pad,
    read_image,
    resized,
    usable,
    worker_death_said,
)
from focalcli.training.device import out_of_memory_said
from focalcli.training.loss import decode_boxes
from focalcli.training.model import Detector
from focalcli.training.ranks import Ranks

CANDIDATES_PER_LEVEL = 1000


@dataclass(frozen=True)
class Thresholds:
    """Scores below `score` are dropped (0.05 or less where AP is measured: TRAPS 24); NMS at IoU `nms_iou`."""

    score: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100


class Abandoned(Exception):
    """What `progress` may raise to give a prediction up."""


def no_detections() -> Detections:
    """What a detector that finds nothing finds."""
    return Detections(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))


def joined(parts: Sequence[Detections]) -> Detections:
    """The detections of several processes as one."""
    fields = zip(*((part.image, part.label, part.boxes, part.scores) for part in parts), strict=True)
    calibrated = any(part.calibrated for part in parts)
    return Detections(*(np.concatenate(field) for field in fields), calibrated=calibrated)


def _first_error_or_all(samples: list) -> list | FocalError:
    return next((sample for sample in samples if isinstance(sample, FocalError)), samples)


class _Resized(torch.utils.data.Dataset):
    def __init__(self, dataset: Dataset, size: InputSize) -> None:
        self.dataset, self.size = dataset, size

    def __len__(self) -> int:
        return len(self.dataset.image_ids)

    def __getitem__(self, index: int) -> tuple[int, tuple[int, int], np.ndarray] | FocalError:
        try:
            image = read_image(self.dataset, index)
        except FocalError as error:
            return error
        return index, image.size, resized(image, self.size)


def predict(*args: Any, **options: Any) -> Detections:
    """All that `predicted` gives of these arguments, as one."""
    return joined([no_detections(), *predicted(*args, **options)])


def predicted(
    model: Detector,
    dataset: Dataset,
    categories: np.ndarray,
    spec: AnchorSpec,
    size: InputSize,
    thresholds: Thresholds,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    batch_size: int = 8,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    unreadable: Callable[[int, FocalError], None] | None = None,
) -> Iterator[Detections]:
    """Detections of every picture of the dataset, or of this process's share of the batches, a batch at a time.

    Args:
        categories: (K,) index into dataset.categories of each class of the model.
        autocast: a type of half precision, or None.
        progress: called with pictures done and pictures in all.
        ranks: this process, when several share the work. No picture comes twice, and each is in the same batch as
            with one process, so that its padding and its detections are the same (TRAPS 29).
        unreadable: called with the index of a picture that is missing or broken, and why; the others go on.

    Raises:
        FocalError: a picture is missing or unreadable, and there is no `unreadable`.
    """
    # pictures of like shape together: least padding, and the same padding whatever order the file has
    aspect = dataset.image_wh[:, 0] / np.maximum(1, dataset.image_wh[:, 1])
    order = np.argsort(aspect, kind="stable").tolist()
    chosen = [order[start : start + batch_size] for start in range(0, len(order), batch_size)][ranks.rank :: ranks.size]
    loader = DataLoader(
        _Resized(dataset, size), batch_sampler=chosen, num_workers=usable(workers),
        worker_init_fn=leave_signals_to_parent,
        collate_fn=_first_error_or_all if unreadable is None else list,
    )  # fmt: skip
    model.eval()
    done = 0
    with worker_death_said(), closing(batches(loader)) as source:
        for indices, samples in zip(chosen, source, strict=True):
            for index, sample in zip(indices, samples, strict=True):
                if isinstance(sample, FocalError):
                    unreadable(index, sample)
            if read := [sample for sample in samples if not isinstance(sample, FocalError)]:
                yield _detect_batch(model, read, categories, spec, thresholds, device, autocast)
            done += len(samples)
            if progress is not None:
                progress(done, sum(map(len, chosen)))


def _detect_batch(
    model: Detector,
    samples: list[tuple[int, tuple[int, int], np.ndarray]],
    categories: np.ndarray,
    spec: AnchorSpec,
    thresholds: Thresholds,
    device: torch.device,
    autocast: torch.dtype | None,
) -> Detections:
    """Detections of the pictures of one batch, picture by picture. samples: as _Resized gives them."""
    images = pad([pixels for _, _, pixels in samples]).to(device)
    grid = anchors.grids(np.array([[images.shape[3], images.shape[2]]]))[0]
    grid_anchors = torch.from_numpy(anchors.anchors_of(spec, grid)).to(device)
    counts = (grid[:, 0] * grid[:, 1] * spec.per_cell).tolist()
    with (
        out_of_memory_said(images, "a smaller --batch-size (`focal eval`), input.min_size or model.width needs less"),
        torch.inference_mode(),
        torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None),
    ):
        levels = model.features(images)
        chosen = [_candidates(logits, counts, thresholds) for logits in model.logits(levels)]
        places = [candidates.anchor + row * len(grid_anchors) for row, candidates in enumerate(chosen)]
        deltas = model.deltas(levels, torch.cat(places)).float().split([len(place) for place in places])
    found = []
    for (index, wh, pixels), candidates, moved in zip(samples, chosen, deltas, strict=True):
        shape = pixels.shape[1], pixels.shape[0]
        boxes, scores, labels = _select(candidates, moved, grid_anchors, shape, thresholds)
        scale = np.array([wh[0] / shape[0], wh[1] / shape[1]] * 2)
        xyxy = boxes.cpu().numpy().astype(np.float64) * scale
        xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
        label, score = categories[labels.cpu().numpy()], scores.cpu().numpy().astype(np.float64)
        found.append(Detections(np.full(len(xywh), index, np.int64), label.astype(np.int64), xywh, score))
    return joined(found)


class _Candidates(NamedTuple):
    """Those of one picture, (M,) each: anchor within the picture, score and label, a level after the other."""

    anchor: Tensor
    score: Tensor
    label: Tensor


def _candidates(logits: Tensor, counts: list[int], thresholds: Thresholds) -> _Candidates:
    """The best of each level, of (A, K) logits; only these anchors need a box. counts: anchors of each level."""
    parts = []
    first, num_classes = 0, logits.shape[1]
    for level in logits.float().split(counts):
        score = level.sigmoid().flatten()
        keep = (score > thresholds.score).nonzero().flatten()
        score, best = score[keep].topk(min(CANDIDATES_PER_LEVEL, len(keep)))
        parts.append((first + keep[best] // num_classes, score, keep[best] % num_classes))
        first += len(level)
    return _Candidates(*map(torch.cat, zip(*parts, strict=True)))


@torch.inference_mode()
def _select(
    candidates: _Candidates, deltas: Tensor, grid_anchors: Tensor, wh: tuple[int, int], thresholds: Thresholds
) -> tuple[Tensor, Tensor, Tensor]:
    """(D, 4) xyxy at network size, (D,) scores and (D,) labels of one picture, best first, of candidates and their
    (M, 4) deltas."""
    box = decode_boxes(deltas, grid_anchors[candidates.anchor])
    box = torch.stack([box[:, 0::2].clamp(0, wh[0]), box[:, 1::2].clamp(0, wh[1])], dim=2).flatten(1)
    solid = ((box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])).nonzero().flatten()
    box, score, label = box[solid], candidates.score[solid], candidates.label[solid]
    keep = batched_nms(box, score, label, thresholds.nms_iou)[: thresholds.max_detections]
    return box[keep], score[keep], label[keep]
