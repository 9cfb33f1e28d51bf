"""The audit: numbers against hand-worked and foreign ones, and a pair of files for each finding."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import coco_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_coco import JSON, mutated

from focalcli import coco
from focalcli.anchors import AnchorSpec
from focalcli.audit import RULES, AuditReport, Finding, audit, imbalance
from focalcli.errors import FocalError

OCTAVES = AnchorSpec((16, 32, 64, 128, 256))
FITTED = AnchorSpec((24, 48, 96, 160, 256))


def audited(*files: Path, spec: AnchorSpec | None = None, images: Path | None = None) -> AuditReport:
    """The report on these files, each a split named after it, at 320 px."""
    splits = {path.stem: coco.load(path, images) for path in files}
    return audit(splits, spec or AnchorSpec(), min_size=320, max_size=1333, check_images=images is not None)


def found(report: AuditReport, code: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.code == code]


# ----------------------------------------------------------------------------------------------------------- imbalance


@pytest.mark.parametrize(
    ("counts", "gini"),
    [([5, 5, 5, 5], 0.0), ([1, 3], 0.25), ([4, 1, 3, 2], 0.25), ([7, 0, 0], 0.0), ([0, 1, 0, 3], 0.25), ([0, 0], None)],
)
def test_gini_is_half_the_relative_mean_difference(counts, gini):
    """Worked by hand: for [1, 3] the mean difference over all pairs is 1, the mean 2, so 1 / 2 / 2."""
    assert imbalance.gini(np.array(counts)) == (None if gini is None else pytest.approx(gini, abs=1e-12))


@pytest.mark.parametrize(("counts", "effective"), [([9] * 7, 7.0), ([1, 1, 2], 2**1.5), ([5, 0], 1.0), ([0], None)])
def test_effective_classes_is_exp_of_the_entropy(counts, effective):
    """Shares 1/4, 1/4, 1/2 have an entropy of 1.5 bits: 2^1.5 = 2.83 classes."""
    assert imbalance.effective_classes(np.array(counts)) == (None if effective is None else pytest.approx(effective))


@pytest.mark.parametrize(("counts", "ratio"), [([10, 2, 0], 5.0), ([3], 1.0), ([0, 0], None)])
def test_head_tail_leaves_out_classes_without_objects(counts, ratio):
    """A category that nobody drew is a finding, not a tail."""
    assert imbalance.head_tail(np.array(counts)) == ratio


def test_head_tail_of_rdd_is_153(shared):
    """The data's README says 153:1."""
    split = audited(shared / "json" / "rdd19c_val.json").splits[0]
    assert round(split.head_tail) == 153


def test_groups_are_lvis_own_for_every_class(shared):
    """lvis_v1_train_cat_info.json has, for 1,203 classes, the image count and the letter LVIS gave it."""
    for row in json.loads((shared / "json" / "lvis_v1_train_cat_info.json").read_text()):
        assert coco.frequency_group(row["image_count"])[0] == row["frequency"], row["name"]


def test_class_rows_count_objects_and_images_without_crowds(write_coco):
    """Three cats in two images and a crowd of dogs, which is no object."""
    boxes = [{}, {"bbox": [200, 20, 90, 80]}, {"image_id": 2}, {"image_id": 2, "category_id": 2, "iscrowd": 1}]
    split = audited(write_coco(boxes)).splits[0]
    cat, dog = split.classes
    assert (cat.images, cat.instances, cat.share, cat.per_image, cat.group) == (2, 3, 1.0, 1.5, "rare")
    assert (dog.images, dog.instances, dog.share, dog.per_image, dog.group) == (0, 0, 0.0, None, None)
    assert (split.n_objects, split.n_crowds, split.n_present, split.most_objects_in_an_image) == (3, 1, 1, 2)


