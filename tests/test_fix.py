"""`focal fix`: each repairable rule's finding goes, nothing else changes, and what a person must decide is left."""

from __future__ import annotations

import copy
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, environment, files_below, focal, mistake, one_json
from conftest import coco_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from focalcli.anchors import AnchorSpec
from focalcli.audit import RULES, audit
from focalcli.coco import load
from focalcli.errors import FocalError
from focalcli.fix import REPAIRS, fix

SQUARE = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
IMAGES = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in (1, 2)]


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def repaired(tmp_path: Path, content: object, *select: str, **more: object) -> tuple[dict, object]:
    """(the copy's content, the report) of a repair by these rules only, or by all."""
    source, out = write(tmp_path / "in.json", content), tmp_path / "out.json"
    report = fix(source, out, select=select, force=True, **more)
    return json.loads(out.read_text()), report


def found(path: Path) -> set[str]:
    """The codes that an audit of the file alone finds."""
    report = audit({"s": load(path)}, AnchorSpec(), min_size=800, max_size=1333)
    return {finding.code for finding in report.findings if finding.code < "F4"}


def annotation(content, **values):
    content["annotations"].append(
        {"id": 9, "image_id": 1, "category_id": 1, "bbox": [300, 20, 100, 80], "area": 8000, "iscrowd": 0} | values
    )


TAKEN_OUT = {  # code -> a change that trips the rule in a sound file, and that the repair undoes
    "F003": lambda c: annotation(c, image_id=77),
    "F004": lambda c: annotation(c, category_id=None),
    "F101": lambda c: annotation(c, bbox=[300, 20, 0, 80]),
    "F102": lambda c: annotation(c, bbox=[300, 20, 80]),
    "F103": lambda c: annotation(c, bbox=[700, 20, 50, 80]),
    "F104": lambda c: annotation(c, bbox=[10, 20, 100, 80]),
    "F203": lambda c: annotation(c, category_id=99),
    "F205": lambda c: c["categories"].append({"id": 3, "name": "ghost"}),
    "F002": lambda c: c["images"].append(dict(c["images"][0])),
    "F201": lambda c: c["categories"].append(dict(c["categories"][0])),
}
CHANGED = {  # code -> (a change that trips the rule, the change that is left of it)
    "F001": (lambda c: annotation(c, id=1), lambda c: annotation(c, id=3)),
    "F005": (lambda c: annotation(c, id=0), lambda c: annotation(c, id=3)),
    "F105": (
        lambda c: annotation(c, bbox=[300, "20", "100.00", 80], image_id="1"),
        lambda c: annotation(c, bbox=[300, 20, 100.0, 80]),
    ),
    "F007": (lambda c: annotation(c, id=2**53 + 1), lambda c: annotation(c, id=3)),
    "F008": (
        lambda c: (annotation(c), [c["annotations"][-1].pop(key) for key in ("area", "iscrowd")]),
        lambda c: annotation(c),
    ),
    "F108": (
        lambda c: [annotation(c, id=n, bbox=[400 + n, 300, 460 + n, 360]) for n in range(9, 40)],
        lambda c: [annotation(c, id=n, bbox=[400 + n, 300, 60, 60], area=3600) for n in range(9, 40)],
    ),
    "F112": (lambda c: annotation(c, area=9000), lambda c: annotation(c, area=8000)),
    "F207": (
        lambda c: (c["categories"].append({"id": 7, "name": " a\tb\u200b"}), annotation(c, category_id=7)),
        lambda c: (c["categories"].append({"id": 7, "name": "a b"}), annotation(c, category_id=7)),
    ),
    "F303": (  # the picture lies beside the file
        lambda c: c["images"].append({"id": 5, "coco_url": "http://x/val/5.png", "width": 640, "height": 480}),
        lambda c: c["images"].append(
            {"id": 5, "coco_url": "http://x/val/5.png", "width": 640, "height": 480, "file_name": "5.png"}
        ),
    ),
    "F308": (
        lambda c: (c["images"].append({**c["images"][0], "id": 5}), annotation(c, image_id=5)),
        lambda c: annotation(c, image_id=1),
    ),
    "F106": (lambda c: annotation(c, area=0), lambda c: annotation(c, area=8000)),
    "F107": (
        lambda c: annotation(c, bbox=[600, -20, 80, 60], area=4800),
        lambda c: annotation(c, bbox=[600, 0, 40, 40], area=1600),
    ),
    "F202": (
        lambda c: (c["categories"].append({"id": 7, "name": "cat"}), annotation(c, category_id=7)),
        lambda c: annotation(c, category_id=1),
    ),
    "F204": (
        lambda c: (c["categories"].append({"id": 7, "name": ""}), annotation(c, category_id=7)),
        lambda c: (c["categories"].append({"id": 7, "name": "7"}), annotation(c, category_id=7)),
    ),
    "F301": (  # the picture lies beside the file
        lambda c: (c["images"].append({"id": 5, "file_name": "5.png"}), annotation(c, image_id=5)),
        lambda c: (
            c["images"].append({"id": 5, "file_name": "5.png", "width": 640, "height": 480}),
            annotation(c, image_id=5),
        ),
    ),
}


