"""Rules of records, boxes, categories and pictures: for each a dataset that trips it and one, close by, that does not.

What each planted oddity of the real data must be called is at the end. Anchors, balance and splits have tests of their
own (test_audit, test_drift); what the loader alone finds is in test_coco too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import coco_file
from PIL import Image

from focalcli import coco
from focalcli.anchors import AnchorSpec
from focalcli.audit import RULES, Finding, audit
from focalcli.coco import find_splits

OWN = {code for code in RULES if code[:2] in ("F0", "F1", "F2", "F3")} | {"F503"}


def findings(*files: Path, images: Path | None = None, deep: bool = False) -> list[Finding]:
    """All of these files, each a split named after it; pictures are looked at only where `images` is given."""
    splits = {file.stem: coco.load(file, images) for file in files}
    checked = audit(splits, AnchorSpec(), min_size=320, max_size=1333, check_images=images is not None, deep=deep)
    return list(checked.findings)


def codes(*files: Path, **options: object) -> set[str]:
    return {finding.code for finding in findings(*files, **options)}


def only(found: list[Finding], code: str) -> Finding:
    (finding,) = [finding for finding in found if finding.code == code]
    return finding


# ------------------------------------------------------------------------------------------------ the annotation file

IMAGE = {"id": 1, "file_name": "1.jpg", "width": 640, "height": 480}
WITHOUT_KEY = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 100, 80], "area": 8000}


def boxes(*lists: list[float], **more: object) -> dict:
    """A file with these boxes, cats in picture 1."""
    return coco_file([{"bbox": list(numbers), "area": None, **more} for numbers in lists])


def in_image(image_id: int, *lists: list[float]) -> list[dict]:
    return [{"image_id": image_id, "bbox": list(numbers), "area": None} for numbers in lists]


def named(*names: str) -> dict:
    return coco_file(categories=[{"id": number, "name": name} for number, name in enumerate(names, start=1)])


def changed(**keys: object) -> dict:
    return coco_file() | keys


# as corners each of 20 boxes fits 640 x 480, as sizes 9 of them do not; the last one of the twin has x > width
CORNERS = [[30 * n, 20 * n, 30 * n + 40, 20 * n + 60] for n in range(20)]
SIZES = [*CORNERS[:19], [570, 380, 40, 60]]
WHOLE = [[0, 0, 640, 478]] * 10
THREE = ([10, 10, 50, 50], [200, 10, 60, 40], [300, 200, 90, 90])
MOVED = ([10, 10, 50, 50], [200, 10, 60, 40], [300, 201, 90, 90])

FILES = {  # code -> (a file that trips it, one that does not)
    "F001": (coco_file([{"id": 7}, {"id": 7, "bbox": [300, 20, 50, 50]}]), coco_file([{"id": 7}, {"id": 8}])),
    "F002": (coco_file(images=[IMAGE, IMAGE | {"file_name": "b.jpg"}]), coco_file()),
    "F003": (coco_file([{"image_id": 77}]), coco_file([{"image_id": 2}])),
    "F004": (coco_file([{"category_id": None}, {}]), coco_file([{"category_id": 2}, {}])),
    "F005": (coco_file([{"id": 0}]), coco_file([{"id": 1}])),
    "F006": (coco_file([{"iscrowd": 1}]), coco_file([{"iscrowd": 1}, {}])),
    "F007": (coco_file([{"id": 2**53 + 1}]), coco_file([{"id": 2**53}])),
    "F008": (changed(annotations=[WITHOUT_KEY]), changed(annotations=[WITHOUT_KEY | {"iscrowd": 0}])),
    "F009": (coco_file([{"ignore": 1}]), coco_file([{"ignore": 1, "iscrowd": 1}, {"ignore": 0}])),
    "F101": (boxes([10, 10, 0, 20]), boxes([10, 10, 1, 20])),
    "F102": (boxes([10, 10, 20]), boxes([10, 10, 20, 20])),
    "F103": (boxes([640, 10, 20, 20]), boxes([639, 10, 1, 20])),
    "F104": (coco_file([{}, {"bbox": [10.4, 20, 100, 80]}]), coco_file([{}, {"bbox": [14, 20, 100, 80]}])),
    "F105": (boxes([10, 10, "20", 20]), boxes([10, 10, 20, 20])),
    "F106": (coco_file([{"area": 0}]), coco_file([{"area": 1}])),
    "F107": (boxes([600, 5, 45, 90]), boxes([600, 5, 40.9, 90])),
    "F108": (boxes(*CORNERS), boxes(*SIZES)),
    "F109": (boxes([0.4, 0.3, 0.1, 0.2], [0, 0, 1, 1]), boxes([0.4, 0.3, 0.1, 0.2], [0, 0, 1, 2])),
    "F110": (boxes([10, 10, 0.5, 40]), boxes([10, 10, 1, 20])),
    "F111": (boxes([10, 10, 202, 10]), boxes([10, 10, 200, 10])),
    "F112": (coco_file([{"area": 102 * 82 + 1}]), coco_file([{"area": 102 * 82}])),
    "F113": (coco_file([{}, {"category_id": 2}]), coco_file([{}, {"category_id": 2, "bbox": [14, 20, 100, 80]}])),
    "F114": (boxes(*WHOLE), boxes(*WHOLE[:9], *THREE)),
    "F115": (
        coco_file([*in_image(1, *THREE), *in_image(2, *reversed(THREE))]),
        coco_file([*in_image(1, *THREE), *in_image(2, *MOVED)]),
    ),
    "F201": (coco_file(categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]), coco_file()),
    "F202": (named("cat", "cat"), named("cat", "Cat")),
    "F203": (coco_file([{"category_id": 3}, {}]), coco_file([{"category_id": 2}, {}])),
    "F204": (named("cat", ""), named("cat", "dog")),
    "F205": (coco_file([{}]), coco_file([{}, {"category_id": 2, "image_id": 2}])),
    "F206": (named("no_helmet", "No Helmet"), named("no_helmet", "helmet")),
    "F207": (named("cat ", "dog"), named("cat 2", "dog")),
    "F208": (coco_file(categories=[{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}]), coco_file()),
    "F209": (
        coco_file([{"category_id": 0}], categories=[{"id": 0, "name": "cat"}]),
        coco_file([{}], categories=[{"id": 0, "name": "all"}, {"id": 1, "name": "cat"}]),
    ),
    "F301": (coco_file(images=[IMAGE | {"height": 0}]), coco_file(images=[IMAGE])),
    "F303": (coco_file(images=[IMAGE | {"file_name": ""}]), coco_file(images=[IMAGE])),
    "F308": (coco_file(images=[IMAGE, IMAGE | {"id": 2}]), coco_file()),
}


@pytest.mark.parametrize("code", FILES)
def test_file_trips_the_rule_and_its_twin_does_not(tmp_path, code):
    """The pairs above; a finding has its page's severity and counts what the page says it counts."""
    path = tmp_path / "train.json"
    for content, trips in zip(FILES[code], (True, False), strict=True):
        path.write_text(json.dumps(content))
        found = [finding for finding in findings(path) if finding.code == code]
        assert [finding.severity for finding in found] == [RULES[code].severity] * trips
        assert all(finding.unit == RULES[code].unit and finding.count >= 1 for finding in found)