def test_groups_of_every_split_come_from_training(write_coco):
    """Gupta et al. 2019: rare, common and frequent are about training images."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 64} for n in range(1, 12)]
    train = write_coco([{"image_id": n, "bbox": [1, 1, 30, 30]} for n in range(1, 12)], images)
    val = write_coco([{}, {"category_id": 2}], name="val.json")
    assert [row.group for row in audited(val, train).split("val").classes] == ["common", None]


def test_report_without_any_object_has_null_not_nan(write_coco):
    """Undefined is null in JSON, never NaN or -1."""
    report = audited(write_coco([])).to_dict()
    text = json.dumps(report, allow_nan=False)
    split = json.loads(text)["splits"][0]
    assert split["gini"] is split["head_tail"] is split["effective_classes"] is split["classes"][0]["share"] is None
    assert split["anchors"]["background_per_positive"] is None and -1 not in split["classes"][0]["anchors"].values()


# ------------------------------------------------------------------------------------------------------------- anchors


@pytest.mark.parametrize("spec", [AnchorSpec(), OCTAVES, FITTED])
def test_anchor_counts_are_torchvisions(shared, tmp_path, spec):
    """Resize, padding, grid and Matcher of torchvision on five blood pictures: all counts, per class and level."""
    torch = pytest.importorskip("torch")
    from test_anchors import torchvision_anchors
    from torchvision.models.detection._utils import Matcher
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.ops import box_iou

    content = json.loads((shared / "bccd" / "annotations" / "train.json").read_text())
    content["images"] = content["images"][:5]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    dataset, ours = coco.load(path), audited(path, spec=spec).splits[0]

    transform = GeneralizedRCNNTransform(320, 1333, [0.0] * 3, [1.0] * 3)
    totals, per_class = np.zeros(3, dtype=int), np.zeros((len(dataset.categories), 5), dtype=int)
    for index in range(5):
        width, height = dataset.image_wh[index].tolist()
        here = dataset.box_image == index
        target = {"boxes": torch.from_numpy(dataset.boxes_xyxy[here].astype(np.float32))}
        batch, targets = transform([torch.zeros(3, height, width)], [target])
        rows, columns = batch.tensors.shape[-2:]
        iou = box_iou(targets[0]["boxes"], torchvision_anchors(spec, columns, rows))
        owner = Matcher(0.5, 0.4, allow_low_quality_matches=True)(iou).numpy()
        totals += [(owner >= 0).sum(), (owner == -2).sum(), (owner == -1).sum()]
        strides = [8, 16, 32, 64, 128]
        sizes = [-(-rows // s) * -(-columns // s) * 9 for s in strides]
        level = np.repeat(np.arange(5), sizes)
        np.add.at(per_class, (dataset.box_label[here][owner[owner >= 0]], level[owner >= 0]), 1)

    assert (ours.anchors.positives, ours.anchors.ignored, ours.anchors.negatives) == tuple(totals)
    for row, counts in zip(ours.classes, per_class, strict=True):
        assert row.anchors.positives == counts.sum()
        assert row.anchors.negatives == totals[0] + totals[2] - counts.sum()
        assert row.anchors.levels == pytest.approx(tuple(counts / counts.sum()))


def test_reached_rescued_and_unreached_boxes(write_coco):
    """TRAPS 20: at 320 px a square of 64 px is reached and one of 16 px is only rescued (IoU 0.25)."""
    images = [{"id": 1, "file_name": "1.jpg", "width": 320, "height": 320}]
    boxes = [{"bbox": [64, 64, 64, 64]}, {"bbox": [200, 200, 16, 16]}]
    anchors = audited(write_coco(boxes, images)).splits[0].classes[0].anchors
    assert (anchors.boxes, anchors.reached, anchors.rescued, anchors.unreached) == (2, 0.5, 1, 0)
    assert anchors.foreground == anchors.positives / anchors.negatives


def test_second_of_two_equal_boxes_is_unreached(write_coco):
    """torchvision breaks ties towards the first box: the other gets no anchor at all."""
    anchors = audited(write_coco([{}, {"category_id": 2}])).splits[0].classes
    assert [row.anchors.unreached for row in anchors] == [0, 1]


def test_cells_per_side_is_box_side_over_stride(write_coco):
    """A square of 64 px: 8 cells on P3 (stride 8), 4 on P4 (stride 16)."""
    images = [{"id": 1, "file_name": "1.jpg", "width": 320, "height": 320}]
    cells = audited(write_coco([{"bbox": [128, 128, 64, 64]}], images)).splits[0].classes[0].anchors.cells
    assert cells[:2] == pytest.approx((8, 4)) and cells[3:] == (None, None)


def test_crowds_take_no_anchors(write_coco):
    """TRAPS 8."""
    anchors = audited(write_coco([{}, {"image_id": 2, "category_id": 2, "iscrowd": 1}])).splits[0].classes[1].anchors
    assert anchors.boxes == anchors.positives == 0


@pytest.mark.parametrize("size", [(0, 0), (1, 100_000)])
def test_images_of_unusable_size_are_left_out_and_counted(write_coco, size):
    """Unknown, or so narrow that no pixel is left after the resize."""
    odd = {"id": 3, "file_name": "3.jpg", "width": size[0], "height": size[1]}
    split = audited(write_coco([{}, {"image_id": 3, "bbox": [0, 0, 1, 1]}], [*coco_file()["images"], odd])).splits[0]
    assert (split.anchors.images, split.anchors.images_without_size) == (2, 1)
    assert split.classes[0].anchors.boxes == 1 and split.classes[0].instances == 2


# ------------------------------------------------------------------------------------------------------------ findings


def few(n: int, **more: object) -> list[dict]:
    """n cats, side by side, each big enough to be reached."""
    return [{"bbox": [60 * (i % 10), 60 * (i // 10), 58, 58], **more} for i in range(n)]


def small(n: int) -> list[dict]:
    """n cats of 23 px in a picture of 480 px: 15.3 px at a short side of 320."""
    return [{"image_id": 2, "bbox": [30 * i + 5, 5, 23, 23]} for i in range(n)]


def at_border(n: int) -> list[dict]:
    """n cats that end at the left border."""
    return [{"bbox": [0, 10 * i, 60 + i, 60]} for i in range(n)]


PAIRS = {  # code -> (boxes of train that trip it, boxes that do not)
    "F005": ([{"id": 0}], [{"id": 1}]),
    "F104": ([{}, {"bbox": [10.4, 20, 100, 80]}], [{}, {"bbox": [14, 20, 100, 80]}]),
    "F107": ([{"bbox": [600, 5, 45, 90]}], [{"bbox": [600, 5, 40.9, 90]}]),
    "F205": ([{}], [{}, {"image_id": 2, "category_id": 2}]),
    "F401": ([*few(8), {"image_id": 2, "bbox": [5, 5, 9, 9]}], [*few(11), {"image_id": 2, "bbox": [5, 5, 9, 9]}]),
    "F404": ([{}] * 4, [{}] * 3),  # copies: the first box owns the anchors
    "F604": ([*few(4), *small(6)], [*few(5), *small(5)]),
    "F605": (at_border(30), [*at_border(30), *[{}] * 30]),
    "F607": ([{"bbox": [5 * i, 5, 60, 60]} for i in range(101)], [{"bbox": [5 * i, 5, 60, 60]} for i in range(100)]),
}


@pytest.mark.parametrize("code", PAIRS)
def test_finding_trips_and_does_not(write_coco, code):
    """One file on either side of the rule."""
    trips, passes = PAIRS[code]
    finding = found(audited(write_coco(trips)), code)
    assert len(finding) == 1 and finding[0].severity == RULES[code].severity and finding[0].split == "train"
    assert not found(audited(write_coco(passes)), code)


def pictures(*classes: list[int], **more: object) -> dict:
    """Arguments of write_coco: one picture for each list of category ids."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, len(classes) + 1)]
    boxes = [
        {"image_id": n, "category_id": category, "bbox": [70 * place, 9, 60, 60]}
        for n, held in enumerate(classes, start=1)
        for place, category in enumerate(held)
    ]
    return {"boxes": boxes, "images": images, **more}