@pytest.mark.parametrize("code", REPAIRS)
def test_each_repair_ends_its_finding_and_changes_nothing_else(code, tmp_path):
    """The pages of the rules say what a sound record is; the whole copy is compared with the sound file."""
    Image.new("RGB", (640, 480)).save(tmp_path / "5.png")
    broken, sound = coco_file(), coco_file()
    if code in TAKEN_OUT:
        TAKEN_OUT[code](broken)
    else:
        CHANGED[code][0](broken)
        CHANGED[code][1](sound)
    if code == "F108":  # where all boxes are corners, the first two are as well
        sound["annotations"] = sound["annotations"][2:]
        broken["annotations"] = broken["annotations"][2:]
    assert code in found(write(tmp_path / "broken.json", broken))
    content, report = repaired(tmp_path, broken, code)
    assert content == sound
    assert code not in found(tmp_path / "out.json")
    assert [group.code for group in report.changes] == [code]
    assert code not in {entry.finding.code for entry in report.remaining}


def test_every_repair_is_of_a_rule_with_a_page():
    """A code without a page could not be explained or selected."""
    assert REPAIRS.keys() <= RULES.keys()


# ------------------------------------------------------------------------------------------ what needs a person is left


def left(tmp_path: Path, content: object, code: str, *select: str) -> str:
    """The reason for which a rule's finding is still there, in a copy that equals the original."""
    same, report = repaired(tmp_path, content, *(select or (code,)))
    assert same == content
    assert report.changes == ()
    return next(entry.reason for entry in report.remaining if entry.finding.code == code)


def test_two_pictures_with_one_id_are_left(tmp_path):
    """F002: half of the annotations belong to the other picture, and nothing says which."""
    content = coco_file()
    content["images"].append({**content["images"][0], "file_name": "other.jpg"})
    assert "not in the file" in left(tmp_path, content, "F002")


def test_two_names_of_one_category_id_are_left(tmp_path):
    content = coco_file(categories=[{"id": 1, "name": "bus"}, {"id": 1, "name": "truck"}, {"id": 2, "name": "dog"}])
    assert "'bus' and of 'truck'" in left(tmp_path, content, "F201")


def test_one_name_under_two_supercategories_is_left(tmp_path):
    """plastic/other and metal/other are two classes that want two names."""
    names = [
        {"id": 1, "name": "other", "supercategory": "plastic"},
        {"id": 2, "name": "other", "supercategory": "metal"},
    ]
    assert "supercategories differ" in left(tmp_path, coco_file(categories=names), "F202")


def test_category_ids_shifted_by_one_are_left(tmp_path):
    """F203's page: a shift by one is the usual cause; taking the boxes out would lose a class and mix up the others."""
    content = coco_file([{"category_id": 0}, {"category_id": 1}, {"category_id": 2}])
    content["categories"] = [{"id": n, "name": f"class {n}"} for n in (1, 2, 3)]
    assert "below" in left(tmp_path, content, "F203")


def test_ghosts_go_only_when_named(tmp_path):
    """A category that one split lacks objects of may have them in another: the list of classes is shared."""
    content = coco_file(categories=[*SQUARE, {"id": 3, "name": "ghost"}])
    for select in ((), ("F2",), ("F20",), ("F",)):
        copy, report = repaired(tmp_path, content, *select)
        assert copy == content
        assert "--select F205" in next(e.reason for e in report.remaining if e.finding.code == "F205")
    for select in (("F205",), ("ghost-category",), ("F1,f205",)):
        assert repaired(tmp_path, content, *select)[0] == coco_file()


def test_a_category_of_crowds_is_no_ghost_to_take_out(tmp_path):
    """F205 counts objects; without its category a crowd would name one that is unknown."""
    content = coco_file([{}, {"category_id": 2, "iscrowd": 1, "bbox": [300, 20, 100, 80]}])
    assert "crowds" in left(tmp_path, content, "F205")


