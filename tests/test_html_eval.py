"""The evaluation's HTML page: what it says is what was measured, it shows the pictures, and runs nothing of a user's.

The frame (one document, its policy, its thumbnails' safety) is tested with the audit's page in test_html.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import draw_dataset, focal, rewrite
from PIL import Image
from test_html import CHROMIUM, HOSTILE, Document, assert_self_contained, browser
from tiny_detections import found, write

from focalcli import coco, evaluation
from focalcli.coco import Dataset
from focalcli.detections import Detections, load_detections
from focalcli.evaluation import Evaluation, Gate
from focalcli.evaluation.worst import worst_pictures
from focalcli.render import drawn as drawing
from focalcli.render.html.evaluation import evaluation_page
from focalcli.render.html.evaluation_sheets import FALSE, LABELLED, MOST_PICTURES, RIGHT, SIDE_PX, Sheets, close_up
from focalcli.render.html.evaluation_words import find_losses
from focalcli.splits import load_split


def result_of(dataset: Dataset, detections: Detections, rounds: int = 10, **more) -> Evaluation:
    """The evaluation that `focal eval` would hand to the page."""
    counts = dict(zip(dataset.class_names, dataset.objects_per_class.tolist(), strict=True))
    images = dict(zip(dataset.class_names, dataset.images_per_class.tolist(), strict=True))
    table = evaluation.evaluate(dataset, detections, n_train=counts, images_train=images, rounds=rounds)
    diagnosis = evaluation.diagnose(dataset, detections)
    return Evaluation(table, Path("dt.json"), dataset, detections, False, diagnosis, **more)


@pytest.fixture
def drawn(tmp_path) -> Path:
    """The val split of the small drawn dataset: four pictures with two squares each, one of them a cross instead."""
    return draw_dataset(tmp_path / "data") / "annotations/val.json"


# picture 1: one square found and one missed; 2: both found, and a detection on nothing; 3: the cross is called a square
ROWS = [
    found([9, 20, 20, 20], 0.9, 1, 1),
    found([12, 20, 20, 20], 0.9, 2, 1), found([60, 20, 20, 20], 0.9, 2, 1), found([35, 0, 14, 14], 0.8, 2, 1),
    found([15, 20, 20, 20], 0.9, 3, 1), found([60, 20, 20, 20], 0.9, 3, 1),
    found([18, 20, 20, 20], 0.9, 4, 1), found([60, 20, 20, 20], 0.6, 4, 1),
]  # fmt: skip


def drawn_result(path: Path, rows=ROWS) -> Evaluation:
    dataset = load_split(path, None)
    return result_of(dataset, load_detections(write(path.parent / "dt.json", rows), dataset))


def pictures_of(page: str) -> list[Image.Image]:
    uris = [tag["src"] for tag in Document(page).all("img")]
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


def has_colour(picture: Image.Image, colour: tuple[int, int, int], least: int = 20) -> bool:
    near = np.abs(np.asarray(picture.convert("RGB")).astype(int) - colour).max(axis=2) < 50
    return int(near.sum()) >= least


# ----------------------------------------------------------------------------------------------------- what it says


def test_page_is_well_formed_and_fetches_nothing(drawn):
    """Issue 5, point 6: the house's page."""
    document = assert_self_contained(evaluation_page(drawn_result(drawn)))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in document.all("svg"))
    assert all("scope" in header for header in document.all("th"))
    assert all(image["alt"] for image in document.all("img"))


def test_weakest_class_is_named_with_its_reason(drawn):
    """The one cross is called a square, as surely as the squares are."""
    text = Document(evaluation_page(drawn_result(drawn))).text
    assert "Why cross is the weakest class" in text
    assert "0 of 1 object found, 1 called square" in text and "So few objects that what follows is uncertain." in text