BY_PICTURE = {  # code -> (classes of each picture of train that trip it, and that do not)
    "F601": ([[1, 2]] * 10 + [[1]], [[1, 2]] * 11),
    "F602": ([[1] * 8] * 25 + [[2, 2]], [[1] * 8] * 24 + [[1] * 7, [2, 2]]),
    "F603": ([[1, 2]] * 8 + [[1]] * 4 + [[]] * 12, [[1, 2]] * 8 + [[1]] * 4 + [[]] * 3),
    "F606": ([[1, 2]] * 3 + [[]] * 4, [[1, 2]] * 3 + [[]] * 3),
}


@pytest.mark.parametrize("code", BY_PICTURE)
def test_finding_about_pictures_trips_and_does_not(write_coco, code):
    """One file on either side of the rule."""
    trips, passes = BY_PICTURE[code]
    (finding,) = found(audited(write_coco(**pictures(*trips))), code)
    assert finding.severity == RULES[code].severity and finding.split == "train"
    assert not found(audited(write_coco(**pictures(*passes))), code)


def test_only_with_head_needs_more_than_chance(write_coco):
    """Eight pictures of dogs, all with a cat, which 12 of 24 have: C(12, 8) / C(24, 8) = 495 / 735,471 = 0.0007. On 3
    of 4 pictures with a cat it is nothing to speak of: C(12, 8) / C(15, 8) = 0.08."""
    (finding,) = found(audited(write_coco(**pictures(*BY_PICTURE["F603"][0]))), "F603")
    assert finding.message == "all pictures of 'dog' (8) hold 'cat', which is in 50 % of all pictures"