def test_two_names_that_differ_in_blanks_do_not_become_one(tmp_path):
    """The second would be merged with the first, which only F206's reader can decide."""
    names = [{"id": 1, "name": "cat "}, {"id": 2, "name": " cat"}]
    out, report = repaired(tmp_path, coco_file(categories=names), "F207")
    assert [category["name"] for category in out["categories"]] == ["cat", " cat"]
    assert "another category 'cat'" in report.remaining[0].reason


def test_boxes_are_not_clipped_where_the_picture_is_of_another_size(tmp_path):
    """F305: it is the size in the file that is wrong, perhaps, and not the box."""
    Image.new("RGB", (1280, 960)).save(tmp_path / "1.jpg")
    content = coco_file([{"bbox": [600, 400, 200, 200], "area": 40000}, {"bbox": [700, 500, 80, 80]}, {"image_id": 2}])
    assert "1280 x 960, the file says 640 x 480" in left(tmp_path, content, "F107")
    assert "1280 x 960, the file says 640 x 480" in left(tmp_path, content, "F103")


def test_a_size_that_the_boxes_contradict_is_not_written(tmp_path):
    """F301: the picture was scaled after its boxes were drawn."""
    Image.new("RGB", (64, 48)).save(tmp_path / "1.jpg")
    content = coco_file(images=[{"id": 1, "file_name": "1.jpg"}, IMAGES[1]])
    assert "beyond its picture of 64 x 48" in left(tmp_path, content, "F301")


def test_the_size_of_an_exif_rotated_picture_is_not_guessed(tmp_path):
    """TRAPS 31: which of its two frames the boxes are in is not in the file."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (640, 480)).save(tmp_path / "1.jpg", exif=exif)
    content = coco_file(images=[{"id": 1, "file_name": "1.jpg"}, IMAGES[1]])
    assert "EXIF-rotated" in left(tmp_path, content, "F301")


def test_no_picture_outside_the_image_root_is_opened(tmp_path):
    """TRAPS 12: file_name is somebody else's text."""
    (tmp_path / "data").mkdir()
    Image.new("RGB", (640, 480)).save(tmp_path / "secret.png")
    content = coco_file(images=[{"id": 1, "file_name": "../secret.png"}, IMAGES[1]])
    assert "not there" in left(tmp_path / "data", content, "F301")


def test_an_ignored_rule_is_neither_repaired_nor_reported(tmp_path):
    content = coco_file([{}, {"image_id": 2, "category_id": 2}, {"bbox": [1, 1, 0, 5]}, {"image_id": 77}])
    out, report = repaired(tmp_path, content, ignore=["F101"])
    assert [record["id"] for record in out["annotations"]] == [1, 2, 3]
    assert {group.code for group in report.changes} == {"F003"}
    assert "F101" not in {entry.finding.code for entry in report.remaining}


# ------------------------------------------------------------------------------------------------ one after the other


def test_one_repair_can_bring_the_next_to_light(tmp_path):
    """Two spellings of one category hold the same box: merged, it is there twice."""
    content = coco_file([{}, {"category_id": 7}, {"category_id": 2}], categories=[*SQUARE, {"id": 7, "name": "cat"}])
    out, report = repaired(tmp_path, content)
    assert [(record["id"], record["category_id"]) for record in out["annotations"]] == [(1, 1), (3, 2)]
    assert {group.code for group in report.changes} == {"F104", "F202"}


def test_of_three_boxes_that_follow_each_other_the_middle_one_goes(tmp_path):
    """10 px apart of 600 are an IoU of 0.983 and 20 px one of 0.967: the third repeats only the second."""
    boxes = [{"bbox": [x, 10, 600, 100], "area": 60000} for x in (0, 6, 12)]
    content = coco_file([*boxes, {"image_id": 2, "category_id": 2}])
    assert {1, 3, 4} == {record["id"] for record in repaired(tmp_path, content)[0]["annotations"]}


def test_an_area_of_a_mask_survives_the_clip(tmp_path):
    """`area` is the mask's where there is one: it goes down only when the box that is left has no room for it."""
    content = coco_file([{"bbox": [600, 0, 80, 100], "area": area} for area in (8000, 100, 5000, None)])
    content["categories"].pop()
    out, _ = repaired(tmp_path, content, "F107")
    assert [record["area"] for record in out["annotations"]] == [4000, 100, 4000, None]


