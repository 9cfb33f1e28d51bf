"""Defaults that depend on where and from what the recipe trains, not on the data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """What a machine trains in reasonable time.

    Attributes:
        lr: of AdamW, at batch_size. samples: pictures to train on in all, for a small dataset.
        epochs: the fewest and the most, of pictures as they are.
    """

    backbone: str
    weights: str
    min_size: int
    max_size: int
    width: int
    head_depth: int
    head_norm: str
    batch_size: int
    lr: float
    samples: int
    epochs: tuple[int, int]


CPU = Hardware("mobilenet_v2", "imagenet", 256, 427, 128, 2, "none", 4, 4e-4, 3300, (8, 60))
GPU = Hardware("resnet50", "coco", 800, 1333, 256, 4, "none", 16, 1e-4, 24_000, (12, 100))
# without pretrained weights: normalised heads and a high learning rate, or the first epochs are lost
CPU_SCRATCH = Hardware("mobilenet_v2", "none", 256, 427, 64, 2, "group", 8, 2e-3, 4800, (15, 100))
GPU_SCRATCH = Hardware("resnet50", "none", 800, 1333, 256, 4, "group", 16, 1e-3, 60_000, (36, 300))


def hardware_for(gpu: bool, weights: str | None) -> Hardware:
    """The defaults of a machine with or without a GPU; `weights` is the recipe's model.weights where it was given."""
    if weights == "none":
        return GPU_SCRATCH if gpu else CPU_SCRATCH
    return GPU if gpu else CPU
