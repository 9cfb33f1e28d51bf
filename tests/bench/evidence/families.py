"""Drawn datasets whose imbalance is a dial: four families of pictures, made of numpy and Pillow alone.

A family says what its classes, its background and its decoys (drawn, never labelled) look like; a Dial says how
often each class comes, how many objects a picture holds and how many labels of the training split are wrong. The same
family, dial, split and seed give the same pixels and boxes.

Shapes: pictures are (SIDE, SIDE, 3) float in 0..255 until they are written; boxes are xyxy in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 128
FINE = 4  # outlines are drawn so many times larger and reduced, which smooths their edges
MOST_OVERLAP = 0.25  # IoU with an object that is there already
TRIES = 20  # places that are tried for an object before it is given up

Patch = tuple[np.ndarray, np.ndarray]  # (h, w, 3) colour and (h, w) cover in 0..1


@dataclass(frozen=True)
class Dial:
    """What is turned.

    Attributes:
        head_tail: objects of the first class for each of the last, in training; the ones between lie geometrically.
        objects: mean per picture (Poisson), classes together.
        noise: share of training labels that are wrong: a third missing, a third of another class, a third on nothing.
    """

    head_tail: float = 1.0
    objects: float = 5.0
    noise: float = 0.0


@dataclass(frozen=True)
class Family:
    """Classes and where they are found; sides in pixels, drawn log-uniformly."""

    name: str
    classes: tuple[str, ...]
    sides: tuple[float, float]
    decoys: float  # mean per picture
    background: Callable[[np.random.Generator], np.ndarray]
    # of a label (the number of classes: a decoy), a side and the colour below it
    patch: Callable[[np.random.Generator, int, float, np.ndarray], Patch]


@dataclass(frozen=True)
class Drawn:
    """One picture with its labels, and without those that noise took or changed."""

    pixels: np.ndarray  # (SIDE, SIDE, 3) uint8
    boxes: np.ndarray  # (B, 4) xyxy
    labels: np.ndarray  # (B,)


def draw(family: Family, dial: Dial, split: str, index: int, seed: int = 0) -> Drawn:
    """Picture `index` of a split: `train` has the dial's imbalance and noise, `val` every class alike and true labels.

    An even validation split measures the AP of a rare class as exactly as that of a frequent one.
    """
    rng = np.random.default_rng((seed, split == "val", index))
    pixels, count = family.background(rng), len(family.classes)
    for _ in range(rng.poisson(family.decoys)):
        _place(family, rng, count, pixels, np.zeros((0, 4)))
    shares = np.ones(count) if split == "val" else dial.head_tail ** -np.linspace(0, 1, count)
    boxes, labels = np.zeros((0, 4)), []
    for label in rng.choice(count, rng.poisson(dial.objects), p=shares / shares.sum()):
        box = _place(family, rng, int(label), pixels, boxes)
        if box is not None:
            boxes, labels = np.concatenate([boxes, box[None]]), [*labels, int(label)]
    pixels += rng.normal(0, rng.uniform(4, 12), pixels.shape)
    found = Drawn(pixels.clip(0, 255).astype(np.uint8), boxes, np.array(labels, dtype=np.int64))
    return found if split == "val" else _mislabelled(found, dial.noise, count, np.random.default_rng((seed, 2, index)))


def _place(family: Family, rng: np.random.Generator, label: int, pixels: np.ndarray, taken: np.ndarray) -> object:
    """Paint an object where it hides no other; its box, or None where there was no room."""
    side = float(np.exp(rng.uniform(*np.log(family.sides))))
    for _ in range(TRIES):
        x, y = rng.integers(0, SIDE - int(side), 2)
        below = pixels[y : y + int(side), x : x + int(side)].mean(axis=(0, 1))
        colour, cover = family.patch(rng, label, side, below)
        rows, columns = (np.flatnonzero(cover.max(axis=axis) > 0.5) for axis in (1, 0))
        if not len(rows) or x + cover.shape[1] > SIDE or y + cover.shape[0] > SIDE:
            continue
        box = np.array([x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1], dtype=np.float64)
        if (_iou(box, taken) > MOST_OVERLAP).any():
            continue
        part = pixels[y : y + cover.shape[0], x : x + cover.shape[1]]
        part += cover[..., None] * (colour - part)
        return box
    return None


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    shared = (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / np.maximum(1e-9, areas + (box[2:] - box[:2]).prod() - shared)


def _mislabelled(drawn: Drawn, noise: float, count: int, rng: np.random.Generator) -> Drawn:
    if not noise or not len(drawn.boxes):
        return drawn
    kind = np.where(rng.random(len(drawn.boxes)) < noise, rng.integers(0, 3, len(drawn.boxes)), 3)
    labels = np.where(kind == 1, (drawn.labels + rng.integers(1, count, len(kind))) % count, drawn.labels)
    size = drawn.boxes[:, 2:] - drawn.boxes[:, :2]
    corner = np.floor(rng.uniform(0, 1, size.shape) * (SIDE - size))
    boxes = np.where((kind == 2)[:, None], np.concatenate([corner, corner + size], axis=1), drawn.boxes)
    return Drawn(drawn.pixels, boxes[kind != 0], labels[kind != 0])


# ---------------------------------------------------------------------------------------------- what they are made of


def _clouds(rng: np.random.Generator, cell: int, depth: float) -> np.ndarray:
    """(SIDE, SIDE, 3) of one drawn colour that wavers by `depth`, over about `cell` pixels."""
    coarse = rng.normal(0, 1, (SIDE // cell + 2, SIDE // cell + 2, 3)) * 0.4 + rng.normal(0, 1, (1, 1, 3)) * 0.2
    coarse += rng.normal(0, 1, coarse.shape[:2])[..., None]
    smooth = [
        np.asarray(Image.fromarray(coarse[..., c].astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    return rng.uniform(60, 195, 3) + depth * np.stack(smooth, axis=2).astype(np.float64)


def _filled(points: np.ndarray, side: float) -> np.ndarray:
    """(h, w) cover of a polygon, (P, 2) in -1..1 of the half side."""
    size = int(side)
    image = Image.new("L", (size * FINE, size * FINE))
    ImageDraw.Draw(image).polygon([tuple(p) for p in (points + 1) / 2 * (size * FINE - 1)], fill=255)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX)) / 255.0


def _strokes(lines: list[np.ndarray], side: float, width: float) -> np.ndarray:
    """(h, w) cover of polylines, each (P, 2) in -1..1, `width` pixels wide."""
    size = int(side)
    image = Image.new("L", (size * FINE, size * FINE))
    canvas, reach = ImageDraw.Draw(image), size * FINE - width * FINE
    for line in lines:
        canvas.line([tuple(p) for p in (line + 1) / 2 * reach + width * FINE / 2], fill=255, width=round(width * FINE))
    return np.asarray(image.resize((size, size), Image.Resampling.BOX)) / 255.0


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _other_colour(rng: np.random.Generator, below: np.ndarray, contrast: tuple[float, float]) -> np.ndarray:
    """A colour that differs from the one below by about `contrast` grey levels, lighter or darker, with a tint."""
    step = rng.uniform(*contrast) * (1 if below.mean() < 128 else -1) * (1 if rng.random() < 0.8 else -1)
    return (below + step + rng.normal(0, 14, 3)).clip(0, 255)


# --------------------------------------------------------------------------------------------------------- the shapes


def _corners(count: int, inner: float) -> np.ndarray:
    """(2 * count, 2) a star's outline; inner 1 is a polygon of 2 * count corners."""
    angle = np.arange(2 * count) * np.pi / count
    radius = np.where(np.arange(2 * count) % 2, inner, 1.0)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]