def test_text_ids_get_text_ids(tmp_path):
    content = coco_file([{"id": "a"}, {"id": "a", "image_id": 2, "category_id": 2}])
    assert [record["id"] for record in repaired(tmp_path, content)[0]["annotations"]] == ["a", "1"]


def test_nan_and_infinity_never_survive(tmp_path):
    """RFC 8259, sec. 6: they are not JSON; a rule that was not asked for leaves null in their place."""
    content = coco_file(
        [{}, {"bbox": [1, 2, float("nan"), 4]}, {"area": float("inf"), "image_id": 2, "category_id": 2}]
    )
    content["info"] = {"deep": [[float("-inf")]]}
    source = write(tmp_path / "in.json", content)
    report = fix(source, tmp_path / "out.json", select=["F001"])
    text = (tmp_path / "out.json").read_text()
    out = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert out["annotations"][1]["bbox"] == [1, 2, None, 4]
    assert out["info"] == {"deep": [[None]]}
    assert report.nulls == 3


def test_a_box_that_null_makes_malformed_goes_too(tmp_path):
    """Its category is unknown, so that its numbers are not looked at; null in them is seen all the same."""
    content = coco_file([{}, {"image_id": 2, "category_id": 2}, {"category_id": 99, "bbox": [1, 2, float("inf"), 4]}])
    out, report = repaired(tmp_path, content, "F102")
    assert [record["id"] for record in out["annotations"]] == [1, 2]
    assert "F102" not in {entry.finding.code for entry in report.remaining}


# ----------------------------------------------------------------------------------------------------------- the file

ODD = {
    "info": {"year": 2026, "note": "é ☃"}, "licenses": [{"id": 1, "url": None}], "type": "instances",
    "extra": {"b": [1, 1.0, 1e-7, 12345678901234567890, True, {}], "a": []},
}  # fmt: skip


@pytest.mark.parametrize(
    "dump",
    [
        json.dumps,
        lambda c: json.dumps(c, separators=(",", ":")),
        lambda c: json.dumps(c, ensure_ascii=False),
        lambda c: json.dumps(c) + "\n",
        lambda c: json.dumps(c, indent=2) + "\n",
        lambda c: json.dumps(c, indent=0),
        lambda c: json.dumps(c, indent=4, ensure_ascii=False) + "\n",
        lambda c: json.dumps(c, indent="\t") + "\n",
    ],
)
def test_a_sound_file_comes_out_byte_for_byte(dump, tmp_path):
    """Key order, numbers, escapes and layout stay: a diff shows the repairs and nothing else."""
    content = {**ODD, **coco_file()}
    content["annotations"][0] |= {"segmentation": [[1, 2.5, 3, 4, 5, 6]], "attributes": {"occluded": False}}
    source = tmp_path / "in.json"
    source.write_text(dump(content), encoding="utf-8")
    fix(source, tmp_path / "out.json")
    assert (tmp_path / "out.json").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(("key", "record"), [("", ""), ("  ", "    "), (" ", "")])
def test_one_record_a_line_stays_so(key, record, tmp_path):
    """As in many hand-made files."""
    parts = []
    for name, entries in coco_file().items():
        lines = ",\n".join(record + json.dumps(entry) for entry in entries)
        parts.append(f'{key}"{name}": [\n{lines}\n{key}]')
    source = tmp_path / "in.json"
    source.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    fix(source, tmp_path / "out.json")
    assert (tmp_path / "out.json").read_bytes() == source.read_bytes()


def test_gzip_in_and_out(tmp_path):
    """By content in, by name out."""
    source = tmp_path / "in.json.gz"
    source.write_bytes(gzip.compress(json.dumps(coco_file([{}, {"category_id": 2, "bbox": [1, 1, 0, 1]}])).encode()))
    fix(source, tmp_path / "out.json.gz")
    fix(source, tmp_path / "out.json")
    plain = (tmp_path / "out.json").read_bytes()
    assert gzip.decompress((tmp_path / "out.json.gz").read_bytes()) == plain
    assert len(json.loads(plain)["annotations"]) == 1


def test_stdin_and_pipes(tmp_path, monkeypatch):
    """A pipe can be read once; the pictures are looked for in the working folder."""
    text = json.dumps(coco_file([{}, {"category_id": 2}, {"bbox": [1, 1, 0, 5]}])).encode()
    for data in (text, gzip.compress(text)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        report = fix(Path("-"), tmp_path / "out.json", force=True)
        assert [group.code for group in report.changes] == ["F101"]
        assert len(load(tmp_path / "out.json").boxes) == 2
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text[:-9])))
    with pytest.raises(FocalError, match=r"^stdin: not JSON .*cut short"):
        fix(Path("-"), None)


