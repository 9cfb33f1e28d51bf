"""F0: records and ids."""

from __future__ import annotations

from focalcli.audit.rules.page import COCO, Rule

RULES = (
    Rule(
        "F001", "duplicate-annotation-id", "error", "annotation",
        what="Two annotations with the same id.",
        why="pycocotools keeps one of them and reads the other's matches as its own: perfect detections score AP 0.25 "
        "where two boxes share one id. focal numbers them afresh and uses both, so its own AP is right; that of other "
        "tools is not.",
        example='{"id": 309, "image_id": 93, ...} and {"id": 309, "image_id": 101, ...} (TACO has two such pairs)',
        fix="give every annotation an id of its own, counted from 1",
        source="pycocotools cocoeval.py, evaluateImg: gtMatches holds ids; measured with pycocotools 2.0.11",
    ),
    Rule(
        "F002", "duplicate-image-id", "error", "image",
        what="Two entries of `images` with the same id.",
        why="Annotations name their picture by its id, so those of both land on one picture, where half of them are "
        "wrong. focal keeps the first entry.",
        example='{"id": 1, "file_name": "a.jpg"} and {"id": 1, "file_name": "b.jpg"}',
        fix="give every image an id of its own and correct `image_id` in its annotations; merged files need new ids",
        source=COCO,
    ),
    Rule(
        "F003", "unknown-image", "error", "annotation",
        what="An annotation whose image_id is not in `images`.",
        why="The object is lost: focal leaves it out, pycocotools never scores it.",
        example='"image_id": 77 where `images` holds 1 to 50',
        fix="restore the image's entry, or delete its annotations with it when you take a picture out",
        source=COCO,
    ),
    Rule(
        "F004", "unreadable-record", "error", "record",
        what="An entry that is not an object, or that lacks a usable `id`, `image_id` or `category_id`.",
        why="Nobody can say what it belongs to, so it is left out.",
        example='{"image_id": 3, "category_id": null, "bbox": [1, 2, 3, 4]}',
        fix="look at the export script: ids must be whole numbers (text is tolerated)",
        source=COCO,
    ),
    Rule(
        "F005", "annotation-id-zero", "warning", "annotation",
        what="An annotation with id 0.",
        why="pycocotools writes the matched annotation's id and reads 0 as \"no match\", so that object can never be "
        "found; perfect detections of one object score AP 0. focal numbers annotations afresh before it scores.",
        example='"annotations": [{"id": 0, ...}] as some exporters count',
        fix="count annotation ids from 1 if other tools read the file",
        source="pycocotools cocoeval.py, evaluateImg: gtMatches == 0; measured with pycocotools 2.0.11",
    ),
    Rule(
        "F006", "no-objects", "warning", "record",
        what="A split without a single object that can be used: no annotations, crowds only, or none that are sound.",
        why="There is nothing to learn from it and nothing to measure: AP is undefined for every class.",
        example='"annotations": [] as in the image lists that COCO gives for its test pictures',
        fix="annotate, or give the file that has the annotations",
        source="pycocotools gives -1 for a class without objects",
    ),
    Rule(
        "F007", "huge-id", "warning", "record",
        what="An id above 2^53 or below -2^53.",
        why="Whole numbers that large are rounded by JavaScript and by every tool with doubles for numbers (pandas "
        "with a missing value in the column, many viewers): two ids become one. Beyond 2^63 numpy fails.",
        example='"id": 9007199254740993, which becomes 9007199254740992',
        fix="number from 1; keep hashes and timestamps in a key of their own",
        source="RFC 8259, sec. 6 (numbers); IEEE 754 double precision has 53 bits",
    ),
    Rule(
        "F008", "missing-key", "info", "annotation",
        what="Annotations without `iscrowd` or without `area`.",
        why="pycocotools stops with a KeyError where it evaluates them. focal takes 0 and width x height. LVIS has no "
        "`iscrowd` by design, and brings a scorer of its own.",
        example="`iscrowd` is missing in 977 of 977 annotations",
        fix="write \"iscrowd\": 0 and the mask's area, or width x height, if pycocotools is to score the file",
        source="measured with pycocotools 2.0.11: cocoeval.py reads gt['iscrowd'] and gt['area']; LVIS v1 format",
    ),
    Rule(
        "F009", "ignore-without-crowd", "warning", "annotation",
        what="An annotation with `ignore` set and `iscrowd` not.",
        why="COCOeval overwrites `ignore` with `iscrowd`, so the object that somebody wanted left out is scored, and "
        "most trainers learn it. focal does as COCOeval does.",
        example='{"id": 8, "ignore": 1, "iscrowd": 0, ...}',
        fix="set `iscrowd` to 1 for regions to leave out, or delete them",
        source="pycocotools cocoeval.py, _prepare: gt['ignore'] = 'iscrowd' in gt and gt['iscrowd']; measured",
    ),
)  # fmt: skip
