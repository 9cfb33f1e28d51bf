"""A picture file -> RGB pixels as its boxes see them, and at network size; the same for training and evaluation.

Pillow decodes. torch resizes in a third of the time that Pillow needs; in photos less than 1 % of the numbers differ,
by one level of 255 (tests/test_pixels.py). torchvision could decode, at most a tenth quicker, but its decoders are
deprecated since 0.29.
Shapes: (3, H, W) uint8 pixels; sizes are (width, height) in px.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from focalcli import anchors
from focalcli.coco import Dataset
from focalcli.errors import FocalError

ORIENTATION = 0x0112  # EXIF's tag


@dataclass(frozen=True)
class InputSize:
    """Short side, and cap of the long side, in pixels."""

    min_size: int
    max_size: int


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
            if image.getexif().get(ORIENTATION, 1) != 1:
                turned = ImageOps.exif_transpose(image)
                image = turned if turned.size == expected else image
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


def pixels_of(image: Image.Image) -> Tensor:
    """(3, H, W) of an RGB picture, not to be changed: the memory is that of the bytes that Pillow gave."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of just that; to copy them takes as long as to resize them
        return torch.from_numpy(np.asarray(image)).permute(2, 0, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: 16-bit pictures keep their range (a plain conversion saturates), transparent pixels become grey."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float32)
        return Image.fromarray((np.clip(np.nan_to_num(values), 0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


# ------------------------------------------------------------------------------------------------------------ resizing


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


def resize(pixels: Tensor, wh: tuple[int, int]) -> Tensor:
    """(3, h, w) of this width and height, antialiased bilinear; the same memory where they have it already."""
    width, height = wh
    if pixels.shape[1:] == (height, width):
        return pixels
    batch = pixels[None].contiguous(memory_format=torch.channels_last)  # what the vectorised code is written for
    return interpolate(batch, (height, width), mode="bilinear", antialias=True)[0]


def resized(image: Image.Image, size: InputSize) -> np.ndarray:
    """(h, w, 3) uint8 of an RGB picture at network size."""
    return resize(pixels_of(image), target_wh(image.size, size)).permute(1, 2, 0).numpy()
