"""What people and pipes see: tables that lose nothing, JSON that is JSON, and no text of a user's file interpreted."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from rich.console import Console

from focalcli import ap, coco
from focalcli.anchors import AnchorSpec
from focalcli.audit import audit
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.render import console as rendering
from focalcli.render.to_csv import print_csv
from focalcli.render.to_json import print_json


def report_on(path):
    return audit({"train": coco.load(path)}, AnchorSpec(), min_size=320, max_size=1333, check_images=False)


def printed(result, width: int | None = None) -> str:
    """The report as a pipe gets it, or a terminal of this width without its colours."""
    stream = io.StringIO()
    if width is None:
        console = Console(file=stream, width=rendering.PIPE_WIDTH, markup=False, emoji=False, highlight=False)
    else:
        console = Console(file=stream, width=width, force_terminal=True, color_system=None, markup=False, emoji=False)
    rendering.print_audit(result, console)
    return stream.getvalue()


def test_pipe_gets_plain_text_without_escape_sequences(write_coco, capsys):
    """DESIGN: plain when stdout is not a terminal."""
    rendering.print_audit(report_on(write_coco()), rendering.make_console())
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


def test_long_class_list_is_folded_and_says_so(write_coco):
    """LVIS has 1,203 classes: the top, the tail, and how many between."""
    categories = [{"id": n, "name": f"class{n}"} for n in range(100)]
    boxes = [{"category_id": n, "bbox": [5, 5, 20, 20 + k]} for n in range(90) for k in range(1 + (n == 0))]
    out = printed(report_on(write_coco(boxes, categories=categories)))
    shown = sum(line.startswith("class") for line in out.splitlines()) - 1  # less the header
    assert shown == rendering.TOP_ROWS + rendering.TAIL_ROWS
    assert f"({90 - shown} more)" in out and "10 classes without objects in train not shown" in out


def test_ascii_terminal_gets_ascii(write_coco):
    """LC_ALL=C: no UnicodeEncodeError, bars of #."""
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, "ascii"), width=200, markup=False, emoji=False)
    rendering.print_audit(report_on(write_coco([{}], categories=[{"id": 1, "name": "größe"}])), console)
    console.file.flush()
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


def test_json_is_one_object_and_refuses_nan(capsys):
    """DESIGN: exactly one JSON object; null, never NaN."""
    print_json({"b": None, "a": "\ud800ü"})
    out = capsys.readouterr().out
    assert list(json.loads(out)) == ["b", "a"] and out.isascii()
    with pytest.raises(ValueError, match="JSON compliant"):
        print_json({"x": float("nan")})


def test_csv_has_a_row_for_each_class_of_each_split(write_coco, capsys):
    """Lists become one column for each level; undefined is an empty cell."""
    print_csv(report_on(write_coco([{}])).to_rows())
    header, cat, dog = capsys.readouterr().out.splitlines()
    assert header.startswith("split,name,category_id,images,instances") and "anchors_levels_P7" in header
    assert cat.startswith("train,cat,1,1,1,1.0,1.0,rare") and dog.startswith("train,dog,2,0,0,0.0,,,0")


def test_ap_table_is_x100_with_na_for_classes_without_objects(write_coco, capsys):
    """TRAPS 34 and 36: a class without objects has no AP, and its detections are shown."""
    dataset = coco.load(write_coco([{}]))
    detections = Detections(np.array([0]), np.array([0]), np.array([[10.0, 20, 100, 80]]), np.array([0.9]))
    table = ap.evaluate(dataset, detections, n_train={"cat": 7, "dog": 1}, images_train={"cat": 5, "dog": 1})
    rendering.print_ap(table, rendering.make_console())
    out = capsys.readouterr().out
    cat = next(line.split() for line in out.splitlines() if line.startswith("cat"))
    assert cat[:6] == ["cat", "rare", "7", "1", "1", "100.0"]
    assert "n/a (0 objects)" in out and "x100" in out and "APr 100.0, APc -, APf -" in out