def test_missing_keys_are_one_finding_that_counts_annotations(tmp_path):
    """A tool that does not write a key leaves it out everywhere: LVIS has 1.27 million of them."""
    path = tmp_path / "train.json"
    records = [WITHOUT_KEY | {"id": number} for number in range(1, 4)] + [{**WITHOUT_KEY, "id": 4, "iscrowd": 0}]
    del records[0]["area"]
    path.write_text(json.dumps(changed(annotations=records)))
    finding = only(findings(path), "F008")
    assert (
        finding.count == 3
        and finding.message == "`iscrowd` is missing in 3 and `area` is missing in 1 of 4 annotations"
    )


def test_corners_read_as_sizes_are_not_called_boxes_beyond_the_border_too(tmp_path):
    """One cause, one finding."""
    path = tmp_path / "train.json"
    path.write_text(json.dumps(boxes(*CORNERS)))
    assert "F107" not in codes(path) and only(findings(path), "F108").count == 9


@pytest.mark.parametrize("names", [("-", "_"), ("+", "++"), ("a", "á"), ("type-1", "type-2")])
def test_names_that_differ_in_more_than_spelling_are_two_classes(tmp_path, names):
    """Nothing is left of '-' and '_' without hyphens and underscores, which makes them no more alike."""
    path = tmp_path / "train.json"
    path.write_text(json.dumps(named(*names)))
    assert "F206" not in codes(path)