def test_rare_classes_are_named_with_their_pictures_the_rarest_first(write_coco):
    """LVIS's bound of 10 pictures, of training only."""
    train = write_coco(**pictures(*[[1]] * 9, [1, 2], [2], [2]))
    val = write_coco(**pictures([1, 2]), name="val.json")
    (finding,) = found(audited(train, val), "F601")
    assert finding.message == "pictures: 'dog' 3, 'cat' 10" and finding.count == 2 and finding.image_ids == (10, 11, 12)


def test_long_tail_says_who_and_how_many(write_coco):
    """200 cats and 2 dogs."""
    (finding,) = found(audited(write_coco(**pictures(*BY_PICTURE["F602"][0]))), "F602")
    expected = "100:1 from 'cat' (200 objects) to 'dog' (2); with at most 1 % of the head's objects: 1 of 2 classes"
    assert finding.message == expected and finding.count == 1


def test_crowded_picture_bounds_recall_in_every_split(write_coco):
    """150 cats in one picture and 50 in another: 150 of 200 can be found by 100 detections a picture."""
    boxes = [{"bbox": [4 * i, 5, 30, 30]} for i in range(150)]
    boxes += [{"image_id": 2, "bbox": [4 * i, 5, 30, 30]} for i in range(50)]
    (finding,) = found(audited(write_coco(), write_coco(boxes, name="val.json")), "F607")
    assert finding.split == "val" and finding.image_ids == (1,)
    assert finding.message.startswith("'cat' has 150 objects in one picture;") and finding.message.endswith(" 75 %")


def test_negatives_that_outweigh_are_found_at_the_losss_own_prior(write_coco):
    """At the paper's prior they carry little, at a score of 0.5 nearly all: Lin et al. 2017, sec. 3.3."""
    dataset = {"train": coco.load(write_coco())}

    def findings(prior: float) -> list[Finding]:
        loss = ("r.yaml", 0.25, 2.0, prior)
        return found(audit(dataset, AnchorSpec(), min_size=320, max_size=1333, loss=loss), "F608")

    assert not findings(0.01)
    (finding,) = findings(0.5)
    assert finding.message.endswith("of the first loss at alpha 0.25, gamma 2, prior 0.5 (r.yaml)")


