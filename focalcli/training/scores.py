"""One pass of a detector over a dataset: how often which logit, per class, on positives and on negatives.

Anchors are assigned as in training (data.Collate), ignored ones left out; pictures are neither flipped nor jittered.
Memory is bounded: the counts, and a batch.
Shapes: A anchors of a batch, K classes, N bins (recommend.measured).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from focalcli.coco import Dataset
from focalcli.recommend.measured import BIN, BINS, LIMIT, Scores
from focalcli.training.augment import Augment
from focalcli.training.classes import labels_of
from focalcli.training.data import (
    Collate,
    Pictures,
    batches,
    leave_signals_to_parent,
    usable,
    worker_death_said,
)
from focalcli.training.device import autocast_type, out_of_memory_said
from focalcli.training.loss import BACKGROUND, IGNORE
from focalcli.training.run import Trained
from focalcli.training.sampling import Key

AT_ONCE = 1 << 22  # logits


class Counter:
    """Counts logits, a batch at a time."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.counts = torch.zeros(2, num_classes, BINS, dtype=torch.int64, device=device)  # positives, negatives

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """logits: (A, K). labels: (A,) a class, BACKGROUND or IGNORE, as loss.focal_loss takes them."""
        k = logits.shape[1]
        offset = torch.arange(k, device=logits.device) * BINS
        rows = max(1, AT_ONCE // k)
        for start in range(0, len(logits), rows):
            label = labels[start : start + rows]
            part, label = logits[start : start + rows][label != IGNORE], label[label != IGNORE]
            place = ((part.float() + LIMIT) / BIN).floor_().clamp_(0, BINS - 1).long() + offset
            anchor = (label >= 0).nonzero().flatten()
            positive = torch.bincount(place[anchor, label[anchor]], minlength=k * BINS)
            every = torch.bincount(place.flatten(), minlength=k * BINS)
            self.counts += torch.stack([positive, every - positive]).view(2, k, BINS)

    def scores(self, names: tuple[str, ...]) -> Scores:
        positives, negatives = self.counts.cpu().numpy()
        return Scores(names, positives, negatives)


def measure(
    trained: Trained,
    dataset: Dataset,
    *,
    device: torch.device,
    most_images: int | None = None,
    batch_size: int = 8,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Scores, int]:
    """The scores of a detector on the anchors of a dataset, and of how many pictures they are.

    Args:
        most_images: of a larger dataset so many pictures are looked at, evenly drawn from the file.
        progress: called with pictures done and pictures in all.

    Raises:
        FocalError: other classes, or a picture is missing or unreadable.
    """
    labels = labels_of(dataset, trained.classes, "the checkpoint's")
    n = len(dataset.image_ids)
    chosen = np.unique(np.linspace(0, n - 1, min(n, most_images or n)).astype(np.int64))
    # pictures of like shape together: least padding
    aspect = dataset.image_wh[chosen, 0] / np.maximum(1, dataset.image_wh[chosen, 1])
    order = [Key(index, None) for index in chosen[np.argsort(aspect, kind="stable")].tolist()]
    loader = DataLoader(
        Pictures(dataset, labels, trained.size, Augment()),
        batch_sampler=[order[start : start + batch_size] for start in range(0, len(order), batch_size)],
        collate_fn=Collate(trained.spec),
        num_workers=usable(workers),
        worker_init_fn=leave_signals_to_parent,
    )
    trained.model.eval()
    counter = Counter(len(trained.classes), device)
    autocast, done = autocast_type(device, "auto"), 0
    with worker_death_said(), closing(batches(loader)) as source:
        for loaded in source:
            batch = loaded.to(device)
            with (
                out_of_memory_said(batch.images, "a smaller --batch-size needs less"),
                torch.inference_mode(),
                torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None),
            ):
                logits, _ = trained.model(batch.images)
                targets = torch.full((logits.shape[0] * logits.shape[1],), BACKGROUND, device=device)
                targets[batch.ignored] = IGNORE
                targets[batch.positive] = batch.positive_label
                counter.add(logits.flatten(0, 1), targets)
            done += len(batch.images)
            if progress is not None:
                progress(done, len(order))
    return counter.scores(tuple(category.name for category in trained.classes)), len(order)
