"""Draw the sample dataset: machined parts on a conveyor, five kinds of surface defect in a long tail.

Usage: python sample_data/draw.py [OUT_DIR]     (default: the folder of this file; numpy and Pillow only)
Units: px are pixels of the finished 192 x 192 picture; the canvas holds SCALE x SCALE cells a pixel, G = 384 a side.
Colours are RGB in [0, 1]. A signed distance (sdf) is in px, negative inside the part.
Every picture has its own generators, seeded by (split, index, layer), so no picture depends on another one.
Boxes come from what a mark changed in the picture, never from the geometry that was asked for.
tests/test_sample_data.py draws it all again and holds it against the committed files.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Colour = tuple[float, float, float]
Point = tuple[float, float]
Box = tuple[int, int, int, int]  # x, y, w, h in px
Layer = tuple[Floats, Colour]  # coverage in [0, 1] over a window, and the colour it lays there
Stroke = tuple[Sequence[Point], float, int]  # points and width in px, coverage in 0-255

SIDE, SCALE = 192, 2
G = SIDE * SCALE
INK = 2  # ink is drawn INK times finer than the canvas, for smooth edges
VISIBLE = 24 / 255  # a pixel belongs to a mark if the mark moves one of its channels this far
MARGIN = 3  # px between a mark and the picture's border, and between two marks
JPEG_QUALITY = 86

KINDS = ("scratch", "pit", "stain", "chip", "crack")  # category ids 1-5, head to tail
SPLIT_SEED = {"train": 20, "val": 21}
COUNTS = {"train": (360, 170, 75, 30, 11), "val": (90, 50, 28, 14, 9)}
PICTURES = {"train": 240, "val": 80}
SPOTLESS = {"train": 42, "val": 14}  # pictures without a defect
LOAD = {"scratch": 2, "pit": 1, "stain": 3, "chip": 2, "crack": 7}  # room a mark takes up
MAX_LOAD = 11
SIDES = {"scratch": (20, 64), "pit": (10, 26), "stain": (26, 62), "chip": (14, 36), "crack": (52, 90)}  # px
MAX_ASPECT = 2.8

_cell = (np.arange(G, dtype=np.float32) + 0.5) / SCALE
X, Y = np.meshgrid(_cell, _cell)  # (G, G) px


@dataclass
class Part:
    """A part's outline in the picture, and where its drawing wants holes."""

    sdf: Floats  # (G, G)
    bolts: list[Point]  # px, in the part's own frame
    radius: Floats  # (G, G) distance from the part's centre
    turn: float  # radians from the part's frame to the picture's
    centre: Point

    def place(self, u: float, v: float) -> Point:
        """The picture's (x, y) of a point in the part's frame, px."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return self.centre[0] + u * cos - v * sin, self.centre[1] + u * sin + v * cos


@dataclass
class Scene:
    """The lit picture without defects, and what a defect has to know of it."""

    canvas: Floats  # (G, G, 3)
    part: Part
    clutter: Bools  # (G, G) True on holes, labels and text
    light: Point  # unit vector towards the lamp
    blue: float  # the material's share of blue stains


@dataclass
class Patch:
    """The window that one defect is drawn into."""

    wide: int  # px
    high: int  # px
    sdf: Floats  # (high * SCALE, wide * SCALE) of the part
    light: Point
    blue: float


@dataclass
class Material:
    """A surface: its colour and texture, and which stains show on it."""

    colour: Colour
    finish: str
    blue: float = 0.35  # share of stains that are blue, not brown


MATERIALS = (
    Material((0.60, 0.61, 0.63), "brushed"),  # aluminium
    Material((0.50, 0.52, 0.55), "turned"),  # steel
    Material((0.40, 0.40, 0.41), "cast"),  # iron
    Material((0.64, 0.53, 0.31), "brushed", blue=1.0),  # brass
    Material((0.60, 0.43, 0.34), "turned", blue=1.0),  # copper
    Material((0.46, 0.50, 0.45), "blasted"),  # phosphated steel
    Material((0.34, 0.43, 0.52), "blasted", blue=0.0),  # anodised aluminium
)


# ---- shapes -------------------------------------------------------------------------------------


def box_sdf(u: Floats, v: Floats, half_u: float, half_v: float, corner: float) -> Floats:
    """Signed distance to a rectangle around the origin, corners rounded to the given radius."""
    du, dv = np.abs(u) - half_u + corner, np.abs(v) - half_v + corner
    return np.hypot(np.maximum(du, 0), np.maximum(dv, 0)) + np.minimum(np.maximum(du, dv), 0) - corner


def bolt_circle(radius: float, count: int) -> list[Point]:
    """Evenly spread points on a circle around the part's centre."""
    return [(radius * math.cos(a), radius * math.sin(a)) for a in np.arange(count) * 2 * math.pi / count]


