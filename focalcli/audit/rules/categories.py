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
    Rule(
        "F206", "similar-names", "warning", "class",
        what="Categories whose names differ only in case, blanks, hyphens or underscores.",
        why="They are most likely one class that was spelled in two ways: its objects are split over two outputs, each "
        "of which learns the other's as background.",
        example="'No_Helmet' and 'no helmet'",
        fix="merge them into one id, or give them names that tell them apart",
        source="each class is a sigmoid output of its own: Lin et al. 2017, arXiv:1708.02002, sec. 4",
    ),
    Rule(
        "F207", "blank-in-name", "warning", "class",
        what="A category name that begins or ends with a blank, or holds a character that cannot be printed.",
        why="It looks like another name in every report, and does not match it: not between splits, not in a recipe, "
        "not in the code that uses the model.",
        example='"name": "helmet " beside "helmet" in another split',
        fix="strip the name, in every split",
        source="focal and most tools compare names letter by letter; printable is what Unicode calls so",
    ),
    Rule(
        "F208", "categories-out-of-order", "info", "class",
        what="Categories whose ids do not ascend in the file.",
        why="pycocotools' getCatIds() keeps the order of the file and its COCOeval sorts; tools that number classes by "
        "the one and read scores by the other swap names. focal sorts by id everywhere.",
        example='"categories": [{"id": 3, ...}, {"id": 1, ...}]',
        fix="sort `categories` by id",
        source="pycocotools coco.py, getCatIds; cocoeval.py, Params: sorted; measured with pycocotools 2.0.11",
    ),
    Rule(
        "F209", "category-id-zero", "info", "class",
        what="A category with id 0 that has objects.",
        why="Tools that keep 0 for the background, as torchvision's Faster R-CNN does, learn these objects as "
        "background when ids are used as labels. focal numbers classes afresh and keeps the ids beside them.",
        example="'with_mask', which has 3,184 objects, is category 0",
        fix="nothing for focal; count category ids from 1 if other tools read the file",
        source="torchvision roi_heads.py, assign_targets_to_proposals: the label of background is 0",
    ),
)  # fmt: skip
