"""How a picture is varied in training: a window of it, its colours, flips. All of it follows from one seed.

Shapes: B boxes, xyxy in pixels of the original picture until it is resized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance

CROP_SIDE = (0.5, 1.0)  # share of both sides that a window keeps


@dataclass(frozen=True)
class Augment:
    """How much is varied.

    Attributes:
        flip, vertical_flip: chances in 0..1.
        scale: range of a factor on the input size, drawn once for each step.
        brightness, contrast, saturation: the factor on each is drawn from 1 - value to 1 + value.
        crop: chance of a window in place of the whole picture.
    """

    flip: float = 0.5
    vertical_flip: float = 0.0
    scale: tuple[float, float] = (0.8, 1.25)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    crop: float = 0.0


@dataclass(frozen=True)
class Draw:
    """What chance decided for one picture.

    Attributes:
        across, down: whether it is flipped. colours: factors on brightness, contrast and saturation.
        window: xyxy in px of the original picture, None for all of it.
    """

    across: bool = False
    down: bool = False
    colours: tuple[float, float, float] = (1.0, 1.0, 1.0)
    window: tuple[int, int, int, int] | None = None


def draw(augment: Augment, seed: int, wh: tuple[int, int], boxes: np.ndarray) -> Draw:
    """Decide for one picture.

    Args:
        boxes: (B, 4) its objects; a window holds the centre of one of them.
    """
    rng = np.random.default_rng(seed)
    across, down = rng.random(2)
    window = _window(rng, wh, boxes) if augment.crop > 0 and rng.random() < augment.crop else None
    spread = np.array([augment.brightness, augment.contrast, augment.saturation])
    colours = tuple((1 + spread * rng.uniform(-1, 1, size=3)).tolist())
    return Draw(bool(across < augment.flip), bool(down < augment.vertical_flip), colours, window)


def _window(rng: np.random.Generator, wh: tuple[int, int], boxes: np.ndarray) -> tuple[int, int, int, int]:
    """A window of the picture's own shape, around the centre of an object where there is one."""
    share = rng.uniform(*CROP_SIDE)
    sides = np.maximum(1, np.round(share * np.array(wh)).astype(np.int64))
    low, high = np.zeros(2), np.array(wh) - sides
    if len(boxes):
        box = boxes[rng.integers(len(boxes))]
        centre = (box[:2] + box[2:]) / 2
        low, high = np.clip(centre - sides, 0, high), np.clip(centre, 0, high)
    x, y = np.round(rng.uniform(low, high)).astype(np.int64)
    return int(x), int(y), int(x + sides[0]), int(y + sides[1])


def recoloured(pixels: np.ndarray, colours: tuple[float, float, float]) -> np.ndarray:
    """(h, w, 3) with brightness, then contrast, then saturation times its factor, as Pillow defines them."""
    if colours == (1.0, 1.0, 1.0):
        return pixels
    image = Image.fromarray(pixels)
    for kind, factor in zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), colours, strict=True):
        if factor != 1:
            image = kind(image).enhance(factor)
    return np.array(image)


def inside(boxes: np.ndarray, window: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(B, 4) boxes cut at the window and counted from its corner, and (B,) whether the centre lies in it.

    An object whose centre is outside is no longer one to learn: what is left of it may be a wheel of a car.
    """
    corner = np.array(window[:2] * 2)
    limit = np.array([window[2] - window[0], window[3] - window[1]] * 2)
    moved = boxes - corner
    centre = (moved[:, :2] + moved[:, 2:]) / 2
    held = ((centre >= 0) & (centre <= limit[:2])).all(axis=1)
    return moved.clip(0, limit), held


def flipped(pixels: np.ndarray, boxes: np.ndarray, chance: Draw) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) pixels and the boxes on them, turned over as was drawn."""
    height, width = pixels.shape[:2]
    axes = []
    if chance.across:
        axes.append(1)
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    if chance.down:
        axes.append(0)
        boxes = np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], axis=1)
    if axes:  # torch's copy is vectorised; what numpy gives is a view that takes five times as long to copy
        pixels = torch.from_numpy(pixels).flip(axes).numpy()
    return pixels, boxes
