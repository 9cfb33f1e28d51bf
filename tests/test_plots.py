"""The plots of an evaluation as PNG files: whole, readable, in colours that colour-blind readers can tell apart."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from command import focal, mistake, one_json
from matplotlib.colors import to_rgb
from PIL import Image
from tiny_detections import dataset_of, detections_of, ground_truth, perfect, write

from focalcli import evaluation
from focalcli.render import plots
from focalcli.render.html import drawing
from focalcli.render.html.evaluation_plots import MOST_CONFUSED, confused_most, evaluation_plots, weakest_first

PLACES = [[60 * column, 60 * row, 40, 40] for row in range(7) for column in range(10)]
NAMES = {"precision-recall.png", "errors.png", "reliability.png", "frequency.png", "confusion.png"}


def scored(tmp_path, names=("cell", "$\\frac{1}{2}$", "口罩")):
    """Classes of 30 and fewer objects, one of them taken for another now and then."""
    boxes = [(0 if n < 30 else 1 if n < 50 else 2, place) for n, place in enumerate(PLACES[:60])]
    rows = [(label if n % 5 else (label + 1) % 3, place, 0.3 + n / 100) for n, (label, place) in enumerate(boxes)]
    rows += [(0, place, 0.4) for place in PLACES[60:]]
    dataset, found = dataset_of(tmp_path, boxes, names=names), detections_of(rows)
    counts = {name: 10 ** (n + 1) for n, name in enumerate(names)}
    table = evaluation.evaluate(dataset, found, n_train=counts, images_train=counts, rounds=20)
    return table, evaluation.diagnose(dataset, found)


def test_every_plot_is_a_picture_of_its_own_on_white(tmp_path):
    assert set(plots.save_plots(*scored(tmp_path), tmp_path / "a/b")) == NAMES
    assert {path.name for path in (tmp_path / "a/b").iterdir()} == NAMES
    for path in (tmp_path / "a/b").iterdir():
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
            assert picture.width > 1000 and (pixels[0, 0] == 255).all() and pixels.min() < 120


def test_no_stand_in_colour_is_left(tmp_path):
    """The page's colours are near black until the page replaces them: in a PNG they would all look alike."""
    table, diagnosis = scored(tmp_path)
    stand_ins = {to_rgb(colour) for colour in vars(drawing)["_VARIABLES"]}
    with drawing.styled():
        for plot in evaluation_plots(table, diagnosis).values():
            plots.png(plot.figure)
            for artist in plot.figure.findobj():
                for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
                    value = getattr(artist, f"get_{name}", lambda: None)()
                    rows = np.atleast_2d(value) if isinstance(value, (tuple, np.ndarray)) else [value]
                    assert not any(tuple(row[:3]) in stand_ins for row in rows if len(np.atleast_1d(row)) >= 3)
                    assert not isinstance(value, str) or value not in vars(drawing)["_VARIABLES"]


def luminance_after_deuteranopia(colour: str) -> np.ndarray:
    """Machado et al. 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency", severity 1."""
    matrix = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    linear = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)])
    return np.array(matrix) @ linear


def test_over_and_underconfident_differ_for_the_colour_blind():
    """Orange and blue; red and green would fall together (about 0.1 apart)."""
    colours = vars(plots)["_COLOURS"]
    orange, blue = (luminance_after_deuteranopia(colours[name]) for name in (drawing.ORANGE, drawing.BLUE))
    assert np.abs(orange - blue).max() > 0.25


def test_curves_start_with_the_weakest_and_mark_the_operating_point(tmp_path):
    table, diagnosis = scored(tmp_path)
    weakest = weakest_first(table.classes)[0]
    with drawing.styled():
        figure = evaluation_plots(table, diagnosis)["precision-recall"].figure
        lines = figure.axes[0].get_lines()
    curve = next(one for one in diagnosis.curves if one.name == weakest.name)
    assert np.allclose(lines[0].get_ydata(), curve.precision)
    assert (lines[1].get_xdata()[0], lines[1].get_ydata()[0]) == (weakest.recall, weakest.precision)


def test_of_many_classes_those_that_are_mixed_up_are_shown():
    n = 100
    matrix = np.diag(np.full(n + 1, 5))
    matrix[70, 3] = 9
    matrix[41, 70] = 2
    names = (*(f"c{k}" for k in range(n)), "background")
    chosen = confused_most(evaluation.Confusion(names, tuple(map(tuple, matrix.tolist())), (0.5,) * n))
    assert len(chosen) == MOST_CONFUSED and {3, 41, 70} <= set(chosen) and chosen == sorted(chosen)


def test_users_settings_of_matplotlib_stay(tmp_path):
    before = dict(matplotlib.rcParams)
    plots.save_plots(*scored(tmp_path), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_classes_that_nothing_finds_have_plots_too(tmp_path):
    """No detection at all, and a training count that is unknown: what cannot be drawn is left out."""
    dataset = dataset_of(tmp_path, [(0, PLACES[0])])
    found = detections_of([])
    made = plots.save_plots(evaluation.evaluate(dataset, found), evaluation.diagnose(dataset, found), tmp_path / "p")
    assert set(made) == {"precision-recall.png", "errors.png", "confusion.png"}


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """Detections and the truth that they are, ten cells."""
    content = ground_truth([{"bbox": place} for place in PLACES[:10]])
    return write(tmp_path / "dt.json", perfect(content)), write(tmp_path / "gt.json", content)


def test_eval_writes_plots_and_says_where(files, tmp_path):
    """Issue 5, point 6."""
    result = focal("eval", *files, "--rounds", 0, "--plots", tmp_path / "p", "--format", "json")
    assert one_json(result.stdout) and f"saved in {tmp_path / 'p'}: precision-recall.png" in result.stderr
    assert (tmp_path / "p/errors.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_plots_where_nothing_can_be_written_are_a_mistake(files, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    mistake("eval", *files, "--plots", tmp_path / place, says="is not a folder", hint="--plots DIR")
    assert (tmp_path / "file").read_text() == "mine"
