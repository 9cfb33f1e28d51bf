"""F2: categories."""

from __future__ import annotations

from focalcli.audit.rules.page import COCO, Rule

RULES = (
    Rule(
        "F201", "duplicate-category-id", "error", "class",
        what="Two categories with the same id.",
        why="Objects of both become one class. focal keeps the first name.",
        example='{"id": 3, "name": "bus"} and {"id": 3, "name": "truck"}',
        fix="give each category an id of its own and correct `category_id` in its annotations",
        source=COCO,
    ),
    Rule(
        "F202", "duplicate-category-name", "error", "class",
        what="Two categories with the same name.",
        why="The model has to tell two classes apart that are one: each is background for the other, and splits, which "
        "are matched by name, cannot be matched.",
        example='{"id": 1, "name": "car"} and {"id": 7, "name": "car"}',
        fix="merge the two into one id, or rename one",
        source="each class is a sigmoid output of its own: Lin et al. 2017, arXiv:1708.02002, sec. 4",
    ),
    Rule(
        "F203", "unknown-category", "error", "annotation",
        what="An annotation whose category_id is not in `categories`.",
        why="The object is lost: focal leaves it out, one tool crashes on it, pycocotools gives its class AP -1.",
        example='"category_id": 99 where `categories` holds 1 to 80',
        fix="add the category, or correct the ids (a shift by one is the usual cause)",
        source="measured with pycocotools 2.0.11; " + COCO,
    ),
    Rule(
        "F204", "nameless-category", "warning", "class",
        what="A category without a name.",
        why="Reports can only show its id, and splits are matched by name.",
        example='{"id": 4, "name": ""}',
        fix="give it a name",
        source=COCO,
    ),
    Rule(
        "F205", "ghost-category", "warning", "class",
        what="A category without a single object in the training split.",
        why="In most tools it takes an output that learns only to say no; focal does not train it. Exporters such as "
        "Roboflow's write one with id 0 for the whole project. Where another split has objects of it, no model "
        "trained here can find them.",
        example='{"id": 0, "name": "cells", "supercategory": "none"} and no annotation with category_id 0',
        fix="take it out of `categories`, or collect pictures of it",
        source=COCO,
    ),
)  # fmt: skip
