"""F3: pictures."""

from __future__ import annotations

from focalcli.audit.rules.page import COCO, Rule

RULES = (
    Rule(
        "F301", "missing-image-size", "warning", "image",
        what="An image without a positive width and height in the file.",
        why="Its boxes cannot be checked against the picture, and its anchors cannot be counted; it is left out of "
        "the anchor figures.",
        example='{"id": 2, "file_name": "b.jpg", "width": 100, "height": 0}',
        fix="write the picture's width and height into its entry",
        source=COCO,
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
        source=COCO,
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
)  # fmt: skip
