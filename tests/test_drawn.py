"""Drawn pictures: what was found can be read, whatever the picture, and no object is hidden by its own line."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from focalcli.render import drawn
from focalcli.render.drawn import COLOURS, Mark, class_colour, draw_boxes

GREY = (128, 128, 128)
# Vienot, Brettel and Mollon 1999, "Digital video colourmaps for checking the legibility of displays by dichromats":
# linear RGB as a protanope and a deuteranope see it
PROTANOPE = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTERANOPE = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


def linear(colour) -> np.ndarray:
    """Linear light of sRGB, IEC 61966-2-1."""
    value = np.array(colour) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* under D65 of linear RGB."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(matrix @ light.clip(0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", [np.eye(3), PROTANOPE, DEUTERANOPE], ids=["all cones", "protanope", "deuteranope"])
def test_the_colours_of_seven_classes_differ_for_every_eye(eye):
    """A difference of 2.3 in L*a*b* is just seen (Mahy et al. 1994); thin lines want several times that."""
    seen = [lab(eye @ linear(colour)) for colour in COLOURS]
    assert len(set(COLOURS)) == 7
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 4 * 2.3


def test_a_class_has_the_same_colour_everywhere():
    """By its index alone, so that a page of pictures can be read; they come round again."""
    assert [class_colour(label) for label in range(9)] == [*COLOURS, *COLOURS[:2]]


@pytest.mark.parametrize("colour", [*COLOURS, (0, 0, 0), (255, 255, 255), GREY])
def test_a_label_is_read_on_its_colour(colour):
    """WCAG 2.2, 1.4.3: a contrast of 4.5 to 1 between text and ground."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    ground, ink = (float(weights @ linear(each)) + 0.05 for each in (colour, drawn._ink_on(colour)))
    assert max(ground, ink) / min(ground, ink) >= 4.5


def test_the_object_is_not_covered_by_its_line():
    """Lines lie outside the box, up to the picture's edge: what is inside stays as it was."""
    picture = Image.new("RGB", (640, 480), GREY)
    pixels = np.array(draw_boxes(picture, [Mark((100, 50, 300, 200), "", COLOURS[0])]))
    assert (pixels[51:199, 101:299] == GREY).all()
    assert (pixels[48, 100:300] == COLOURS[0]).all()
    assert (pixels[100, 98] == COLOURS[0]).all()
    assert (pixels[60:, 330:] == GREY).all()
    assert np.array(picture).max() == 128, "the picture that was given is not drawn on"


def test_truth_and_detections_are_told_apart_by_their_lines():
    """A broken line has gaps in the rim's colour."""
    picture = Image.new("RGB", (640, 480), GREY)
    box = (100, 50, 300, 200)
    whole, broken = (np.array(draw_boxes(picture, [Mark(box, "", COLOURS[0], dashed)])) for dashed in (False, True))
    line = broken[48, 100:300]
    coloured = (line == COLOURS[0]).all(axis=1)
    assert (whole[48, 100:300] == COLOURS[0]).all()
    assert 0.5 < coloured.mean() < 0.9
    assert (line[~coloured] == 0).all()


def test_the_most_important_mark_lies_on_top():
    """Callers give the surest first."""
    picture, box = Image.new("RGB", (640, 480), GREY), (100, 50, 300, 200)
    pixels = np.array(draw_boxes(picture, [Mark(box, "", COLOURS[0]), Mark(box, "", COLOURS[1])]))
    assert (pixels[48, 200] == COLOURS[0]).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 48), (512, 384)), ((16, 3), (256, 48)), ((480, 20), (480, 20)), ((4000, 9), (4000, 9))]
)
def test_small_pictures_are_enlarged_by_a_whole_number(size, expected):
    """Or a label would hide the picture; boxes grow with it."""
    assert draw_boxes(Image.new("L", size), [Mark((0, 0, *size), "cat 0.50", COLOURS[2])]).size == expected
    assert draw_boxes(Image.new("L", size), [], least_side_px=0).size == size


FINITE = st.floats(-1e4, 1e4)


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    corners=st.lists(st.tuples(FINITE, FINITE, FINITE, FINITE), max_size=4),
    text=st.text(max_size=30),
    dashed=st.booleans(),
)
def test_any_box_and_name_is_drawn(size, corners, text, dashed):
    """Boxes without area, turned round or outside, names with line breaks, lone surrogates, letters of any script."""
    marks = [Mark(box, text, class_colour(number), dashed) for number, box in enumerate(corners)]
    assert draw_boxes(Image.new("RGB", size), marks, least_side_px=0).size == size


@given(
    box=st.tuples(*[st.integers(0, 639)] * 4),
    wh=st.tuples(st.integers(40, 640), st.integers(40, 480)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    taken=st.lists(st.tuples(*[st.integers(0, 639)] * 4), max_size=3),
)
def test_labels_stay_inside_the_picture(box, wh, size, taken):
    """Also those of boxes at its edges."""
    x1, y1, x2, y2 = drawn._free_place(box, size, wh, taken)
    assert 0 <= x1 <= x2 < wh[0]
    assert 0 <= y1 <= y2 < wh[1]
    assert (x2 - x1 + 1, y2 - y1 + 1) == size


def test_labels_make_room_for_one_another():
    """Two objects at one place: both names can be read."""
    taken = []
    for _ in range(4):
        place = drawn._free_place((100, 100, 200, 200), (60, 15), (640, 480), taken)
        assert not any(drawn._overlap(place, other) for other in taken)
        taken.append(place)


def test_a_long_name_keeps_its_start_and_its_score():
    """In a narrow picture the middle is left out."""
    text, font = drawn._fitted("mask_weared_incorrect 0.93", 12, 90)
    assert text.startswith("mask") and text.endswith("0.93") and "…" in text
    assert drawn._label_size(text, font)[0] <= 90


def test_letters_without_a_glyph_become_escapes(monkeypatch):
    """An empty box says nothing; an escape can be looked up."""
    monkeypatch.setattr(drawn, "MORE_FONTS", ())
    assert drawn._shown("Größe Ωж 0.5", 12)[0] == "Größe Ωж 0.5"
    assert drawn._shown("猫 0.5", 12)[0] == "\\u732b 0.5"