def test_picture_whose_objects_no_anchor_touches_is_an_error(write_coco):
    """Anchors of 4 px every 8 px leave gaps that a box of 3 px falls into; those of P7, of 6 px, stand 107 px apart."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 320, "height": 320} for n in (1, 2)]
    boxes = [{"bbox": [10.5, 10.5, 3, 3]}, {"image_id": 2, "bbox": [10.5, 10.5, 3, 3]}, {"image_id": 2}]
    report = audited(write_coco(boxes, images), spec=AnchorSpec((2, 2, 2, 2, 2)))
    (finding,) = found(report, "F403")
    assert finding.severity == "error" and finding.image_ids == (1,) and finding.count == 1
    assert report.splits[0].anchors.images_without_positive == 1
    assert not found(audited(write_coco(boxes, images)), "F403")


@pytest.mark.parametrize(("n", "interval"), [(3, "13 to 87 %"), (5, "17 to 83 %"), (9, "23 to 77 %")])
def test_few_objects_come_with_wilsons_interval(write_coco, n, interval):
    """Wilson 1927; statsmodels 0.15 proportion_confint(n / 2, n, method="wilson")."""
    val = write_coco([*few(n), *few(10, category_id=2)], name="val.json")
    (finding,) = found(audited(write_coco(), val), "F502")
    assert finding.message == f"objects: 'cat' {n} (a measured 50 % means {interval})"


def test_only_wanted_findings_are_reported(write_coco):
    """`--select` and `--ignore` choose codes; the figures stay whole."""
    dataset = {"train": coco.load(write_coco([{"id": 0}]))}
    chosen = audit(dataset, AnchorSpec(), min_size=320, max_size=1333, wanted=lambda code: code == "F005").findings
    assert [finding.code for finding in chosen] == ["F005"]


def test_loader_defects_become_one_finding_a_code_with_the_first_places(write_coco):
    """Seven bad boxes: five places, and a count."""
    report = audited(write_coco([{"bbox": [1, 1, 0, 0]}] * 7 + [{}]))
    (finding,) = found(report, "F101")
    assert finding.annotation_ids == (1, 2, 3, 4, 5) and finding.count == 7 and finding.unit == "annotation"


def test_every_code_the_loader_gives_has_a_page():
    """A Defect without a rule would be a KeyError in the audit."""
    from test_coco import DEFECTS

    assert DEFECTS.keys() <= RULES.keys()


@pytest.mark.parametrize("rule", RULES.values(), ids=str)
def test_page_is_complete_and_fits_a_terminal(rule):
    """`focal explain` prints it: what, why, example, fix, source."""
    assert all(len(part) > 10 for part in (rule.what, rule.why, rule.example, rule.fix, rule.source))
    assert max(map(len, rule.doc.splitlines())) <= 100


def test_duplicate_names_both_boxes_and_ignores_other_classes_and_images(write_coco):
    """The later box in the file repeats the earlier one; another class or picture is another object."""
    boxes = [{"id": 4708}, {"id": 2, "category_id": 2}, {"id": 3, "image_id": 2}, {"id": 4711}, {"id": 5, "iscrowd": 1}]
    (finding,) = found(audited(write_coco(boxes)), "F104")
    assert finding.annotation_ids == (4711,) and finding.count == 1 and finding.image_ids == (1,)
    assert "annotation 4711 repeats 4708 ('cat', IoU 1.00)" in finding.message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(*[st.integers(1, 120)] * 4), min_size=2, max_size=30))
def test_duplicate_search_finds_what_all_pairs_find(write_coco, corners):
    """The sweep along x leaves out no pair: held against the IoU of every two boxes."""
    from focalcli.audit.checks.boxes import duplicate_pairs

    dataset = coco.load(write_coco([{"bbox": [x / 50, y / 50, 100 + w / 50, 90 + h / 50]} for x, y, w, h in corners]))
    boxes = np.concatenate([dataset.boxes[:, :2], dataset.boxes[:, :2] + dataset.boxes[:, 2:]], axis=1)
    side = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    inter, area = side.prod(axis=2), dataset.boxes[:, 2:].prod(axis=1)
    iou = inter / (area[:, None] + area - inter)
    expected = set(zip(*np.nonzero(np.triu(iou >= 0.98, 1)), strict=True))
    first, second, _ = duplicate_pairs(dataset)
    assert set(zip(first, second, strict=True)) == expected


def test_rdd_has_two_repeated_boxes(shared):
    """A plain double loop over the boxes of each picture and class found 2 pairs with an IoU of 0.98 or more."""
    assert found(audited(shared / "json" / "rdd19c_val.json"), "F104")[0].count == 2


def test_ghost_that_another_split_uses_is_pointed_out(write_coco):
    """No model trained here can find it."""
    val = write_coco([{"category_id": 2}], name="val.json")
    (finding,) = found(audited(write_coco([{}]), val), "F205")
    assert "'dog' (id 2); but val has 1 of 'dog'" in finding.message


def test_categories_that_differ_between_splits_are_an_error(write_coco):
    """TRAPS 3: matched by name; a name that only one of them has is an error."""
    other = [{"id": 1, "name": "cat"}, {"id": 2, "name": "Dog"}]
    (finding,) = found(audited(write_coco(), write_coco(categories=other, name="val.json")), "F501")
    assert finding.severity == "error" and finding.split == "val" and "'Dog'" in finding.message


def test_categories_with_other_ids_are_a_warning(write_coco):
    """TRAPS 3: by name they still match here, other tools go by the id."""
    other = [{"id": 2, "name": "cat"}, {"id": 1, "name": "dog"}]
    (finding,) = found(audited(write_coco(), write_coco(categories=other, name="val.json")), "F501")
    assert finding.severity == "warning" and "'cat' is 2 here and 1 in train" in finding.message


def test_same_categories_in_another_order_are_fine(write_coco):
    """Order means nothing."""
    other = [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}]
    assert not found(audited(write_coco(), write_coco(categories=other, name="val.json")), "F501")


@pytest.mark.parametrize(("n", "trips"), [(0, True), (9, True), (10, False)])
def test_class_with_fewer_than_10_objects_in_val_is_named(write_coco, n, trips):
    """TRAPS 36: its AP there has no meaning."""
    val = write_coco([*few(n), *few(10, category_id=2)], name="val.json")
    finding = found(audited(write_coco(), val), "F502")
    assert bool(finding) is trips and all("'cat'" in f.message and "'dog'" not in f.message for f in finding)


@pytest.mark.parametrize(("spec", "trips"), [(OCTAVES, True), (FITTED, False), (AnchorSpec(), False)])
def test_white_cells_on_a_starved_level_are_found(shared, spec, trips):
    """Measured on BCCD at 320 px: with octaves from 16 px the class is learned or not by luck of the seed."""
    finding = found(audited(shared / "bccd" / "annotations" / "train.json", spec=spec), "F402")
    assert [f.message.startswith("'WBC' has 45 % of its positives on P6") for f in finding] == [True] * trips


def test_worst_is_the_gravest_severity(write_coco):
    """What --fail-on compares with."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, 12)]
    clean = [{"image_id": n, "category_id": c, "bbox": [200 * c, 9, 90, 90]} for n in range(1, 12) for c in (1, 2)]
    assert audited(write_coco(clean, images)).worst() is None
    assert audited(write_coco([*clean, {"id": 0, "image_id": 2}], images)).worst() == "warning"
    assert audited(write_coco([*clean, {"bbox": [0, 0, 0, 0]}], images)).worst() == "error"