def test_table_holds_the_figures_of_every_class(drawn):
    """By hand: 7 squares; hits, surest first, are the detections 1 to 4, 6 and 8."""
    rows = {cells[0]: cells for cells in Document(evaluation_page(drawn_result(drawn))).cells if len(cells) == 16}
    header = rows["class"]
    square = dict(zip(header, rows["square"], strict=True))
    assert square["val"] == "7" and square["train"] == "7" and square["group"] == "rare"
    # precision 1 up to recall 4/7 (58 of 101 recalls), 5/6 up to 5/7 (14 more), 6/8 up to 6/7 (14 more)
    assert float(square["AP50"]) == pytest.approx((58 + 14 * 5 / 6 + 14 * 6 / 8) / 101 * 100, abs=0.05)
    assert dict(zip(header, rows["cross"], strict=True))["AP50"] == "0.0"


def test_losses_are_the_diagnosis_dearest_first(drawn):
    """The cross lacks all of its AP50, and calling it a cross is worth that; its mean is over two classes."""
    result = drawn_result(drawn)
    losses = find_losses(result.table, result.diagnosis)
    assert (
        losses[0].title
        == f"Wrong classes cost {100 * result.diagnosis.errors.gains['classification']:.1f} points of the mean AP50"
    )
    assert "cross 100.0 (its objects under other names)" in losses[0].text
    assert "1 of 1 object of cross are called square" in losses[0].text
    assert [loss.weight for loss in losses] == sorted((loss.weight for loss in losses), reverse=True)


def test_class_without_objects_is_not_a_zero(drawn):
    """DESIGN: null, never -1: a category without an object in val, with a detection that no AP sees."""
    rewrite(drawn, lambda content: content["categories"].append({"id": 9, "name": "ghost"}))
    text = Document(evaluation_page(drawn_result(drawn, [*ROWS, found([0, 0, 9, 9], 0.9, 1, 9)]))).text
    assert "n/a (0 objects)" in text and "1 detection of classes without objects here, the most of ghost (1)" in text


def test_perfect_detector_has_a_page_without_a_loss(drawn):
    rows = [
        found(box["bbox"], 0.9, box["image_id"], box["category_id"])
        for box in json.loads(drawn.read_text())["annotations"]
    ]
    page = evaluation_page(drawn_result(drawn, rows))
    assert "No kind of error costs half a point of AP50" in page and "Every class is found without a fault" in page
    assert Document(page).all("img") == []


def test_gates_are_shown_with_their_reason(drawn):
    gates = [Gate("--min AP50=0.9", "AP50", 0.9, 0.4, False, (), "AP50 is 0.4; 0.9 is asked for")]
    text = Document(evaluation_page(drawn_result(drawn), gates)).text
    assert "failed --min AP50=0.9 AP50 is 0.4; 0.9 is asked for" in text


@pytest.mark.parametrize("rows", [[], [dict(row, score=30 * row["score"]) for row in ROWS]], ids=["none", "logits"])
def test_detections_without_chances_have_a_page(drawn, rows):
    """Nothing found at all; scores that are no chances, of which calibration and suspects say nothing."""
    document = assert_self_contained(evaluation_page(drawn_result(drawn, rows)))
    assert ("Not measured" in document.text) == bool(rows)


# ------------------------------------------------------------------------------------------------------------- pictures


def test_worst_pictures_come_first_with_what_went_wrong(drawn):
    """Of the square at 0.5: picture 1 has one missed, 2 one false, 3 one false on the cross; 4 is right."""
    result = drawn_result(drawn)
    found_ = worst_pictures(result.dataset, result.found, [0, 1], [0.5, 0.5], [0, 1], most=4)
    squares = {picture.image: picture for picture in found_[0]}
    assert set(squares) == {0, 1, 2}
    assert [one.box for one in squares[0].missed] == [(60, 20, 20, 20)] and squares[0].false == ()
    assert [(one.score, one.other) for one in squares[1].false] == [(0.8, None)] and len(squares[1].right) == 2
    assert [(one.score, one.other) for one in squares[2].false] == [(0.9, "cross")]
    (cross,) = found_[1]
    assert [(one.other, one.score) for one in cross.missed] == [("square", 0.9)]
    (worst,) = worst_pictures(result.dataset, result.found, [0, 1], [0.5, 0.5], [0], 1)[0]
    assert worst.image == 2  # its false detection is the surest


