"""What people and pipes see: tables that lose nothing, JSON that is JSON, and no text of a user's file interpreted."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from command import process
from rich.console import Console
from tiny_detections import dataset_of

from focalcli import coco, evaluation
from focalcli.anchors import AnchorSpec
from focalcli.audit import audit
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.render import console as rendering
from focalcli.render.ap_table import print_ap
from focalcli.render.audit_table import print_audit
from focalcli.render.text import TAIL_ROWS, TOP_ROWS


def report_on(path):
    return audit({"train": coco.load(path)}, AnchorSpec(), min_size=320, max_size=1333, check_images=False)


def printed(result, width: int | None = None) -> str:
    """The report as a pipe gets it, or a terminal of this width without its colours."""
    stream = io.StringIO()
    console = rendering.make_console(file=stream)
    if width is not None:
        console = Console(file=stream, width=width, force_terminal=True, color_system=None, markup=False, emoji=False)
    print_audit(result, console)
    return stream.getvalue()


def test_pipe_gets_plain_text_without_escape_sequences(write_coco, capsys):
    """DESIGN: plain when stdout is not a terminal."""
    print_audit(report_on(write_coco()), rendering.make_console())
    out = capsys.readouterr().out
    assert "\x1b" not in out and "cat" in out


def test_no_color_is_plain_in_a_terminal_too(monkeypatch):
    """https://no-color.org"""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert rendering.make_console().color_system is None


def test_class_names_are_shown_as_they_are_and_never_interpreted(write_coco):
    """rich markup, emoji codes, a terminal escape, a text direction override and a lone surrogate."""
    names = ["[bold]cat[/bold]", ":smile:", "\x1b[31mred", "\u202eevil", "\ud800", "a\nb"]
    categories = [{"id": n, "name": name} for n, name in enumerate(names)]
    boxes = [{"category_id": n, "bbox": [n * 70, 5, 60, 60]} for n in range(len(names))]
    out = printed(report_on(write_coco(boxes, categories=categories)))
    for shown in ("[bold]cat[/bold]", ":smile:", "\\x1b[31mred", "\\u202eevil", "\\ud800", "a\\nb"):
        assert shown in out
    assert "\x1b" not in out and "\u202e" not in out


def test_pipe_never_cuts_or_wraps_a_cell(write_coco):
    """A class name of 300 letters stays whole, on one line."""
    name = "x" * 300
    out = printed(report_on(write_coco([{}], categories=[{"id": 1, "name": name}])))
    assert any(name in line and "100.0" in line for line in out.splitlines()) and "…" not in out


@pytest.mark.parametrize("width", [60, 80, 100, 250])
def test_narrow_terminal_leaves_out_columns_and_cuts_none(write_coco, width):
    """Every line fits, nothing ends in an ellipsis, and what is left out is said."""
    out = printed(report_on(write_coco()), width)
    assert max(map(len, out.splitlines())) <= width and "…" not in out
    assert ("left out of this" in out.replace("\n", " ")) is (width < 250)


def test_a_pipe_s_table_is_the_one_of_a_wide_terminal(write_coco):
    """Two ways to print, one result: wide letters (two cells each) stand in line in both."""
    categories = [{"id": 1, "name": "猫の目"}, {"id": 2, "name": "e\u0301t\u00e9"}, {"id": 3, "name": "dog"}]
    boxes = [{"category_id": n, "bbox": [n * 70, 5, 60, 60]} for n in (1, 2, 3)]
    report = report_on(write_coco(boxes, categories=categories))
    wide = [line.rstrip() for line in printed(report, 400).splitlines()]
    assert wide == [line.rstrip() for line in printed(report).splitlines()]


def test_a_pipe_needs_neither_rich_nor_matplotlib_nor_jinja2(write_coco):
    """An audit in CI is done before they are imported."""
    loaded = process("audit", write_coco(), "--fail-on", "never", PYTHONPROFILEIMPORTTIME="1").stderr
    assert "numpy" in loaded and not re.search(r"\| +(rich\.console|matplotlib|jinja2)\b", loaded)


def test_what_a_column_means_is_said_only_where_it_is_shown(write_coco):
    report = report_on(write_coco())
    assert "S/M/L: small, medium, large" in printed(report) and "S/M/L: small" not in printed(report, 70)


def test_long_class_list_is_folded_and_says_so(write_coco):
    """LVIS has 1,203 classes: the top, the tail, and how many between."""
    categories = [{"id": n, "name": f"class{n}"} for n in range(100)]
    boxes = [{"category_id": n, "bbox": [5, 5, 20, 20 + k]} for n in range(90) for k in range(1 + (n == 0))]
    out = printed(report_on(write_coco(boxes, categories=categories)))
    shown = sum(line.startswith("class") for line in out.splitlines()) - 1  # less the header
    assert shown == TOP_ROWS + TAIL_ROWS
    assert f"({90 - shown} more)" in out and "10 classes without objects in train not shown" in out