# -------------------------------------------------------------------------------------------------------- the pictures

Make = Callable[[Path], None]


def texture(seed: int = 0, size: tuple[int, int] = (640, 480), mode: str = "RGB") -> Image.Image:
    """A picture that is like no other: 8 x 8 random colours, drawn large."""
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).convert(mode)


def saved(name: str = "1.jpg", picture: Image.Image | None = None, **options: object) -> Make:
    def make(root: Path) -> None:
        (picture or texture()).save(root / name, **options)

    return make


def written(data: bytes) -> Make:
    return lambda root: (root / "1.jpg").write_bytes(data) and None


def all_of(*makes: Make) -> Make:
    def make(root: Path) -> None:
        for one in makes:
            one(root)

    return make


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    import io

    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def opacity(value: int) -> Image.Image:
    picture = texture(mode="RGBA")
    picture.putalpha(value)
    return picture


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size, with hardly any pixels behind it."""
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))

    header = struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


JPEG, PNG = encoded(texture(), "JPEG"), encoded(texture(), "PNG")
WIDE_GREY = Image.fromarray(np.full((480, 640), 30_000, dtype=np.uint16))
TWO = all_of(saved("1.jpg"), saved("2.jpg", texture(1)))
FRAMES = {"save_all": True, "append_images": [texture(1)]}

PICTURES: dict[str, tuple[Make, Make, bool]] = {  # code -> (what trips it, what does not, whether with --deep)
    "F302": (saved("1.jpg"), TWO, False),
    "F305": (saved(picture=texture(size=(480, 640))), TWO, False),
    "F306": (saved(exif=turned(6)), saved(exif=turned(3)), False),
    "F307": (written(b"<html>404</html>"), saved(), False),
    "F309": (all_of(saved("1.jpg"), saved("2.jpg")), TWO, False),
    "F310": (saved(picture=WIDE_GREY, format="PNG"), saved(picture=texture(mode="L"), format="PNG"), False),
    "F311": (saved(picture=texture(mode="CMYK")), saved(), False),
    "F312": (saved(picture=opacity(200), format="PNG"), saved(picture=opacity(255), format="PNG"), True),
    "F313": (all_of(saved("1.jpg"), saved("2.jpg", texture(1, mode="L"))), TWO, False),
    "F314": (saved(format="GIF", **FRAMES), saved(format="GIF"), False),
    "F315": (written(JPEG[: len(JPEG) // 2]), written(JPEG + b"trailer of a camera"), False),
    "F316": (all_of(saved("1.jpg"), saved("2.jpg", quality=40)), TWO, True),
    "F317": (written(png_of_size(20_000, 20_000)), written(png_of_size(10_000, 10_000)), False),
}


@pytest.mark.parametrize("code", PICTURES)
def test_picture_trips_the_rule_and_its_twin_does_not(write_coco, tmp_path, code):
    """The pairs above; 1.jpg and 2.jpg may be missing or of any format, whatever they are called."""
    trips, passes, deep = PICTURES[code]
    for number, (make, expected) in enumerate([(trips, True), (passes, False)]):
        root = tmp_path / str(number)
        root.mkdir()
        make(root)
        found = [finding for finding in findings(write_coco(), images=root, deep=deep) if finding.code == code]
        assert [finding.severity for finding in found] == [RULES[code].severity] * expected


def test_name_or_link_out_of_the_root_is_found_and_not_opened(write_coco, tmp_path):
    """TRAPS 12: by name, by a linked picture, and through a linked folder; a link that stays inside is fine."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    saved("1.jpg", texture(size=(10, 10)))(outside)
    saved("in.jpg")(root)
    (root / "link.jpg").symlink_to(outside / "1.jpg")
    (root / "folder").symlink_to(outside)
    (root / "inner.jpg").symlink_to("in.jpg")
    names = ["../outside/1.jpg", "link.jpg", "folder/1.jpg", "inner.jpg"]
    images = [IMAGE | {"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    found = findings(write_coco([{}], images), images=root)
    assert only(found, "F304").image_ids == (1, 2, 3)
    assert {finding.code for finding in found if finding.code.startswith("F3")} == {"F304"}


@pytest.mark.parametrize("data", [JPEG[:-2], PNG[:-5], PNG[: len(PNG) // 2], JPEG[:1000]])
def test_picture_cut_short_anywhere_behind_its_header_is_found_without_decoding(write_coco, tmp_path, data):
    """Both formats say where they end: T.81, B.2.1 (EOI); PNG third edition, 5.6 (IEND)."""
    written(data)(tmp_path)
    assert {"F315", "F307"} & codes(write_coco(), images=tmp_path)


def test_deep_finds_damage_in_the_pixels(write_coco, tmp_path):
    """A PNG with its end in place and a byte of its pixels changed: only decoding shows it."""
    data = bytearray(PNG)
    data[len(data) // 2] ^= 0xFF
    written(bytes(data))(tmp_path)
    path = write_coco()
    assert "F315" not in codes(path, images=tmp_path) and "F315" in codes(path, images=tmp_path, deep=True)


@pytest.mark.parametrize(("picture", "severity"), [(opacity(200), "warning"), (opacity(255), None)])
def test_transparency_is_an_info_until_the_pixels_were_looked_at(write_coco, tmp_path, picture, severity):
    """Screenshots have an opaque alpha channel: from the header nobody can tell."""
    saved(picture=picture, format="PNG")(tmp_path)
    path = write_coco()
    assert only(findings(path, images=tmp_path), "F312").severity == "info"
    deep = [finding for finding in findings(path, images=tmp_path, deep=True) if finding.code == "F312"]
    assert [finding.severity for finding in deep] == [severity] * (severity is not None)


def test_huge_pictures_are_never_decoded(write_coco, tmp_path, monkeypatch):
    """A decompression bomb: a few hundred bytes that claim 400 million pixels."""
    from focalcli.audit.checks import decode

    written(png_of_size(20_000, 20_000))(tmp_path)
    monkeypatch.setattr(decode, "decode", lambda path: pytest.fail(f"{path} was decoded"))
    assert "F317" in codes(write_coco(), images=tmp_path, deep=True)


# -------------------------------------------------------------------------------------------------------- two splits


def two_splits(write_coco, tmp_path: Path, val_picture: Make) -> tuple[list[Path], Path]:
    """train.json with a/1.jpg and val.json with b/1.jpg."""
    for folder, make in (("a", saved("1.jpg", texture(3))), ("b", val_picture)):
        (tmp_path / folder).mkdir()
        make(tmp_path / folder)
    files = []
    for name, folder in (("train", "a"), ("val", "b")):
        images = [IMAGE | {"id": 41, "file_name": f"{folder}/1.jpg"}]
        files.append(write_coco([{"image_id": 41}], images, name=f"{name}.json"))
    return files, tmp_path


@pytest.mark.parametrize(
    ("val_picture", "deep", "severity"),
    [
        (saved("1.jpg", texture(3)), False, "error"),
        (saved("1.jpg", texture(3)), True, "error"),
        (saved("1.jpg", texture(3), quality=50), False, None),
        (saved("1.jpg", texture(3), quality=50), True, "warning"),
        (saved("1.jpg", texture(3, (320, 240)), quality=90), True, "warning"),
        (saved("1.jpg", texture(4)), True, None),
    ],
)
def test_picture_of_training_in_another_split(write_coco, tmp_path, val_picture, deep, severity):
    """The same bytes are an error; saved again, or at half the size, is seen by --deep and a warning."""
    files, root = two_splits(write_coco, tmp_path, val_picture)
    found = [finding for finding in findings(*files, images=root, deep=deep) if finding.code == "F503"]
    assert [finding.severity for finding in found] == [severity] * (severity is not None)
    assert all(finding.split == "val" and finding.image_ids == (41,) for finding in found)


def test_deep_reports_every_picture_once(write_coco, tmp_path):
    """(done, total) for a progress bar, damaged pictures included."""
    files, root = two_splits(write_coco, tmp_path, written(JPEG[: len(JPEG) // 2]))
    seen: list[tuple[int, int]] = []
    splits = {file.stem: coco.load(file, root) for file in files}
    audit(splits, AnchorSpec(), min_size=320, max_size=1333, deep=True, progress=lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 2)]


# --------------------------------------------------------------------------------------------------------- everything


def test_every_rule_of_these_families_has_its_pair():
    """A rule without a file that trips it may never trip."""
    assert FILES.keys() | PICTURES.keys() | {"F304", "F503"} == OWN


PLANTED = {  # what the README of the real data says, and what looking at it showed
    "bccd": {("train", "F101", 1), ("val", "F101", 1)},
    "face_mask": {("train", "F209", 1), ("train", "F005", 1)},
    "deeppcb_600": {("train", "F313", 12), ("val", "F313", 6)},
    "json/taco_official.json": {("taco_official", "F001", 2), ("taco_official", "F107", 1)},
    "json/ppe_train.json": {("ppe_train", "F105", 32), ("ppe_train", "F205", 1), ("ppe_train", "F113", 1)},
    "json/rdd19c_val.json": {("rdd19c_val", "F101", 5), ("rdd19c_val", "F104", 2), ("rdd19c_val", "F308", 3)},
    "json/lvis_val_100.json": {("lvis_val_100", "F008", 977)},
    "json/gt_ignore_test.json": {("gt_ignore_test", "F105", 13)},
    "json/healthcheck/healthcheck_bad.json": {
        ("healthcheck_bad", code, 1) for code in ("F001", "F002", "F003", "F203", "F301")
    },
    "json/healthcheck/healthcheck_quality.json": {
        ("healthcheck_quality", code, n) for code, n in (("F101", 1), ("F104", 1), ("F107", 2), ("F111", 1))
    },
    "json/healthcheck/zero_gt.json": {("zero_gt", "F005", 1), ("zero_gt", "F209", 1)},
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_oddities_of_real_data_are_found(shared, name):
    """shared/data/README.md, and the files themselves."""
    splits = {split: coco.load(file) for split, file in find_splits(shared / name).items()}
    report = audit(splits, AnchorSpec(), min_size=320, max_size=1333, check_images="json" not in name)
    found = {(finding.split, finding.code, finding.count) for finding in report.findings}
    assert PLANTED[name] <= found


def test_bccd_has_a_scene_of_training_in_val(shared):
    """BloodImage_00037 and 00038 show the same cells, a few pixels apart: looked at by eye; no other pair is alike."""
    splits = {split: coco.load(file) for split, file in find_splits(shared / "bccd").items()}
    report = audit(splits, AnchorSpec(), min_size=320, max_size=1333, deep=True)
    finding = only(list(report.findings), "F503")
    assert finding.split == "val" and finding.count == 1 and finding.severity == "warning"
    assert "'BloodImage_00037.jpg' is 'BloodImage_00038.jpg'" in finding.message
    assert not {"F309", "F315", "F316"} & {finding.code for finding in report.findings}


@pytest.mark.filterwarnings("error")
def test_boxes_of_any_size_are_checked_without_a_warning(tmp_path):
    """In pictures of unknown size nothing bounds them; numpy's warnings would end up on stderr."""
    sizes = [1e-300, 0.5, 1, 1e154, 1e300]
    lists = [[x, x, w, h] for x in (0, 1e300, 1e308) for w in sizes for h in sizes if w * h < 1e307]
    content = boxes(*lists, *lists)
    content["images"][0] |= {"width": 0}
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    assert {"F104", "F110"} <= codes(path)