_OUTLINES = (_corners(3, 0.5), _corners(2, 1.0), _corners(24, 1.0), _corners(5, 0.45))  # the last is the decoy, a star


def _shape(rng: np.random.Generator, label: int, side: float, below: np.ndarray) -> Patch:
    points = _turned(_OUTLINES[label], rng.uniform(0, 2 * np.pi)) * np.array([1.0, rng.uniform(0.7, 1.0)])
    cover = _filled(_turned(points, rng.uniform(0, 2 * np.pi)), side) * rng.uniform(0.7, 1.0)
    return np.broadcast_to(_other_colour(rng, below, (18, 70)), (*cover.shape, 3)), cover


# ------------------------------------------------------------------------------------------------------- the textures


def _texture(rng: np.random.Generator, label: int, side: float, below: np.ndarray) -> Patch:
    """A blob that is told from the others only by what it is filled with: stripes, dots or rings; a decoy is plain."""
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    waves = sum(rng.normal(0, 0.09) * np.cos(k * angle + rng.uniform(0, 7)) for k in (2, 3, 4))
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (0.85 + waves)[:, None]
    cover = _filled(points.clip(-1, 1), side)
    size = len(cover)
    y, x = np.mgrid[:size, :size] - size / 2.0
    period, turn = rng.uniform(4, 7), rng.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    wave = 2 * np.pi / period
    fill = (
        np.sin(wave * along),
        1.6 * np.sin(wave * along) * np.sin(wave * across),
        np.sin(wave * np.hypot(x, y)),
        0.0 * x,
    )[label]
    colour = _other_colour(rng, below, (5, 35)) + (rng.uniform(14, 40) * fill)[..., None]
    return colour, cover