def plate(u: Floats, v: Floats, rng: np.random.Generator) -> tuple[Floats, list[Point]]:
    """A rectangular plate, holes in its corners."""
    half_u, half_v = rng.uniform(70, 88), rng.uniform(62, 82)
    bolts = [(a * (half_u - 14), b * (half_v - 14)) for a in (-1, 1) for b in (-1, 1)]
    return box_sdf(u, v, half_u, half_v, rng.uniform(3, 16)), bolts[:: rng.integers(1, 4)]


def flange(u: Floats, v: Floats, rng: np.random.Generator) -> tuple[Floats, list[Point]]:
    """A disc with a bore and a circle of holes."""
    radius, bore, d = rng.uniform(74, 90), rng.uniform(11, 22), np.hypot(u, v)
    return np.maximum(d - radius, bore - d), bolt_circle(radius - 13, rng.choice([3, 4, 6]))


def gear(u: Floats, v: Floats, rng: np.random.Generator) -> tuple[Floats, list[Point]]:
    """A spur gear with a bore."""
    radius, bore, d = rng.uniform(76, 86), rng.uniform(9, 17), np.hypot(u, v)
    teeth = 4 * np.tanh(3 * np.cos(rng.integers(18, 27) * np.arctan2(v, u)))
    return np.maximum(0.75 * (d - radius - teeth), bore - d), bolt_circle(bore + 16, rng.choice([3, 4]))


def hexagon(u: Floats, v: Floats, rng: np.random.Generator) -> tuple[Floats, list[Point]]:
    """A hexagonal blank with a bore."""
    flat, bore = rng.uniform(68, 80), rng.uniform(9, 18)
    sides = np.maximum(np.abs(v), math.cos(math.pi / 6) * np.abs(u) + 0.5 * np.abs(v))
    return np.maximum(sides - flat, bore - np.hypot(u, v)), bolt_circle(flat - 10, 3)


def bracket(u: Floats, v: Floats, rng: np.random.Generator) -> tuple[Floats, list[Point]]:
    """An L-shaped bracket, a hole near each end."""
    reach, width = rng.uniform(74, 84), rng.uniform(44, 54)
    arm = box_sdf(u, v + reach - width, reach, width, 5)
    leg = box_sdf(u + reach - width, v, width, reach, 5)
    return np.minimum(arm, leg), [(reach - 14, 14 - reach), (14 - reach, reach - 14)]


SHAPES = (plate, plate, flange, gear, hexagon, bracket)


def pose_part(rng: np.random.Generator) -> Part:
    """A random shape, nearly straight on the belt and nearly in the middle."""
    turn = rng.integers(4) * math.pi / 2 + rng.uniform(-0.2, 0.2)
    centre = (SIDE / 2 + rng.uniform(-12, 12), SIDE / 2 + rng.uniform(-12, 12))
    dx, dy = X - np.float32(centre[0]), Y - np.float32(centre[1])
    cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    sdf, bolts = SHAPES[rng.integers(len(SHAPES))](dx * cos + dy * sin, dy * cos - dx * sin, rng)
    return Part(sdf.astype(np.float32), bolts, np.hypot(dx, dy), turn, centre)


# ---- surfaces and light -------------------------------------------------------------------------


def smooth(low: float, high: float, value: Floats) -> Floats:
    """0 below low, 1 above high, a smooth step between; low > high turns it round."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def stretch(noise: Floats, width: int, height: int) -> Floats:
    """An array enlarged to (height, width) with bicubic interpolation."""
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def cloud(rng: np.random.Generator, cells: int) -> Floats:
    """(G, G) smooth noise of unit strength, about `cells` bumps across."""
    return stretch(rng.standard_normal((cells, cells), dtype=np.float32), G, G)


def brushed(part: Part, rng: np.random.Generator) -> Floats:
    """(G, G) fine parallel grain along the part's long axis, mean 0."""
    wide = G * 3 // 2  # room to turn the grain without empty corners
    grain = sum(stretch(rng.standard_normal((wide, n), dtype=np.float32), wide, wide) for n in (5, 14, 40))
    turned = Image.fromarray(grain).rotate(-math.degrees(part.turn), Image.Resampling.BILINEAR)
    cut = (wide - G) // 2
    return 0.028 * np.asarray(turned)[cut : cut + G, cut : cut + G] + 0.02 * cloud(rng, 6)


def turned(part: Part, rng: np.random.Generator) -> Floats:
    """(G, G) lathe rings around the part's centre with the bow-tie sheen that they throw, mean 0."""
    ring = rng.standard_normal(300, dtype=np.float32)
    rings = np.interp(part.radius * 1.6, np.arange(300), ring)
    angle = np.arctan2(Y - part.centre[1], X - part.centre[0])
    sheen = np.cos(2 * (angle - rng.uniform(0, math.pi))) * smooth(4, 40, part.radius)
    return (0.03 * rings + 0.13 * sheen + 0.02 * cloud(rng, 60)).astype(np.float32)