def test_ascii_terminal_gets_ascii(write_coco):
    """LC_ALL=C: no UnicodeEncodeError, bars of #."""
    report = report_on(write_coco([{}], categories=[{"id": 1, "name": "größe"}]))
    for terminal in (True, False):
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, "ascii")
        console = rendering.make_console(file=file)
        if terminal:
            console = Console(file=file, width=200, force_terminal=True, color_system=None, markup=False, emoji=False)
        print_audit(report, console)
        file.flush()
        assert b"gr\\xf6\\xdfe" in raw.getvalue() and b"####" in raw.getvalue()


def test_finding_shows_code_place_count_hint_and_page(write_coco):
    """DESIGN: every finding names its place: annotation, image, and how many more."""
    out = printed(report_on(write_coco([{}, {"bbox": [1, 1, 0, 5]}, {"bbox": [1, 1, 0, 6]}])))
    assert "error F101 box-without-area  (focal explain F101)" in out
    assert "train: annotation 2 (image 1) and 1 more: box 0 x 5 has no area" in out
    assert "hint: delete the annotation" in out


def test_error_is_two_plain_lines_on_stderr(capsys):
    """And brackets of the message survive."""
    rendering.print_error(FocalError("a[0].json: [red]not JSON[/red]", "copy it again"))
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "error: a[0].json: [red]not JSON[/red]\nhint: copy it again\n"


def test_ap_table_is_x100_with_na_for_classes_without_objects(write_coco, capsys):
    """TRAPS 34 and 36: a class without objects has no AP, and its detections are shown."""
    dataset = coco.load(write_coco([{}]))
    detections = Detections(np.array([0]), np.array([0]), np.array([[10.0, 20, 100, 80]]), np.array([0.9]))
    table = evaluation.evaluate(dataset, detections, n_train={"cat": 7, "dog": 1}, images_train={"cat": 5, "dog": 1})
    print_ap(table, rendering.make_console())
    out = capsys.readouterr().out
    cat = next(line.split() for line in out.splitlines() if line.startswith("cat"))
    assert cat[:6] == ["cat", "rare", "7", "*1", "1", "100.0"]
    assert "n/a (0 objects)" in out and "x100" in out and "APr 100.0, APc -, APf -" in out


def scored(boxes: int, found: int, rounds: int = 0) -> evaluation.ApTable:
    """`boxes` objects of a class, one to a picture, of which `found` are found, each surer than the next."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = dataset_of(Path(folder), [(0, [10, 10, 50, 50], n) for n in range(boxes)], boxes)
    numbers = np.arange(found)
    box = np.tile([10.0, 10, 50, 50], (found, 1))
    return evaluation.evaluate(dataset, Detections(numbers, 0 * numbers, box, 0.9 - numbers / 100), rounds=rounds)


def printed_ap(table: evaluation.ApTable, width: int | None = None, **options) -> str:
    stream = io.StringIO()
    console = rendering.make_console(file=stream)
    if width is not None:
        console = Console(file=stream, width=width, force_terminal=True, color_system=None, markup=False, emoji=False)
    print_ap(table, console, **options)
    return stream.getvalue()


def test_ap_table_shows_the_operating_point_and_what_it_is():
    """30 objects, of which 20 are found without a mistake: F1 is best at the last of them, 0.9 - 0.19, with recall 2/3
    and F1 2 x 1 x 2/3 / (1 + 2/3) = 0.8."""
    out = printed_ap(scored(30, 20))
    cell = next(line.split() for line in out.splitlines() if line.startswith("cell"))
    assert cell[-4:] == ["0.710", "100.0", "66.7", "80.0"]
    assert "threshold: score of the best F1" in out and "interval" not in out


def test_ap_table_shows_intervals_where_they_were_asked_for():
    table = scored(30, 20, rounds=50)
    low, high = table.classes[0].AP50_low, table.classes[0].AP50_high
    out = printed_ap(table)
    assert out.count(f"{100 * low:.1f}-{100 * high:.1f}") == 2 and "95 %, by 50 draws of the images" in out


@pytest.mark.parametrize(("objects", "marked"), [(24, True), (25, False)])
def test_ap_table_marks_classes_with_few_objects_and_says_why(objects, marked):
    """TRAPS 36: FEW_OBJECTS is 25; a class without any says n/a instead."""
    out = printed_ap(scored(objects, 20))
    assert (f"*{objects}" in out) is marked and ("*: fewer than 25 objects" in out) is marked and "*0" not in out


def test_ap_table_of_some_classes_keeps_the_totals_of_all():
    table = scored(30, 20)
    out = printed_ap(table, shown=table.classes[:1])
    rows = [[line.split() for line in text.splitlines()] for text in (out, printed_ap(table))]
    assert [row[0] for row in rows[0][2:4]] == ["cell", "all"] and rows[0][3] == rows[1][5]


@pytest.mark.parametrize("width", [60, 80, 120, 250])
def test_ap_table_in_a_narrow_terminal_keeps_what_matters_most(width):
    out = printed_ap(scored(30, 20, rounds=20), width)
    assert max(map(len, out.splitlines())) <= width and "…" not in out
    words = out.split()
    header = words[: words.index("cell")]
    assert {"class", "n_val", "AP", "AP50"} <= set(header)
    assert {"interval", "recall", "precision"} <= set(header) or width < 80
    assert ("left out of this" in " ".join(words)) is (width < 250)
