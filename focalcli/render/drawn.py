"""Boxes, names and scores drawn on a picture, for people to look at.

    from focalcli.render.drawn import Mark, class_colour, draw_boxes
    drawn = draw_boxes(picture, [Mark((10, 20, 90, 60), "cat 0.87", class_colour(0))])

Lines lie outside the box, so that no object is covered by its own line; every line and label has a dark or light rim,
so that it is seen on any ground. Boxes are xyxy in pixels of the picture that is given.

Source of the colours: Okabe and Ito 2008, "Color Universal Design"; their black is left out, it is the rim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]

COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178),
)  # fmt: skip
DARK, LIGHT = (0, 0, 0), (255, 255, 255)
LEAST_SIDE_PX = 480  # of the longer side: smaller pictures are enlarged, or their labels would hide them
MOST_ENLARGED = 16
SIDE_PER_TEXT, LEAST_TEXT_PX = 50, 12  # the text of a 4000 px picture is seen when it is shrunk to a screen
# what has the letters that DejaVu lacks, where a system has it
MORE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSerifCJK-Bold.ttc", "msyh.ttc", "PingFang.ttc", "arialuni.ttf")


@dataclass(frozen=True)
class Mark:
    """One box to draw.

    Attributes:
        box: xyxy in pixels of the picture; what lies outside it is cut off.
        text: stands at the box, "" for none. colour: of line and label.
        dashed: a broken line, to tell truth from detections.
    """

    box: tuple[float, float, float, float]
    text: str
    colour: Colour
    dashed: bool = False


def class_colour(label: int) -> Colour:
    """The colour of a class by its index: the same in every picture. Past the seventh class they come again."""
    return COLOURS[label % len(COLOURS)]


def draw_boxes(picture: Image.Image, marks: Sequence[Mark], least_side_px: int = LEAST_SIDE_PX) -> Image.Image:
    """A copy of the picture with the marks on it, as RGB; the first mark is the most important one and lies on top.

    Args:
        least_side_px: a picture whose longer side is shorter is enlarged by a whole number; 0 keeps the size.
    """
    factor = min(MOST_ENLARGED, max(1, -(-least_side_px // max(picture.size))))
    drawn = picture.convert("RGB")
    if factor > 1:
        drawn = drawn.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    elif drawn is picture:
        drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    text_px = max(LEAST_TEXT_PX, round(max(drawn.size) / SIDE_PER_TEXT))
    boxes = [_inside(mark, factor, drawn.size) for mark in marks]
    for mark, box in reversed(list(zip(marks, boxes, strict=True))):
        _draw_line(pen, box, mark, max(2, text_px // 6))
    taken: list[Rectangle] = []
    labels = []
    for mark, box in zip(marks, boxes, strict=True):
        if mark.text:
            text, font = _fitted(mark.text, text_px, drawn.width)
            place = _free_place(box, _label_size(text, font), drawn.size, taken)
            taken.append(place)
            labels.append((mark, place, text, font))
    for mark, place, text, font in reversed(labels):
        ink = _ink_on(mark.colour)
        pen.rectangle(place, fill=mark.colour, outline=ink)
        left, top, _, _ = font.getbbox(text)
        pad = _pad(font)
        pen.text((place[0] + pad - left, place[1] + pad - top), text, fill=ink, font=font)
    return drawn


def _inside(mark: Mark, factor: int, wh: tuple[int, int]) -> Rectangle:
    """The box in whole pixels of the enlarged picture, cut off at its edges."""
    x1, y1, x2, y2 = (round(value * factor) for value in mark.box)
    x1, y1 = min(max(x1, 0), wh[0] - 1), min(max(y1, 0), wh[1] - 1)
    return x1, y1, min(max(x2 - 1, x1), wh[0] - 1), min(max(y2 - 1, y1), wh[1] - 1)


def _draw_line(pen: ImageDraw.ImageDraw, box: Rectangle, mark: Mark, width: int) -> None:
    """A rim of 1 px, the line, and a rim again; around the box as far as the picture goes, else within it."""
    x1, y1, x2, y2 = box
    width = min(width, max(1, min(x2 - x1, y2 - y1) // 4))
    image = pen.im.size
    outer = (max(0, x1 - width), max(0, y1 - width), min(image[0] - 1, x2 + width), min(image[1] - 1, y2 + width))
    rim = _ink_on(mark.colour)
    pen.rectangle(_grown(outer, 1), outline=rim)
    pen.rectangle(_grown(outer, -width), outline=rim)
    pen.rectangle(outer, outline=mark.colour, width=width)
    if mark.dashed:
        _break_up(pen, outer, width, rim)


def _break_up(pen: ImageDraw.ImageDraw, outer: Rectangle, width: int, rim: Colour) -> None:
    """Fill gaps of a rectangle's line with the rim's colour: dashes of 4 widths, gaps of 2."""
    x1, y1, x2, y2 = outer
    dash, gap = 4 * width, 2 * width
    for x in range(x1 + dash, x2 - width, dash + gap):
        end = min(x + gap, x2 - width)
        pen.rectangle((x, y1, end, y1 + width - 1), fill=rim)
        pen.rectangle((x, y2 - width + 1, end, y2), fill=rim)
    for y in range(y1 + dash, y2 - width, dash + gap):
        end = min(y + gap, y2 - width)
        pen.rectangle((x1, y, x1 + width - 1, end), fill=rim)
        pen.rectangle((x2 - width + 1, y, x2, end), fill=rim)


def _grown(box: Rectangle, by: int) -> Rectangle:
    """`box` larger on all sides, or smaller; never turned inside out."""
    x1, y1, x2, y2 = box[0] - by, box[1] - by, box[2] + by, box[3] + by
    return min(x1, box[2]), min(y1, box[3]), max(x2, x1), max(y2, y1)


# --------------------------------------------------------------------------------------------------------------- labels


def _free_place(box: Rectangle, size: tuple[int, int], wh: tuple[int, int], taken: Sequence[Rectangle]) -> Rectangle:
    """Where a label stands: above its box, else below, else inside, always in the picture and on as few others."""
    x1, y1, x2, y2 = box
    width, height = size
    corners = [
        (x1, y1 - height), (x2 - width, y1 - height), (x1, y2), (x2 - width, y2), (x1, y1), (x2 - width, y2 - height),
    ]  # fmt: skip
    places = []
    for x, y in corners:
        left, top = max(0, min(x, wh[0] - width)), max(0, min(y, wh[1] - height))
        places.append((left, top, left + width - 1, top + height - 1))
    hidden = [sum(_overlap(place, other) for other in taken) for place in places]
    away = [abs(place[1] - y) for place, (_, y) in zip(places, corners, strict=True)]  # pushed by the picture's edge
    return min(zip(hidden, away, range(len(places)), places, strict=True))[-1]


def _overlap(one: Rectangle, other: Rectangle) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    return max(0, width) * max(0, height)


def _fitted(text: str, size_px: int, width_px: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text as it can be shown in a picture so wide: its middle left out where it is too long."""
    text, font = _shown(" ".join(text.split()), size_px)
    most = len(text)
    cut = text
    while _label_size(cut, font)[0] > width_px and most > 1:
        most -= 1
        cut = (
            text[: (most + 1) // 2] + "…" + text[len(text) - most // 2 :]
        )  # names differ in front, scores stand behind
    return cut, font


def _label_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Width and height in px with the margin around it; equally high for every text."""
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("Ajg|")
    return round(right - left) + 2 * _pad(font) + 1, round(bottom - top) + 2 * _pad(font) + 1


def _pad(font: ImageFont.FreeTypeFont) -> int:
    return max(2, round(font.size / 6))


def _shown(text: str, size_px: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text and a font that has its letters; where none has them they become escapes."""
    for name in (_dejavu(), *MORE_FONTS):
        font = _font(name, size_px)
        if font is not None and not _lacking(text, font):
            return text, font
    font = _font(_dejavu(), size_px)
    assert font is not None
    lacking = _lacking(text, font)
    return "".join(c.encode("unicode_escape").decode() if c in lacking else c for c in text), font


def _lacking(text: str, font: ImageFont.FreeTypeFont) -> set[str]:
    """The characters that a font shows as its empty box."""
    box = bytes(font.getmask("\U0010ffff"))
    return {c for c in set(text) if ord(c) > 126 and bytes(font.getmask(c)) == box}


@cache
def _font(name: str, size_px: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size_px)
    except OSError:  # not on this system
        return None


@cache
def _dejavu() -> str:
    """matplotlib's own copy, which is everywhere."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is read better on the colour (WCAG 2.2, relative luminance)."""
    channels = [value / 255 for value in colour]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return DARK if (luminance + 0.05) ** 2 > 1.05 * 0.05 else LIGHT