def cast(_part: Part, rng: np.random.Generator) -> Floats:
    """(G, G) the mottled skin of a sand casting, mean 0."""
    return 0.05 * cloud(rng, 12) + 0.06 * cloud(rng, 60) + 0.07 * cloud(rng, 150)


def blasted(_part: Part, rng: np.random.Generator) -> Floats:
    """(G, G) the even sparkle of a bead-blasted face, mean 0."""
    return 0.045 * cloud(rng, 190) + 0.025 * cloud(rng, 8)


FINISHES = {"brushed": brushed, "turned": turned, "cast": cast, "blasted": blasted}


def draw_belt(rng: np.random.Generator) -> Floats:
    """(G, G, 3) the conveyor: dark ribbed rubber, slightly askew."""
    colour = ((0.13, 0.16, 0.18), (0.12, 0.17, 0.15), (0.17, 0.16, 0.16))[rng.integers(3)]
    turn, period = rng.uniform(-0.1, 0.1) + math.pi / 4, rng.uniform(4.5, 6.5)
    a, b = X * math.cos(turn) + Y * math.sin(turn), Y * math.cos(turn) - X * math.sin(turn)
    weave = np.cos(a * 2 * math.pi / period) * np.cos(b * 2 * math.pi / period)
    tone = 1 + 0.16 * weave + 0.10 * cloud(rng, 90) + 0.10 * cloud(rng, 5)
    return (tone[..., None] * np.float32(colour)).astype(np.float32)


def lay_part(belt: Floats, part: Part, material: Material, light: Point, rng: np.random.Generator) -> Floats:
    """(G, G, 3) the part on the belt: its shadow, its finish and the bevel that catches the light."""
    down, right = np.gradient(part.sdf, 1 / SCALE)
    facing = right * light[0] + down * light[1]  # 1 where the edge looks at the lamp
    shadow = np.exp(-np.maximum(part.sdf, 0) / 6) * (0.62 - 0.33 * facing)
    tint = 1 + rng.uniform(-0.05, 0.05) + FINISHES[material.finish](part, rng)
    bevel = smooth(-4, -2.8, part.sdf)
    tint = tint * (1 + bevel * (0.10 + 0.38 * facing)) * (1 - 0.3 * smooth(-0.9, 0, part.sdf))
    face = tint[..., None] * np.float32(material.colour)
    inside = smooth(0.5, -0.5, part.sdf)[..., None]
    return (belt * (1 - shadow[..., None]) * (1 - inside) + face * inside).astype(np.float32)


def shine(canvas: Floats, light: Point, rng: np.random.Generator) -> Floats:
    """The canvas under one lamp: brighter towards it, a soft hot spot, a neutral shadow in every third picture."""
    slope = ((X - SIDE / 2) * light[0] + (Y - SIDE / 2) * light[1]) / SIDE
    spot = np.exp(-(np.square(X - rng.uniform(40, 152)) + np.square(Y - rng.uniform(40, 152))) / 2 / 45**2)
    level = 0.95 + rng.uniform(0.15, 0.38) * slope + rng.uniform(0, 0.14) * spot
    if rng.random() < 1 / 3:
        along = (X - rng.uniform(40, 152)) * light[1] - (Y - rng.uniform(40, 152)) * light[0]
        level *= 1 - 0.28 * smooth(1.4, 0.6, np.abs(along) / rng.uniform(10, 18))
    return np.clip(canvas * level[..., None], 0, 1).astype(np.float32)


# ---- clutter: looks like a defect and is none ---------------------------------------------------


def blend(canvas: Floats, layers: Sequence[Layer]) -> Floats:
    """A canvas (H, W, 3) with layers of the same H and W laid over it in turn."""
    for cover, colour in layers:
        canvas = canvas + cover[..., None] * (np.float32(colour) - canvas)
    return canvas


def drill_holes(canvas: Floats, centres: Sequence[Point], radius: float, light: Point) -> tuple[Floats, Floats]:
    """Clean holes with a bright chamfer all round, and the distance to the nearest; the look-alike of a pit."""
    nearest, toward = np.full_like(X, SIDE), np.zeros_like(X)
    for cx, cy in centres:
        dx, dy = X - np.float32(cx), Y - np.float32(cy)
        d = np.hypot(dx, dy)
        toward = np.where(d < nearest, dx * light[0] + dy * light[1], toward)
        nearest = np.minimum(nearest, d)
    lit = 0.5 - 0.5 * toward / np.maximum(nearest, 1)  # the far wall of a chamfer is lit
    ring = smooth(radius + 2.2, radius + 1.5, nearest) * (0.45 + 0.5 * lit)
    hole = smooth(radius + 0.4, radius - 0.4, nearest)
    layers = [(ring, (0.92, 0.92, 0.90)), (hole, (0.05, 0.055, 0.06))]
    return blend(canvas, layers), nearest - radius