def test_sheets_draw_missed_false_and_right_where_they_are(drawn, monkeypatch):
    """Picture 1 has a missed square at 60 px of 96, dashed; picture 2 a false one with its score. Others are thin."""
    seen = []
    original = drawing.draw_boxes
    monkeypatch.setattr(drawing, "draw_boxes", lambda *args, **more: seen.append(args) or original(*args, **more))
    result = drawn_result(drawn)
    squares = worst_pictures(result.dataset, result.found, [0, 1], [0.5, 0.5], [0], most=4)[0]
    maker = Sheets(result.dataset)
    by_image = {picture.image: picture for picture in squares}
    (thumbnail,) = maker.worst([by_image[0]])
    picture, (missed, *_) = seen[0]
    assert max(picture.size) == SIDE_PX and thumbnail.alt == "val1.jpg: 1 missed, 0 false, 1 right"
    assert (missed.colour, missed.dashed, missed.text) == (LABELLED, True, "")
    # a window of 48 px around the middle of the box, at 70 and 30
    assert missed.box == pytest.approx(
        [14 / 48 * SIDE_PX, 14 / 48 * SIDE_PX, 34 / 48 * SIDE_PX, 34 / 48 * SIDE_PX], abs=0.01
    )
    maker.worst([by_image[1], by_image[2]])
    assert [(m.colour, m.text) for m in seen[1][1] if m.text] == [(FALSE, "0.80")]
    assert RIGHT in [m.colour for m in seen[1][1]]
    assert [(m.colour, m.text) for m in seen[2][1] if m.text] == [(FALSE, "0.90 on cross")]


def test_close_up_stays_in_the_picture_and_around_its_boxes():
    """Moved where it would leave the picture, so that it keeps its size."""
    window, detail = close_up(np.array([[980.0, 10.0, 1000.0, 30.0]]), 1000, 800, 2.4)
    assert detail and window == (952, 0, 1000, 48)
    window, _ = close_up(np.array([[500.0, 400.0, 600.0, 440.0]]), 1000, 800, 2.0)
    assert window == (450, 320, 650, 520)


def test_missing_pictures_are_said_and_the_page_goes_on(drawn):
    for path in (drawn.parents[1] / "images/val").iterdir():
        path.unlink()
    document = assert_self_contained(evaluation_page(drawn_result(drawn)))
    assert document.all("img") == [] and "could not be shown. The first: " in document.text
    assert "--images DIR" in document.text and "1 object missed" in document.text


def test_nothing_outside_the_image_root_is_opened(drawn):
    """TRAPS 12: a name that climbs out has no picture, and the page says why."""
    Image.new("RGB", (96, 64), (200, 0, 200)).save(drawn.parents[1] / "secret.jpg")
    rewrite(drawn, lambda content: content["images"][0].update(file_name="../../secret.jpg"))
    page = evaluation_page(drawn_result(drawn))
    assert "leads out of" in Document(page).text
    assert not any(has_colour(picture, (200, 0, 200), least=2000) for picture in pictures_of(page))


def test_pictures_of_a_page_are_few(drawn):
    result = drawn_result(drawn)
    (worst,) = worst_pictures(result.dataset, result.found, [0, 1], [0.5, 0.5], [0], most=1)[0]
    maker = Sheets(result.dataset)
    assert sum(len(maker.worst([worst])) for _ in range(MOST_PICTURES + 5)) == MOST_PICTURES
    assert maker.unopened == 0