# ------------------------------------------------------------------------------------------------------------ pictures


def picture(path: Path, size: tuple[int, int] = (640, 480), orientation: int | None = None) -> None:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)


def test_pictures_as_the_file_says_are_no_finding(write_coco, tmp_path):
    """JPEG and PNG, no EXIF."""
    images = [{"id": 1, "file_name": "1.jpg", "width": 640, "height": 480}]
    images += [{"id": 2, "file_name": "2.png", "width": 640, "height": 480}]
    for image in images:
        picture(tmp_path / image["file_name"])
    assert not [f for f in audited(write_coco(images=images), images=tmp_path).findings if f.code.startswith("F3")]


def test_missing_picture_is_an_error_and_no_picture_at_all_a_warning(write_coco, tmp_path):
    """All missing usually means another folder: said once, with the option that names it."""
    path = write_coco()
    (none,) = found(audited(path, images=tmp_path), "F302")
    assert none.severity == "warning" and none.count == 2 and "--images" in none.hint
    picture(tmp_path / "1.jpg")
    (one,) = found(audited(path, images=tmp_path), "F302")
    assert one.severity == "error" and one.image_ids == (2,)


def test_picture_of_another_size_is_an_error(write_coco, tmp_path):
    """Its boxes are in the wrong place."""
    picture(tmp_path / "1.jpg", (1280, 960))
    (finding,) = found(audited(write_coco(), images=tmp_path), "F305")
    assert finding.message == "'1.jpg' is 1280 x 960, the file says 640 x 480"


