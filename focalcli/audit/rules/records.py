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
)  # fmt: skip