def test_suspects_are_shown_with_their_pictures(drawn):
    """The sure detection on nothing in picture 2."""
    result = drawn_result(drawn)
    suspects = evaluation.find_suspects(result.dataset, result.found)
    assert suspects and suspects[0].kind in ("missed label", "wrong class")
    document = Document(evaluation_page(replace(result, suspects=suspects)))
    assert "Labels to look at first" in document.text and "the more a wrong label costs" in document.text
    assert any(suspects[0].kind in cells[0] for cells in document.cells if cells)


# ------------------------------------------------------------------------------------------------- untrusted and large


def test_hostile_names_are_text_and_nothing_else(write_coco):
    """Classes and files of any name, in tables, plots, sheets, suspects and sentences."""
    categories = [{"id": n, "name": name} for n, name in enumerate(HOSTILE, start=1)]
    images = [{"id": n, "file_name": f"{name}.jpg", "width": 640, "height": 480} for n, name in enumerate(HOSTILE, 1)]
    boxes = [{"image_id": n, "category_id": n, "bbox": [5, 5, 60, 50]} for n in range(1, len(HOSTILE) + 1)]
    path = write_coco(boxes, images, categories)
    n = len(HOSTILE)
    rows = [found([5, 5, 60, 50], 0.9, k, k % n + 1) for k in range(1, n + 1)]
    rows += [found([200, 200, 60, 50], 0.95, k, k) for k in range(1, n + 1)]
    dataset = coco.load(path)
    result = result_of(dataset, load_detections(write(path.parent / "dt.json", rows), dataset))
    document = assert_self_contained(evaluation_page(result))
    for shown in (
        "<script>alert(1)</script>",
        "$\\frac{1}{2}$",
        "{{ 7 * 7 }}",
        "&lt;b&gt;",
        "\\u202eevil",
        "口罩 マスク",
    ):
        assert shown in document.text
    assert "\u202e" not in " ".join(document.texts)


def test_page_of_1203_classes_is_small_and_folds_its_tables(write_coco):
    """LVIS v1 has 1,203 classes (Gupta et al. 2019): every class in the tables, plots and sheets of some."""
    categories = [{"id": n, "name": f"a class of some length {n}"} for n in range(1203)]
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(400)]
    boxes = [
        {"image_id": n % 400, "category_id": n % 1203, "bbox": [5, 5, 20 + n % 300, 20 + n % 200]} for n in range(2406)
    ]
    path = write_coco(boxes, images, categories)
    rows = [
        found(b["bbox"], 0.3 + (n % 60) / 100, b["image_id"], b["category_id"]) for n, b in enumerate(boxes) if n % 3
    ]
    dataset = coco.load(path)
    result = result_of(dataset, load_detections(write(path.parent / "dt.json", rows), dataset), rounds=2)
    text = evaluation_page(result)
    document = Document(text)
    assert len(text.encode()) < 3_000_000
    assert {table["data-most"] for table in document.all("table") if "data-most" in table} == {"40"}
    assert {f"a class of some length {n}" for n in range(1203)} <= {cells[0] for cells in document.cells if cells}


def test_format_html_prints_one_page(drawn, tmp_path):
    """`focal eval DETECTIONS DATASET --format html -o page.html`."""
    results = write(tmp_path / "dt.json", ROWS)
    focal("eval", results, drawn, "--rounds", 0, "--format", "html", "-o", tmp_path / "page.html")
    document = assert_self_contained((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert document.text.count("Why cross is the weakest class") == 1 and document.all("img")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_browser_shows_the_page_without_a_complaint(drawn, tmp_path):
    """No console message, pictures decode, and nothing is wider than the window."""
    path = tmp_path / "page.html"
    path.write_text(evaluation_page(drawn_result(drawn)), encoding="utf-8")
    with browser(tmp_path) as page:
        page.open(path)
        for width in (390, 1440):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
            page.call("Emulation.setDeviceMetricsOverride", **size)
            assert page.run("document.documentElement.scrollWidth <= innerWidth") is True
        assert page.run("[...document.images].every(image => image.naturalWidth > 0)") is True
    complaints = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in page.events if event["method"] in complaints] == []