@pytest.mark.parametrize(
    ("stored", "orientation", "codes"),
    [
        ((640, 480), 6, {"F306"}),  # boxes in the stored frame
        ((480, 640), 6, {"F306"}),  # boxes in the shown frame
        ((480, 640), 3, {"F305"}),  # half a turn swaps nothing
        ((640, 480), 3, set()),
        ((1280, 960), 8, {"F305", "F306"}),
    ],
)
def test_exif_quarter_turn_says_which_frame_the_boxes_are_in(write_coco, tmp_path, stored, orientation, codes):
    """TRAPS 31: raw (100, 40) against transposed (40, 100)."""
    picture(tmp_path / "1.jpg", stored, orientation)
    findings = [f for f in audited(write_coco(), images=tmp_path).findings if f.code in ("F305", "F306")]
    assert {finding.code for finding in findings} == codes
    frame = {(640, 480): "stored size for 1", (480, 640): "shown size for 1"}
    assert all(frame.get(stored, "of 1") in finding.message for finding in findings if finding.code == "F306")


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0", b"GIF89a"])
def test_unreadable_header_is_an_error_and_no_traceback(write_coco, tmp_path, data):
    """Empty, a web page, or cut after the first bytes."""
    (tmp_path / "1.jpg").write_bytes(data)
    assert found(audited(write_coco(), images=tmp_path), "F307")[0].image_ids == (1,)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "http://x/a.jpg"])
def test_file_name_that_escapes_is_an_error_and_is_not_opened(write_coco, tmp_path, name):
    """TRAPS 12; the picture outside exists, and its size would differ."""
    picture(tmp_path / "secret.jpg", (10, 10))
    (tmp_path / "root").mkdir()
    images = [{"id": 1, "file_name": name, "width": 640, "height": 480}]
    report = audited(write_coco([{}], images), images=tmp_path / "root")
    assert found(report, "F304")[0].image_ids == (1,) and not found(report, "F305")


def test_check_images_off_looks_at_no_file(write_coco):
    """For annotation files without pictures beside them."""
    assert not [f for f in audited(write_coco()).findings if f.code.startswith("F3")]


# ---------------------------------------------------------------------------------------------------------- everything


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(JSON, min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_any_file_that_loads_can_be_audited_and_printed(tmp_path, values, seed):
    """Whatever is in it: JSON without NaN, and the table, also where the terminal only has ASCII."""
    import io

    from rich.console import Console

    from focalcli.render.audit_table import print_audit

    content, rng = coco_file(), random.Random(seed)
    for value in values:
        content = mutated(content, value, rng)
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    try:
        report = audited(path, images=tmp_path)
    except FocalError:
        return
    json.dumps(report.to_dict(), allow_nan=False)
    for encoding in ("utf-8", "ascii"):
        print_audit(report, Console(file=io.TextIOWrapper(io.BytesIO(), encoding), markup=False, emoji=False))


def test_audit_needs_neither_torch_nor_rich_nor_pillow_to_import():
    """A fence: the heavy libraries are imported where they are used."""
    import subprocess
    import sys

    code = "import sys, focalcli.audit; print([m for m in ('torch', 'rich', 'PIL', 'pycocotools') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
