"""F1: boxes."""

from __future__ import annotations

from focalcli.audit.rules.page import COCO, Rule

RULES = (
    Rule(
        "F101", "box-without-area", "error", "annotation",
        what="A box whose width or height is zero or negative.",
        why="torchvision stops training on it, other tools divide by its area. focal leaves it out, so an object is "
        "missing from the picture. It is a slip of the mouse or two corners written as width and height.",
        example='"bbox": [120, 80, 0, 0]',
        fix="delete the annotation, or draw the box again if there is an object; `bbox` is [x, y, width, height]",
        source="torchvision RetinaNet.forward: \"All bounding boxes should have positive height and width\"; " + COCO,
    ),
    Rule(
        "F102", "malformed-box", "error", "annotation",
        what="A box that is missing, has not four numbers, or holds NaN or Infinity.",
        why="One NaN makes the whole loss NaN, and pycocotools gives NaN boxes AP 1.0. focal leaves the box out.",
        example='"bbox": [10, 20, 30] or "bbox": [NaN, 20, 30, 40]',
        fix="export again, or delete the annotation; for masks without boxes compute the boxes first",
        source="measured with pycocotools 2.0.11; " + COCO,
    ),
    Rule(
        "F103", "box-outside-picture", "error", "annotation",
        what="A box that lies wholly outside its picture.",
        why="It frames nothing. Many of them mean that the boxes belong to another size of the pictures, or that "
        "corners were written as width and height. focal leaves the box out.",
        example='"bbox": [700, 10, 50, 50] in a 640 x 480 picture',
        fix="check that the boxes are in pixels of the stored picture and that width and height are not swapped",
        source=COCO,
    ),
    Rule(
        "F104", "duplicate-box", "warning", "annotation",
        what="Two boxes of one class in one picture with an IoU of 0.98 or more.",
        why="The object counts twice: in the class counts, in the loss, and in AP, where only one of the two can be "
        "found and the other is a miss for ever.",
        example="annotation 4711 repeats 4708 (image 12, 'rbc', IoU 1.00)",
        fix="delete one of each pair; merged or twice imported files make many of them",
        source="the bound is ours: 1 px of a side of 50 px already lowers the IoU to 0.98; two hands rarely agree so",
    ),
    Rule(
        "F105", "number-as-text", "warning", "record",
        what="A number or an id written as text on one side of the file only.",
        why="Some tools read it, some crash, and some compare \"9\" with \"10\" as words. focal reads it as a number.",
        example='"bbox": [633, 202, "39.00", "37.00"], or "image_id": 7 where `images` has "id": "7"',
        fix="write numbers without quotes",
        source=COCO,
    ),
    Rule(
        "F106", "bad-area", "warning", "annotation",
        what="An `area` that is not a positive number.",
        why="COCO's small, medium and large are cut by `area`, so the object lands in the wrong one. focal takes "
        "width x height instead.",
        example='"bbox": [10, 10, 200, 100], "area": 0',
        fix="write the mask's area, or width x height where there is no mask",
        source="pycocotools cocoeval.py, evaluateImg: `area` against areaRng",
    ),
    Rule(
        "F107", "box-beyond-border", "warning", "annotation",
        what="A box that reaches more than 1 px beyond its picture (less is rounding).",
        why="focal trains on the part inside, but AP is scored against the box as written, as COCOeval does: a model "
        "that is right about every visible pixel still loses IoU.",
        example='"bbox": [600, 10, 80, 50] in a 640 x 480 picture',
        fix="clip the boxes to the picture in the file",
        source=COCO,
    ),
)  # fmt: skip