def stamp(canvas: Floats, mask: Image.Image, part: Part, at: Point, layers: Callable[[Floats], list[Layer]]) -> Bools:
    """Lay a picture of ink (L, at canvas scale) on the part's face in place, turned with the part.

    Returns:
        (G, G) True where there is ink.
    """
    sheet = Image.new("L", (G, G))
    sheet.paste(mask, (G // 2 - mask.width // 2, G // 2 - mask.height // 2))
    x, y = part.place(*at)
    shift = (round(x * SCALE) - G // 2, round(y * SCALE) - G // 2)
    turn = (part.turn + math.pi / 2) % math.pi - math.pi / 2  # text stays readable
    sheet = sheet.rotate(-math.degrees(turn), Image.Resampling.BICUBIC, translate=shift)
    left, top, right, bottom = sheet.getbbox() or (0, 0, 1, 1)
    cells = np.s_[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4]  # 4: a shadow or lip beside the ink
    cover = np.asarray(sheet, dtype=np.float32) / 255 * (part.sdf < 0)
    canvas[cells] = blend(canvas[cells], layers(cover[cells]))
    return cover > 0.1


def engraved(cover: Floats) -> list[Layer]:
    """Ink cut into the metal: a light lower lip and a dark floor."""
    return [(0.45 * np.roll(cover, (2, 1), (0, 1)), (0.85, 0.85, 0.84)), (0.72 * cover, (0.14, 0.14, 0.15))]


# An engraver's single-stroke letters: strokes on a 4 x 6 grid, two digits (x, y) a corner. No font file is needed,
# so the pictures do not depend on the machine's FreeType.
GLYPHS = {
    "0": "103041453616050110",
    "1": "022026 1636",
    "2": "01103041420646",
    "3": "0110304142334445361605 1333",
    "4": "36300444",
    "5": "400002324345361605",
    "6": "4130100105163645443303",
    "7": "004016",
    "8": "103041423313020110 1304051636454433",
    "9": "0516364541301001021343",
    "A": "062046 1434",
    "C": "4130100105163645",
    "E": "40000646 0333",
    "F": "400006 0333",
    "H": "0006 4046 0343",
    "K": "0006 400346",
    "L": "000646",
    "M": "0600234046",
    "N": "06004640",
    "P": "06003041423303",
    "R": "06003041423303 2346",
    "T": "0040 2026",
    "X": "0046 4006",
    "-": "1333",
    " ": "",
}


def part_number(rng: np.random.Generator) -> Image.Image:
    """Ink of an engraved part number such as RK 482-17."""
    letters = "".join(rng.choice(list("ACEFHKLMNPRTX"), 2))
    text = f"{letters} {rng.integers(100, 1000)}-{rng.integers(10, 100)}"
    unit = rng.uniform(3.7, 4.8)  # fine ink cells a grid step
    ink = Image.new("L", (round((6 * len(text) + 2) * unit), round(9 * unit)))
    for place, letter in enumerate(text):
        for stroke in GLYPHS[letter].split():
            corners = [
                ((6 * place + 1.5 + int(x)) * unit, (1.5 + int(y)) * unit)
                for x, y in zip(stroke[::2], stroke[1::2], strict=True)
            ]
            ImageDraw.Draw(ink).line(corners, fill=255, width=4, joint="curve")
    return ink.reduce(INK)


def matrix_code(rng: np.random.Generator) -> Image.Image:
    """Ink of a dot-peened data matrix; a regular grid of dots where a pit cluster has none."""
    cells, pitch = 9, 4
    ink = Image.new("L", (cells * pitch, cells * pitch))
    pen = ImageDraw.Draw(ink)
    for row in range(cells):
        for column in range(cells):
            if column == 0 or row == cells - 1 or rng.random() < 0.5:
                pen.rectangle((column * pitch, row * pitch, column * pitch + 2, row * pitch + 2), fill=220)
    return ink


def grooves(rng: np.random.Generator) -> Image.Image:
    """Ink of evenly spaced milled grooves; the look-alike of a scratch, but straight, dark and ruled."""
    count, pitch, length = int(rng.integers(3, 6)), int(rng.integers(8, 12)), int(rng.integers(90, 150))
    ink = Image.new("L", (length, count * pitch))
    for line in range(count):
        ImageDraw.Draw(ink).line((3, line * pitch + 4, length - 4, line * pitch + 4), fill=235, width=2)
    return ink


def paper(rng: np.random.Generator) -> Image.Image:
    """Ink of a blank label."""
    return Image.new("L", (int(rng.integers(60, 88)), int(rng.integers(36, 50))), 255)


def stick_label(canvas: Floats, blank: Image.Image, part: Part, at: Point, rng: np.random.Generator) -> Bools:
    """A paper label with a printed bar code; the look-alike of a stain, but square and light."""
    tone = ((0.90, 0.90, 0.87), (0.93, 0.80, 0.28), (0.88, 0.89, 0.91))[rng.integers(3)]
    covered = stamp(canvas, blank, part, at, lambda c: [(0.35 * np.roll(c, 3, 0), (0, 0, 0)), (0.96 * c, tone)])
    code = Image.new("L", blank.size)
    pen = ImageDraw.Draw(code)
    for x in range(7, code.width - 8, 3):
        pen.rectangle((x, 6, x + int(rng.integers(0, 3)), code.height * 0.6), fill=255)
    pen.rectangle((7, code.height * 0.74, code.width * rng.uniform(0.5, 0.85), code.height * 0.84), fill=200)
    stamp(canvas, code, part, at, lambda c: [(0.9 * c, (0.12, 0.12, 0.13))])
    return covered


INKS = (part_number, part_number, matrix_code, grooves, paper)


def free_spot(part: Part, clutter: Bools, reach: float, rng: np.random.Generator) -> Point | None:
    """A point of the part's frame with `reach` px of free face around it, or None if 20 throws miss."""
    for _ in range(20):
        u, v = rng.uniform(-70, 70, 2)
        x, y = part.place(u, v)
        column, row, half = int(x * SCALE), int(y * SCALE), int(reach * SCALE)
        if min(column, row) < half or max(column, row) >= G - half or part.sdf[row, column] > -reach:
            continue
        if not clutter[row - half : row + half, column - half : column + half].any():
            return float(u), float(v)
    return None


def scatter_clutter(canvas: Floats, part: Part, light: Point, rng: np.random.Generator) -> tuple[Floats, Bools]:
    """Holes where the part wants them, and up to two of text, code, grooves and label where there is room."""
    clutter = np.zeros((G, G), dtype=bool)
    if rng.random() < 0.8:
        canvas, off_hole = drill_holes(canvas, [part.place(*bolt) for bolt in part.bolts], rng.uniform(3, 5.5), light)
        part.sdf = np.maximum(part.sdf, -off_hole)  # nothing is painted over a hole
        clutter = off_hole < 3
    for _ in range(rng.integers(1, 3)):
        draw_ink = INKS[rng.integers(len(INKS))]
        ink = draw_ink(rng)
        spot = free_spot(part, clutter, max(0.45 * ink.width / SCALE, 15), rng)
        if spot is None:
            continue
        if draw_ink is paper:
            clutter |= stick_label(canvas, ink, part, spot, rng)
        else:
            clutter |= stamp(canvas, ink, part, spot, engraved)
    return canvas, clutter


def draw_scene(rng: np.random.Generator) -> Scene:
    """Belt, part, clutter and light of one picture."""
    angle = rng.uniform(0, 2 * math.pi)
    light = (math.cos(angle), math.sin(angle))
    material = MATERIALS[rng.integers(len(MATERIALS))]
    part = pose_part(rng)
    canvas = lay_part(draw_belt(rng), part, material, light, rng)
    canvas, clutter = scatter_clutter(canvas, part, light, rng)
    return Scene(shine(canvas, light, rng), part, clutter, light, material.blue)


# ---- defects: each returns layers over its patch of (h, w) canvas cells -------------------------


def strokes(patch: Patch, lines: Sequence[Stroke]) -> Floats:
    """(h, w) coverage of poly-lines."""
    fine = SCALE * INK
    sheet = Image.new("L", (patch.wide * fine, patch.high * fine))
    for points, width, cover in lines:
        dots = [(float(x) * fine, float(y) * fine) for x, y in points]
        ImageDraw.Draw(sheet).line(dots, fill=cover, width=max(1, round(width * fine)), joint="curve")
    return np.asarray(sheet.reduce(INK), dtype=np.float32) / 255


def fill_patch(patch: Patch, paths: Sequence[Floats]) -> list[Floats]:
    """Paths (n, 2) moved and scaled together, so that they fill the patch and leave room for width and shadow."""
    corners = np.concatenate(paths)
    low, high = corners.min(axis=0), corners.max(axis=0)
    border = 2.5  # px
    scale = (np.array([patch.wide, patch.high]) - 2 * border) / (high - low)
    return [border + (path - low) * scale for path in paths]


def shifted(cover: Floats, right: int, down: int) -> Floats:
    """Coverage moved by whole canvas cells; the window's border is empty, so nothing comes round."""
    return np.roll(cover, (down, right), (0, 1))


def scratch(patch: Patch, rng: np.random.Generator) -> list[Layer]:
    """A bundle of bright, thin, slightly bent streaks from corner to corner, each tapering off at its ends."""
    length, flip = math.hypot(patch.wide, patch.high), rng.random() < 0.5
    across = np.array([-patch.high, patch.wide]) / length
    bend, fan, spread = rng.uniform(-0.09, 0.09) * length, rng.uniform(-0.4, 0.4), rng.uniform(0.06, 0.1) * length
    paths: list[Floats] = []
    for lane in np.linspace(-1, 1, min(int(rng.integers(3, 6)), round(spread) + 1)) + rng.uniform(-0.25, 0.25):
        middle, reach = rng.uniform(0.42, 0.58), rng.uniform(0.2, 0.42)
        t = np.linspace(max(middle - reach, 0.07), min(middle + reach, 0.93), 15)[:, None]
        path = t * [patch.wide, patch.high]
        path += across * (lane * spread * (1 + fan * (2 * t - 1)) + bend * (4 * t - 4 * t * t - 0.6))
        paths.append(path * [-1 if flip else 1, 1])
    taper = np.sqrt(np.sin(np.linspace(0.12, math.pi - 0.12, 14)))
    lines: list[Stroke] = []
    for path in fill_patch(patch, paths):
        width = rng.uniform(1.0, 1.9)
        lines += [(path[k : k + 2], width * taper[k], int(255 * taper[k])) for k in range(14)]
    ink = strokes(patch, lines)
    return [(0.5 * shifted(ink, 1, 2), (0.08, 0.08, 0.09)), (ink, (0.99, 1.0, 1.0))]


def pit(patch: Patch, rng: np.random.Generator) -> list[Layer]:
    """A cluster of round dark pores, each with a light rim on the wall that faces the lamp."""
    y, x = np.mgrid[: patch.sdf.shape[0], : patch.sdf.shape[1]].astype(np.float32) / SCALE
    core, rim = np.zeros_like(patch.sdf), np.zeros_like(patch.sdf)
    size, count = math.sqrt(patch.wide * patch.high), int(rng.integers(3, 6))
    for angle in rng.uniform(0, 2 * math.pi) + (np.arange(count) + rng.uniform(-0.2, 0.2)) * 2 * math.pi / count:
        reach, radius = rng.uniform(0.25, 0.32), rng.uniform(0.09, 0.17) * size
        cx, cy = patch.wide * (0.5 + reach * math.cos(angle)), patch.high * (0.5 + reach * math.sin(angle))
        core = np.maximum(core, smooth(radius + 0.4, radius - 0.4, np.hypot(x - cx, y - cy)))
        lip = np.hypot(x - cx + patch.light[0] * 1.1, y - cy + patch.light[1] * 1.1)
        rim = np.maximum(rim, smooth(radius + 1.2, radius + 0.2, lip))
    return [(0.7 * rim, (0.95, 0.94, 0.90)), (0.96 * core, (0.05, 0.04, 0.04))]


def stain(patch: Patch, rng: np.random.Generator) -> list[Layer]:
    """A translucent dried drop with a darker rim: brown oil or blue coolant, whichever shows."""
    y, x = np.mgrid[: patch.sdf.shape[0], : patch.sdf.shape[1]].astype(np.float32)
    dx, dy = x / x.shape[1] - 0.5, y / y.shape[0] - 0.5
    angle, edge = np.arctan2(dy, dx), np.full_like(x, 0.40)
    for wave in (2, 3, 4, 5):
        edge += rng.uniform(-0.09, 0.09) / wave * np.cos(wave * angle + rng.uniform(0, 2 * math.pi))
    ratio = np.hypot(dx, dy) / edge
    mottle = stretch(rng.standard_normal((7, 7), dtype=np.float32), x.shape[1], x.shape[0])
    tide = 0.05 * ratio * np.cos(ratio * rng.uniform(9, 16))  # the rings a drop leaves while it dries
    cover = np.clip(0.54 + 0.06 * mottle + tide + 0.22 * smooth(0.74, 0.95, ratio), 0, 0.9)
    colour = (0.13, 0.19, 0.46) if rng.random() < patch.blue else (0.36, 0.18, 0.05)
    return [(cover * smooth(1.0, 0.90, ratio), colour)]


def chip(patch: Patch, rng: np.random.Generator) -> list[Layer]:
    """A piece broken out of an edge: bright flat facets that meet in one point, a dark line round them."""
    count, fine = int(rng.integers(6, 9)), SCALE * INK
    angles = rng.uniform(0, 1) + (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * math.pi / count
    reach = rng.uniform(0.32, 0.48, count)
    size = np.array([patch.wide, patch.high])
    ring = size * (0.5 + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1))  # (count, 2) px
    hub = size * rng.uniform(0.38, 0.62, 2)
    layers: list[Layer] = []
    for tone, a, b in zip(rng.permutation(np.linspace(0.62, 1, count)), ring, np.roll(ring, -1, 0), strict=True):
        sheet = Image.new("L", (patch.wide * fine, patch.high * fine))
        ImageDraw.Draw(sheet).polygon([(float(x) * fine, float(y) * fine) for x, y in (a, b, hub)], fill=255)
        layers.append((np.asarray(sheet.reduce(INK), dtype=np.float32) / 255, (tone, tone * 0.98, tone * 0.90)))
    layers.append((strokes(patch, [([*ring, ring[0], ring[1]], 0.9, 205)]), (0.12, 0.11, 0.10)))
    return layers


def jagged(start: Point, end: Point, sway: float, rng: np.random.Generator) -> Floats:
    """(n, 2) a broken line between two points, one corner every 4 px or so, swaying up to `sway` px aside."""
    start_, end_ = np.array(start), np.array(end)
    length = max(float(np.hypot(*(end_ - start_))), 1.0)
    count = max(int(length / 4), 3)
    across = np.array([start_[1] - end_[1], end_[0] - start_[0]]) / length
    drift = np.cumsum(rng.uniform(-1, 1, count))
    drift -= np.linspace(drift[0], drift[-1], count)  # both ends stay where they are
    offset = sway * drift / max(float(np.abs(drift).max()), 1.0) + rng.uniform(-1.2, 1.2, count)
    return start_ + np.linspace(0, 1, count)[:, None] * (end_ - start_) + offset[:, None] * across


def crack(patch: Patch, rng: np.random.Generator) -> list[Layer]:
    """A dark jagged line that forks, one light lip and a trace of rust along it."""
    size, flip = np.array([patch.wide, patch.high]), rng.random() < 0.5
    start, end = size * rng.uniform(0.04, 0.12, 2), size * rng.uniform(0.88, 0.96, 2)
    trunk = jagged(start, end, 0.12 * size.min(), rng)
    middle = len(trunk) // 2
    paths, widths = [trunk[: middle + 1], trunk[middle:]], [2.8, 2.1]
    for fork in range(rng.integers(3, 6)):
        root = trunk[int(len(trunk) * rng.uniform(0.15, 0.75))]
        corner = size * ((0.9, 0.12) if fork % 2 else (0.12, 0.9))  # the two corners that the trunk leaves free
        tip = root + rng.uniform(0.4, 0.8) * (corner - root) + 0.15 * (end - start)
        paths.append(jagged(root, tip, 3.0, rng))
        widths.append(rng.uniform(1.4, 1.9))
    mirrored = [path * [-1 if flip else 1, 1] for path in paths]
    ink = strokes(patch, [(path, w, 255) for path, w in zip(fill_patch(patch, mirrored), widths, strict=True)])
    blur = Image.fromarray((ink * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2.2 * SCALE))
    rust = np.minimum(1.6 * np.asarray(blur, dtype=np.float32) / 255, 0.5)
    return [(rust, (0.45, 0.17, 0.06)), (0.6 * shifted(ink, 2, 2), (0.95, 0.92, 0.88)), (ink, (0.03, 0.02, 0.02))]


PAINTERS = {"scratch": scratch, "pit": pit, "stain": stain, "chip": chip, "crack": crack}
FREE_FACE = {"scratch": 0.98, "pit": 1.0, "stain": 0.9, "chip": 0.4, "crack": 0.86}  # least share of part in the window
COVERED = {"scratch": 0.03, "pit": 0.0, "stain": 0.15, "chip": 0.02, "crack": 0.12}  # largest share of clutter


# ---- where defects go, and their boxes ----------------------------------------------------------


def throw_window(kind: str, scene: Scene, rng: np.random.Generator) -> Box:
    """A window of a size that suits the kind, anywhere in the picture; a chip's sits on an edge of the part."""
    low, high = SIDES[kind]
    long = rng.uniform(low, high) * 1.08  # the mark leaves some of its window empty
    short = max(long * rng.uniform(0.5 if kind in ("scratch", "crack") else 0.7, 1), 10)
    w, h = (round(long), round(short)) if rng.random() < 0.5 else (round(short), round(long))
    if kind != "chip":
        x, y = rng.integers(MARGIN, SIDE - MARGIN - np.array([w, h]))
        return int(x), int(y), w, h
    edge = np.flatnonzero(np.abs(scene.part.sdf + 0.15 * short) < 0.5)
    row, column = divmod(int(rng.choice(edge)), G)
    return column // SCALE - w // 2, row // SCALE - h // 2, w, h


def fits(kind: str, box: Box, scene: Scene, taken: Bools) -> bool:
    """Whether a window lies in the picture, on enough of the part, off clutter and off the marks before it."""
    x, y, w, h = box
    if min(x, y) < MARGIN or x + w > SIDE - MARGIN or y + h > SIDE - MARGIN or taken[y : y + h, x : x + w].any():
        return False
    cells = np.s_[y * SCALE : (y + h) * SCALE, x * SCALE : (x + w) * SCALE]
    return bool((scene.part.sdf[cells] < -1).mean() >= FREE_FACE[kind] and scene.clutter[cells].mean() <= COVERED[kind])


def halve(canvas: Floats) -> Floats:
    """A canvas averaged down to picture pixels."""
    return sum(canvas[row::SCALE, column::SCALE] for row in range(SCALE) for column in range(SCALE)) / SCALE**2


def paint_mark(kind: str, at: Box, scene: Scene, rng: np.random.Generator) -> Box | None:
    """Paint one defect into the scene and return the box of the pixels it visibly changed.

    Returns:
        None, and leaves the scene as it was, if what can be seen is outside the kind's sizes or too thin.
    """
    x, y, w, h = at
    cells = np.s_[y * SCALE : (y + h) * SCALE, x * SCALE : (x + w) * SCALE]
    patch = Patch(w, h, scene.part.sdf[cells], scene.light, scene.blue)
    on_part = smooth(0.5, -0.5, patch.sdf)
    painted = blend(scene.canvas[cells], [(cover * on_part, tone) for cover, tone in PAINTERS[kind](patch, rng)])
    seen = np.abs(halve(painted) - halve(scene.canvas[cells])).max(axis=-1) > VISIBLE
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return None
    box = (x + int(columns[0]), y + int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
    low, high = SIDES[kind]
    if not low <= max(box[2:]) <= high or max(box[2:]) > MAX_ASPECT * min(box[2:]):
        return None
    scene.canvas[cells] = painted
    return box


def add_marks(scene: Scene, kinds: Sequence[str], rng: np.random.Generator) -> list[tuple[str, Box]]:
    """Paint defects into the scene, the roomy ones first; returns each one's kind and box.

    Raises:
        RuntimeError: the part has no room left for one of them.
    """
    taken, marks = np.zeros((SIDE, SIDE), dtype=bool), []
    for kind in sorted(kinds, key=lambda kind: -LOAD[kind]):
        for _ in range(3000):
            at = throw_window(kind, scene, rng)
            box = paint_mark(kind, at, scene, rng) if fits(kind, at, scene, taken) else None
            if box is not None:
                break
        else:
            raise RuntimeError(f"no room for a {kind} among {', '.join(kinds)}: lower MAX_LOAD or change SPLIT_SEED")
        x, y, w, h = at
        taken[max(y - MARGIN, 0) : y + h + MARGIN, max(x - MARGIN, 0) : x + w + MARGIN] = True
        marks.append((kind, box))
    return marks


# ---- pictures, splits and COCO ------------------------------------------------------------------


def draw_picture(split: str, index: int, kinds: Sequence[str]) -> tuple[npt.NDArray[np.uint8], list[tuple[str, Box]]]:
    """One finished picture and its marks.

    Args:
        split: "train" or "val".
        index: the picture's place in its split, from 0.
        kinds: the defects to draw; none gives the same picture, pixel by pixel, without its defects.

    Returns:
        (192, 192, 3) RGB, and the kind and box of each defect.
    """
    scene_rng, mark_rng, sensor_rng = (np.random.default_rng((SPLIT_SEED[split], index, layer)) for layer in range(3))
    scene = draw_scene(scene_rng)
    marks = add_marks(scene, kinds, mark_rng)
    noise = sensor_rng.standard_normal((SIDE, SIDE, 1), dtype=np.float32)
    noise = 0.011 * noise + 0.004 * sensor_rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32)
    return np.round(np.clip(halve(scene.canvas) + noise, 0, 1) * 255).astype(np.uint8), marks


def encode(picture: npt.NDArray[np.uint8]) -> bytes:
    """The picture as a JPEG file, colour at full resolution."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return file.getvalue()


def plan_split(split: str) -> list[list[str]]:
    """The kinds of defect on each picture of a split: COUNTS in all, SPOTLESS pictures without any."""
    rng = np.random.default_rng(SPLIT_SEED[split])
    plan: list[list[str]] = [[] for _ in range(PICTURES[split])]
    marked = rng.permutation(PICTURES[split])[SPOTLESS[split] :]
    for kind, count in reversed(list(zip(KINDS, COUNTS[split], strict=True))):
        for _ in range(count):
            load = np.array([sum(LOAD[k] for k in plan[i]) for i in marked])
            empty = marked[load == 0]
            room = marked[load + LOAD[kind] <= MAX_LOAD]
            plan[rng.choice(empty if len(empty) and kind != "pit" else room)].append(kind)
    return plan


def coco_head(split: str) -> dict[str, object]:
    """The parts of a COCO file that do not depend on the pictures."""
    return {
        "info": {"description": f"focal sample data, {split}: drawn parts with defects", "version": "1", "year": 2026},
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "categories": [{"id": i, "name": kind, "supercategory": "defect"} for i, kind in enumerate(KINDS, 1)],
    }


def draw_split(split: str, out_dir: Path) -> None:
    """Write images/<split>/*.jpg and annotations/<split>.json below out_dir."""
    folder = out_dir / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index, kinds in enumerate(plan_split(split)):
        picture, marks = draw_picture(split, index, kinds)
        name = f"{split}_{index + 1:03d}.jpg"
        (folder / name).write_bytes(encode(picture))
        images.append({"id": index + 1, "file_name": name, "width": SIDE, "height": SIDE, "license": 1})
        for kind, box in marks:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": KINDS.index(kind) + 1,
                    "bbox": list(box),
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    file = out_dir / "annotations" / f"{split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**coco_head(split), "images": images, "annotations": annotations}, separators=(",", ":"))
    file.write_text(text + "\n", encoding="utf-8")


def main(out_dir: Path) -> None:
    """Draw both splits below out_dir."""
    for split in SPLIT_SEED:
        draw_split(split, out_dir)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