# --------------------------------------------------------------------------------------------------------- the glyphs


def _pen(*lines: str) -> list[np.ndarray]:
    """Polylines of corners, each named by its column (l, m, r) and its row (t, c, b)."""
    places = {"l": -1, "m": 0, "r": 1, "t": -1, "c": 0, "b": 1}
    return [np.array([[places[column], places[row]] for column, row in line.split()]) for line in lines]


_LETTERS = {
    "T": _pen("lt rt", "mt mb"), "L": _pen("lt lb rb"), "X": _pen("lt rb", "lb rt"), "Z": _pen("lt rt lb rb"),
    "H": _pen("lt lb", "rt rb", "lc rc"), "V": _pen("lt mb rt"), "E": _pen("rt lt lb rb", "lc rc"),
    "K": _pen("lt lb", "rt lc rb"), "P": _pen("lb lt rt rc lc"), "M": _pen("lb lt mc rt rb"),
    "Y": _pen("lt mc rt", "mc mb"), "O": _pen("lt rt rb lb lt"),
}  # fmt: skip
_GLYPHS = tuple(_LETTERS)[:3]


def _letter(rng: np.random.Generator, lines: list[np.ndarray], side: float, below: np.ndarray) -> Patch:
    """A letter of a few strokes, among single strokes of the same pen."""
    angle = rng.uniform(-0.35, 0.35)
    lines = [_turned(line * 0.75, angle) * np.array([rng.uniform(0.75, 1.0), 1.0]) for line in lines]
    cover = _strokes([line.clip(-1, 1) for line in lines], side, rng.uniform(1.8, 3.4))
    return np.broadcast_to(_other_colour(rng, below, (35, 100)), (*cover.shape, 3)), cover


def _written(names: tuple[str, ...]) -> Callable[[np.random.Generator, int, float, np.ndarray], Patch]:
    """The patches of these letters; a decoy is a stroke or two corners more."""

    def patch(rng: np.random.Generator, label: int, side: float, below: np.ndarray) -> Patch:
        is_letter = label < len(names)
        lines = _LETTERS[names[label]] if is_letter else [rng.uniform(-1, 1, (rng.integers(2, 4), 2))]
        return _letter(rng, lines, side, below)

    return patch


def _paper(rng: np.random.Generator) -> np.ndarray:
    sheet = _clouds(rng, 32, 14)
    speckles = rng.random((SIDE, SIDE)) < 0.02
    dots = Image.fromarray((255 * speckles).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    return sheet - rng.uniform(20, 90) * (np.asarray(dots)[..., None] / 255.0)


FAMILIES = {
    family.name: family
    for family in (
        Family("shapes", ("triangle", "square", "disc"), (14, 44), 2.0, lambda rng: _clouds(rng, 16, 22), _shape),
        Family("textures", ("stripes", "dots", "rings"), (20, 52), 1.0, lambda rng: _clouds(rng, 6, 12), _texture),
        Family("glyphs", _GLYPHS, (14, 32), 5.0, _paper, _written(_GLYPHS)),
        Family("letters", tuple(_LETTERS), (14, 32), 5.0, _paper, _written(tuple(_LETTERS))),
    )
}
