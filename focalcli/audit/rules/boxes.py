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
        what="A number written as text, or an id that is text on one side of the file only.",
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
    Rule(
        "F108", "corners-as-size", "error", "annotation",
        what="A file whose boxes look like [x1, y1, x2, y2]: read so, every one of 20 or more fits its picture, while "
        "read as [x, y, width, height] a tenth or more reach beyond it. F107 is then left out.",
        why="Every box is wrong: too large, and the more so the farther it lies from the upper left corner. The loss "
        "still falls, so it is often seen only in the pictures.",
        example='"bbox": [400, 300, 460, 360] in a 640 x 480 picture, and no box with x > width anywhere',
        fix="write [x1, y1, x2 - x1, y2 - y1]",
        source="in a file of sizes a box right of the middle has x > width; the bounds are ours; " + COCO,
    ),
    Rule(
        "F109", "normalised-boxes", "error", "annotation",
        what="A file in which no number of any box is above 1.",
        why="COCO's boxes are in pixels. Fractions of the picture's size, as YOLO writes them, become boxes of less "
        "than a pixel in the upper left corner: nothing can be learned from them.",
        example='"bbox": [0.41, 0.33, 0.1, 0.2] in a 640 x 480 picture',
        fix="multiply by the picture's width and height; YOLO's x and y are the centre, COCO's the upper left corner",
        source=COCO,
    ),
    Rule(
        "F110", "box-below-a-pixel", "warning", "annotation",
        what="A box with a side of less than 1 px that is not empty.",
        why="No detector can see it, and one that misses it pays for it in AP. It is a slip of the mouse, or a mask "
        "of which a sliver was left.",
        example='"bbox": [120.5, 80.2, 0.4, 31]',
        fix="delete the annotation, or draw the box again if there is an object",
        source="the bound of 1 px is ours: the pixel is what a picture resolves",
    ),
    Rule(
        "F111", "thin-box", "info", "annotation",
        what="A box more than 20 times as long as it is wide.",
        why="RetinaNet's anchors have sides of 1:2 to 2:1; the best of them overlaps a box of 20:1 with an IoU of "
        "at most 0.19, so the box is rescued at best. It may be a pole, a crack or a slip of the mouse.",
        example="'crack': a box of 612 x 14 px",
        fix="look at a few; draw slips again, and for a class that is thin add anchor ratios (`anchors.ratios`)",
        source="Lin et al. 2017, arXiv:1708.02002, sec. 4 (ratios 1:2, 1:1, 2:1); IoU of two boxes that share a centre",
    ),
    Rule(
        "F112", "area-above-box", "warning", "annotation",
        what="An `area` larger than its box with two pixels added to each side: no mask is larger than its box.",
        why="COCO's small, medium and large are cut by `area`, so the object lands in the wrong one. Often the boxes "
        "were scaled with the pictures and the areas were not.",
        example='"bbox": [10, 10, 20, 20], "area": 6400',
        fix="write the mask's area, or width x height where there is no mask",
        source="pycocotools cocoeval.py, evaluateImg: `area` against areaRng",
    ),
    Rule(
        "F113", "two-classes-on-one-object", "warning", "annotation",
        what="Two boxes of different classes in one picture with an IoU of 0.98 or more.",
        why="In torchvision, and in focal, anchors go to the first of two equal boxes, so the other class gets none "
        "from this object and learns it as background. One of the two is a mistake, or the object truly has both.",
        example="annotations 12 and 13 frame one object as 'mask' and as 'no mask'",
        fix="delete the wrong one; where both are true, make a class of the combination, or keep the finer class",
        source="torchvision det_utils.Matcher: argmax over the boxes; the bound is ours, as in F104",
    ),
    Rule(
        "F114", "boxes-of-whole-pictures", "warning", "class",
        what="A class of which 10 or more objects, and half of all, have boxes that cover 98 % of their picture.",
        why="Such boxes are usually labels of pictures that somebody turned into boxes. The class learns what fills "
        "a picture and not where it is, and is missed where it is small.",
        example="boxes that frame the whole picture: 'fire' 212 of 230",
        fix="draw real boxes; keep the pictures of truly full views",
        source="the bounds are ours",
    ),
    Rule(
        "F115", "same-boxes-in-two-pictures", "warning", "image",
        what="A picture with three or more boxes, all of the same numbers and classes as those of an earlier picture.",
        why="Two hands never draw so. The picture is there twice (F308, F309 and --deep say whether), or a tool copied "
        "the boxes to the next one, where they fit only if nothing moved.",
        example="image 812 has the very boxes of image 811",
        fix="look at both: take one out if they are one picture, draw the boxes again if they are not",
        source="the bound of three boxes is ours: one or two can be equal by chance in a file of whole numbers",
    ),
)  # fmt: skip