# --------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def broken(tmp_path) -> Path:
    dog = {"category_id": 2, "bbox": [300, 20, 100, 80]}
    return write(tmp_path / "in.json", coco_file([{}, dog, {"bbox": [1, 1, 0, 5]}, {"id": 1}]))


def test_the_report_says_what_was_done_and_what_was_left(broken, tmp_path):
    result = focal("fix", broken, "-o", tmp_path / "out.json")
    assert "F101 box-without-area  1 annotation: taken out" in result.stdout
    assert "annotation 3 (image 1): box 0 x 5 has no area" in result.stdout
    assert "F302 image-missing" in result.stdout
    assert f"wrote {tmp_path / 'out.json'}" in result.stderr
    focal("audit", tmp_path / "out.json", "--fail-on", "error")


def test_json_lists_every_change(broken, tmp_path):
    result = one_json(focal("fix", broken, "-o", tmp_path / "out.json", "--format", "json").stdout)
    assert result["kind"] == "fix" and result["output"] == str(tmp_path / "out.json")
    assert (result["before"]["annotations"], result["after"]["annotations"]) == (4, 2)
    records = {group["code"]: group["records"] for group in result["changes"]}
    assert records["F101"] == [{"id": 3, "image_id": 1, "text": "box 0 x 5 has no area"}]
    assert [entry["code"] for entry in result["remaining"]] == ["F302"]


def test_dry_run_writes_nothing(broken, tmp_path):
    before = files_below(tmp_path)
    result = focal("fix", broken, "-o", tmp_path / "out.json", "--dry-run")
    assert "F101" in result.stdout and "nothing was written" in result.stderr
    assert files_below(tmp_path) == before


