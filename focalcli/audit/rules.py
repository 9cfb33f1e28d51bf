"""code -> the page that `focal explain CODE` prints. Codes are stable: they are never reused for another meaning.

F0 records and ids, F1 boxes, F2 categories, F3 pictures, F4 anchors, F5 between splits. coco.py finds those that only
a reader of the file can see (Defect), checks.py the others.

Severity: an error makes training or its numbers wrong, or loses data; a warning costs accuracy or hurts other tools.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import TextWrapper

from focalcli.audit.report import Severity, Unit

PAGE_WIDTH = 88
_COCO = "https://cocodataset.org/#format-data"


@dataclass(frozen=True)
class Rule:
    """One page.

    Attributes:
        name: kebab-case. unit: what a finding counts. what, why: prose. example: a line that trips the rule, or
            what a report says of it.
        fix: the next step, in one line; findings carry it as their hint. source: where the claim can be checked.
    """

    code: str
    name: str
    severity: Severity
    unit: Unit
    what: str
    why: str
    example: str
    fix: str
    source: str

    @property
    def doc(self) -> str:
        """The whole page as plain text, in lines of at most PAGE_WIDTH."""
        parts = {
            "What it finds": self.what,
            "Why it is bad": self.why,
            "Example": self.example,
            "How to fix": self.fix,
            "Source": self.source,
        }
        wrap = TextWrapper(PAGE_WIDTH, "  ", "  ", break_long_words=False, break_on_hyphens=False)
        return f"{self.code} {self.name} ({self.severity})\n" + "".join(
            f"\n{title}\n{wrap.fill(text)}\n" for title, text in parts.items()
        )


_RULES = (
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
        source=_COCO,
    ),
    Rule(
        "F003", "unknown-image", "error", "annotation",
        what="An annotation whose image_id is not in `images`.",
        why="The object is lost: focal leaves it out, pycocotools never scores it.",
        example='"image_id": 77 where `images` holds 1 to 50',
        fix="restore the image's entry, or delete its annotations with it when you take a picture out",
        source=_COCO,
    ),
    Rule(
        "F004", "unreadable-record", "error", "record",
        what="An entry that is not an object, or that lacks a usable `id`, `image_id` or `category_id`.",
        why="Nobody can say what it belongs to, so it is left out.",
        example='{"image_id": 3, "category_id": null, "bbox": [1, 2, 3, 4]}',
        fix="look at the export script: ids must be whole numbers (text is tolerated)",
        source=_COCO,
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
        "F101", "box-without-area", "error", "annotation",
        what="A box whose width or height is zero or negative.",
        why="torchvision stops training on it, other tools divide by its area. focal leaves it out, so an object is "
        "missing from the picture. It is a slip of the mouse or two corners written as width and height.",
        example='"bbox": [120, 80, 0, 0]',
        fix="delete the annotation, or draw the box again if there is an object; `bbox` is [x, y, width, height]",
        source="torchvision RetinaNet.forward: \"All bounding boxes should have positive height and width\"; " + _COCO,
    ),
    Rule(
        "F102", "malformed-box", "error", "annotation",
        what="A box that is missing, has not four numbers, or holds NaN or Infinity.",
        why="One NaN makes the whole loss NaN, and pycocotools gives NaN boxes AP 1.0. focal leaves the box out.",
        example='"bbox": [10, 20, 30] or "bbox": [NaN, 20, 30, 40]',
        fix="export again, or delete the annotation; for masks without boxes compute the boxes first",
        source="measured with pycocotools 2.0.11; " + _COCO,
    ),
    Rule(
        "F103", "box-outside-picture", "error", "annotation",
        what="A box that lies wholly outside its picture.",
        why="It frames nothing. Many of them mean that the boxes belong to another size of the pictures, or that "
        "corners were written as width and height. focal leaves the box out.",
        example='"bbox": [700, 10, 50, 50] in a 640 x 480 picture',
        fix="check that the boxes are in pixels of the stored picture and that width and height are not swapped",
        source=_COCO,
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
        source=_COCO,
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
        source=_COCO,
    ),
    Rule(
        "F201", "duplicate-category-id", "error", "class",
        what="Two categories with the same id.",
        why="Objects of both become one class. focal keeps the first name.",
        example='{"id": 3, "name": "bus"} and {"id": 3, "name": "truck"}',
        fix="give each category an id of its own and correct `category_id` in its annotations",
        source=_COCO,
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
        source="measured with pycocotools 2.0.11; " + _COCO,
    ),
    Rule(
        "F204", "nameless-category", "warning", "class",
        what="A category without a name.",
        why="Reports can only show its id, and splits are matched by name.",
        example='{"id": 4, "name": ""}',
        fix="give it a name",
        source=_COCO,
    ),
    Rule(
        "F205", "ghost-category", "warning", "class",
        what="A category without a single object in the training split.",
        why="In most tools it takes an output that learns only to say no; focal does not train it. Exporters such as "
        "Roboflow's write one with id 0 for the whole project. Where another split has objects of it, no model "
        "trained here can find them.",
        example='{"id": 0, "name": "cells", "supercategory": "none"} and no annotation with category_id 0',
        fix="take it out of `categories`, or collect pictures of it",
        source=_COCO,
    ),
    Rule(
        "F301", "missing-image-size", "warning", "image",
        what="An image without a positive width and height in the file.",
        why="Its boxes cannot be checked against the picture, and its anchors cannot be counted; it is left out of "
        "the anchor figures.",
        example='{"id": 2, "file_name": "b.jpg", "width": 100, "height": 0}',
        fix="write the picture's width and height into its entry",
        source=_COCO,
    ),
    Rule(
        "F302", "image-missing", "error", "image",
        what="A picture that is not where its file_name says. Where not one is found it is a warning, said once.",
        why="Training stops at it, or a tool skips it and trains on less than you think.",
        example="3 of 4954 pictures are not below images/train, the first is 'a/0001.jpg'",
        fix="copy the missing pictures, or take their entries out",
        source="the file itself",
    ),
    Rule(
        "F303", "missing-file-name", "error", "image",
        what="An image without a file_name.",
        why="Its picture cannot be opened.",
        example='{"id": 5, "coco_url": "http://images.cocodataset.org/val2017/000000000139.jpg"} as in LVIS',
        fix="write `file_name`, relative to the image folder; for LVIS it is the end of coco_url",
        source=_COCO,
    ),
    Rule(
        "F304", "file-name-escapes-root", "error", "image",
        what="A file_name that is absolute, holds `..` or a drive, is a URL, or is a link out of the image folder.",
        why="A dataset from elsewhere could make you open, and show in reports, any file of your computer. focal "
        "opens nothing outside the image folder.",
        example='"file_name": "../../home/me/.ssh/id_rsa" or "C:\\\\data\\\\1.jpg"',
        fix="make file_name relative to the image folder; `--images DIR` names another folder",
        source="CWE-22, https://cwe.mitre.org/data/definitions/22.html",
    ),
    Rule(
        "F305", "image-size-differs", "error", "image",
        what="A picture whose stored size is not the one in the file.",
        why="The boxes were drawn on a picture of another size, so they are all in the wrong place.",
        example="image 12 ('a.jpg') is 1280 x 960, the file says 640 x 480",
        fix="scale the boxes to the stored pictures, or restore the pictures they were drawn on",
        source="the picture's header",
    ),
    Rule(
        "F306", "exif-rotated", "warning", "image",
        what="A picture that its EXIF orientation (5 to 8) turns by a quarter, and which of its sizes the file has.",
        why="Viewers and labelling tools show the turned picture, many loaders read the unturned one: boxes that fit "
        "one lie sideways in the other.",
        example="'a.jpg' is stored 100 x 40 and shown 40 x 100; the file says 40 x 100: boxes are in the shown frame",
        fix="store the pictures upright (`exiftran -ai`, `mogrify -auto-orient`) with boxes in the same frame",
        source="EXIF 2.32, tag 0x0112; measured with Pillow",
    ),
    Rule(
        "F307", "unreadable-picture", "error", "image",
        what="A picture whose header cannot be read: damaged, cut short, or no picture at all.",
        why="Training stops at it, perhaps hours in.",
        example="'0007.jpg': cannot identify image file (it is an HTML page that says 404)",
        fix="fetch the picture again, or take its entry out",
        source="Pillow's Image.open; pixels are not decoded, so damage past the header is not seen here",
    ),
    Rule(
        "F401", "anchors-miss-boxes", "warning", "class",
        what="A class with more than 10 % of its boxes below IoU 0.5 with every anchor.",
        why="Such a box has at best its one rescued anchor, which overlaps it badly, and many toolkits rescue none: "
        "the class trains on a fraction of its objects. Small objects after the resize are the usual case: with "
        "anchors from 32 px, a square of 16 px has a best IoU of 0.25, one of 22 px 0.47.",
        example="'Platelets': 43 % of 259 boxes overlap no anchor with IoU >= 0.5",
        fix="fit the anchors to the boxes (`focal recommend` does), or raise the network size",
        source="Lin et al. 2017, arXiv:1708.02002, sec. 4 (IoU 0.5 and 0.4); torchvision det_utils.Matcher",
    ),
    Rule(
        "F402", "level-too-coarse", "warning", "class",
        what="A class with 25 % or more of its positives on a level where its boxes span fewer than 2.5 cells a side "
        "(median) and which holds less than 10 % of all positives.",
        why="That level sees few positives, and too few cells to place a box: its head features stay untrained. On "
        "BCCD at 320 px with anchors 16 to 256, where white cells of 126 px put 45 % of their positives on P6 (2 "
        "cells a side, 4 % of all positives), the class ended at AP50 0.07 or 0.99 by luck of the seed; with anchors "
        "24, 48, 96, 160, 256 it was always learned. RetinaNet's own anchors give 4 to 8 cells a side.",
        example="'WBC': 45 % of its positives are on P6, where its boxes span 2.0 cells and 4 % of all positives lie",
        fix="raise the anchor sizes so that the class moves to a finer level (`focal recommend` fits them)",
        source="measured; Lin et al. 2017, arXiv:1708.02002, sec. 4 (areas 32^2 to 512^2 on strides 8 to 128)",
    ),
    Rule(
        "F501", "categories-differ", "error", "class",
        what="Two splits that do not have the same categories. Where only ids differ it is a warning.",
        why="A name that training does not have can never be found, and counts as AP 0; tools that go by the id score "
        "one class against another. focal matches splits by name.",
        example="val has 'no helmet', train has 'no_helmet'",
        fix="write the same `categories` into every split",
        source="https://github.com/open-mmlab/mmdetection/issues/2361 (mAP 0 for that reason)",
    ),
    Rule(
        "F502", "few-objects-to-measure", "warning", "class",
        what="A class that training has, with fewer than 10 objects in another split.",
        why="Its AP there is noise: with 3 objects one more hit moves it by a third, and with none it is undefined "
        "and silently left out of the mean.",
        example="val: 'mask_weared_incorrect' has 3 objects",
        fix="split again by class so that each keeps 10 or more objects, or read these classes' AP as a guess",
        source="pycocotools gives -1 for a class without objects; the bound of 10 is ours",
    ),
)  # fmt: skip

RULES: dict[str, Rule] = {rule.code: rule for rule in _RULES}