def test_the_input_is_never_the_output(broken, tmp_path):
    """Neither by another path nor through links, with or without --force."""
    before = broken.read_bytes()
    os.symlink(broken, tmp_path / "soft.json")
    os.link(broken, tmp_path / "hard.json")
    for output in (broken, tmp_path / "." / "in.json", tmp_path / "soft.json", tmp_path / "hard.json"):
        mistake("fix", broken, "-o", output, "--force", says="is the input itself")
    command = [sys.executable, "-m", "focalcli", "fix", "-", "--force", "-o", str(broken)]
    with broken.open("rb") as stdin:
        done = subprocess.run(command, stdin=stdin, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is the input itself" in done.stderr
    assert broken.read_bytes() == before


def test_a_copy_among_the_splits_is_said_to_be_one(tmp_path):
    """`focal audit DATASET` would read it beside the original."""
    (tmp_path / "annotations").mkdir()
    source = write(tmp_path / "annotations/train.json", coco_file())
    assert "one more split" in focal("fix", source, "-o", tmp_path / "annotations/fixed.json").stderr
    assert "one more split" not in focal("fix", source, "-o", tmp_path / "fixed.json").stderr


def test_a_file_that_is_there_is_replaced_only_by_force(broken, tmp_path):
    (tmp_path / "out.json").write_text("precious")
    mistake("fix", broken, "-o", tmp_path / "out.json", says="exists", hint="--force")
    assert (tmp_path / "out.json").read_text() == "precious"
    focal("fix", broken, "-o", tmp_path / "out.json", "--force")
    assert load(tmp_path / "out.json").annotation_ids[0] == 1


def test_mistakes(broken, tmp_path):
    (tmp_path / "cut.json").write_text(broken.read_text()[:-20])
    mistake("fix", broken, says="no file to write", hint="-o")
    mistake("fix", tmp_path / "nope.json", "-o", tmp_path / "o.json", says="no such file")
    mistake("fix", tmp_path / "cut.json", "-o", tmp_path / "o.json", says="cut short")
    mistake("fix", broken, "-o", "-", says="stdout")
    mistake("fix", broken, "-o", tmp_path, says="is a folder")
    mistake("fix", broken, "-o", tmp_path / "in.json" / "o.json", says="cannot be written")
    mistake("fix", broken, "-o", tmp_path / "o.json", "--select", "F999", says="F999")
    mistake("fix", tmp_path, "-o", tmp_path / "o.json", says="is a folder")
    assert files_below(tmp_path) == {"in.json", "cut.json"}


# ---------------------------------------------------------------------------------------------------------- any file


def mostly(sane, *odd):
    """One in six is odd."""
    return st.integers(0, 5).flatmap(lambda n: st.sampled_from(odd) if n == 5 else sane)


ids = mostly(st.integers(0, 3), "1", "2", "x", None, 2.0, 1.5, True)
number = mostly(st.integers(1, 60), 0, -3, 0.5, 1e-300, "7", "39.00", "nan", float("nan"), None, "x")
corner = mostly(st.sampled_from([10, 20, 70]), -10, 99, 150, "30", float("inf"))
records = {
    "images": st.fixed_dictionaries(
        {"id": ids, "file_name": st.sampled_from(["a.jpg", "b.jpg", "", "../c.jpg"])},
        optional={"width": st.just(100) | number, "height": st.just(80) | number, "more": st.just({"k": [1]})},
    ),
    "annotations": st.fixed_dictionaries(
        {"id": ids, "image_id": ids, "category_id": ids, "bbox": st.tuples(corner, corner, number, number).map(list)},
        optional={"area": number, "iscrowd": st.sampled_from([0, 0, 1, "0"]), "segmentation": st.just([[1, 2.5]])},
    ),
    "categories": st.fixed_dictionaries({"id": ids, "name": st.sampled_from(["cat", "dog", "", "1", "2", None])}),
}
sound = coco_file(
    images=[{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in (101, 102)],
    boxes=[{"image_id": 101, "category_id": 101}, {"image_id": 102, "category_id": 101}],
    categories=[{"id": 101, "name": "sound"}],
)
for number, entry in enumerate(sound["annotations"], start=101):
    entry["id"] = number


@st.composite
def broken_files(draw):
    """A sound file with random records before, between and after its own."""
    content = copy.deepcopy(sound)
    for kind, record in records.items():
        for extra in draw(st.lists(mostly(record, None, 3, "x", [], {}), max_size=10)):
            content[kind].insert(draw(st.integers(0, len(content[kind]))), extra)
    return content


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=broken_files(), select=st.just([]) | st.lists(st.sampled_from(sorted(REPAIRS)), max_size=3))
def test_any_file_comes_out_loadable_repaired_and_stable(content, select, tmp_path):
    """What is left has a reason, a second run changes nothing, and sound records are as they were."""
    out, report = repaired(tmp_path, content, *select)
    json.dumps(out, allow_nan=False)
    for entry in report.remaining:
        assert entry.reason or entry.finding.code not in REPAIRS, entry
    codes = found(tmp_path / "out.json")
    assert {entry.finding.code for entry in report.remaining} == (codes & {*select} if select else codes)
    for kind in records:
        assert all(record in out[kind] for record in sound[kind]), kind
    again, second = repaired(tmp_path, out, *select)
    assert again == out
    assert second.changes == ()


# ---------------------------------------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("bccd/annotations/train.json", {"F101": 1}),
        ("bccd/annotations/val.json", {"F101": 1}),
        ("json/taco_official.json", {"F001": 2, "F107": 1}),
        ("json/ppe_train.json", {"F105": 32}),
        ("json/healthcheck/healthcheck_bad.json", {"F001": 1, "F003": 1, "F203": 1}),
        ("json/healthcheck/gt.json", {}),
    ],
)
def test_real_files(file, changes, shared, tmp_path):
    """shared/data/README.md names the planted oddities."""
    report = fix(shared / file, tmp_path / "out.json", images=shared / "bccd/images/train" if "bccd" in file else None)
    assert {group.code: len(group.changes) for group in report.changes} == changes
    assert changes or (tmp_path / "out.json").read_text().split() == (shared / file).read_text().split()
    assert not found(tmp_path / "out.json") & changes.keys()


def test_the_page_of_docs_has_every_repair():
    """docs/fix.md, in the order of the codes."""
    rows = [
        f"| {code} | {RULES[code].name}{'*' * bool(repair.opt_in)} | {repair.does} |"
        for code, repair in sorted(REPAIRS.items())
    ]
    assert "\n".join(rows) in (ROOT / "docs" / "fix.md").read_text(encoding="utf-8")


def test_sizes_of_real_pictures_are_those_their_files_had(shared, tmp_path):
    """face_mask: 677 pictures of many sizes; the copy is the file before its sizes were taken out."""
    content = json.loads((shared / "face_mask/annotations/train.json").read_text())
    bare = copy.deepcopy(content)
    for image in bare["images"]:
        del image["width"], image["height"]
    out, report = repaired(tmp_path, bare, "F301", images=shared / "face_mask/images/train")
    assert out == content
    assert len(report.changes[0].changes) == 677
