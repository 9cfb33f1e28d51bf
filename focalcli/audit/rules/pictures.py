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
        source="Pillow's Image.open; damage behind the header is F315's",
    ),
    Rule(
        "F308", "repeated-file-name", "error", "image",
        what="An image with the file_name of an earlier one.",
        why="One picture is loaded twice, and the annotations of each entry know nothing of the other's: what one "
        "frames is background in the other.",
        example="images 12 and 980 are both 'a/0012.jpg'",
        fix="give all annotations of the picture to one entry and delete the other",
        source=COCO,
    ),
    Rule(
        "F309", "same-picture", "warning", "image",
        what="A picture with the same bytes as another of its split.",
        why="It counts twice in training and in AP; where the two are annotated differently, each contradicts the "
        "other.",
        example="'b.jpg' is 'a.jpg' byte by byte",
        fix="keep the one that is annotated better",
        source="SHA-256 of files with the same length and the same last 64 bytes",
    ),
    Rule(
        "F310", "more-than-8-bits", "warning", "image",
        what="A picture with more than 8 bits a channel.",
        why="Tools read it in different ways: Pillow cuts 16-bit grayscale off at 255, so that nearly all is white, "
        "others shift or scale it. focal scales it (65535 becomes 255).",
        example="'scan.png' has more than 8 bits a channel",
        fix="convert to 8 bits yourself, with the range that shows your objects",
        source="measured with Pillow 13: 99.6 % of the values of a 16-bit PNG saturate in convert('RGB')",
    ),
    Rule(
        "F311", "cmyk-picture", "warning", "image",
        what="A picture in the colours of a printer, CMYK.",
        why="Each tool turns it into RGB by a formula of its own, some inverted, mostly without the colour profile: "
        "training and use can see different colours.",
        example="'poster.jpg' is CMYK",
        fix="convert it to RGB with its colour profile (`mogrify -profile sRGB.icc`)",
        source="Pillow's convert('RGB') ignores profiles; Adobe's JPEGs store CMYK inverted (libjpeg.txt)",
    ),
    Rule(
        "F312", "transparent-picture", "warning", "image",
        what="A picture with pixels that are not opaque. From the header alone, where a picture only can have such "
        "pixels, it is an info.",
        why="Dropping transparency, as most loaders do, shows whatever colour lies below, often black or rubbish; "
        "viewers and labelling tools show another one. focal puts it on grey.",
        example="'logo.png' has pixels that are not opaque",
        fix="flatten it onto the background that you labelled it on (`mogrify -background white -alpha remove`)",
        source="measured with Pillow 13: convert('RGB') of RGBA shows the hidden colour",
    ),
    Rule(
        "F313", "mixed-colours", "info", "image",
        what="Grayscale and colour pictures in one split; the finding names the fewer.",
        why="Where the kind goes with a source or a class, the detector can learn the kind. Tools that read files as "
        "they are meet one channel and three.",
        example="582 pictures are grayscale and 18 colour; colour is '92000080_test.jpg'",
        fix="check that both kinds have all classes; grayscale stored as colour is fine",
        source="the pictures' headers",
    ),
    Rule(
        "F314", "animated-picture", "warning", "image",
        what="A file with more than one frame: GIF, APNG, WebP or TIFF.",
        why="Loaders take the first frame, which need not be the one that was labelled.",
        example="'cat.gif' has more than one frame",
        fix="save the labelled frame as a picture of its own",
        source="Pillow's Image.open, focal and OpenCV's imread read the first frame",
    ),
    Rule(
        "F315", "damaged-picture", "error", "image",
        what="A JPEG or PNG that lacks its end, or with --deep any picture whose pixels cannot be decoded.",
        why="Training stops at it, perhaps hours in, or sees a grey lower half without a box knowing of it.",
        example="'0007.jpg': its end is missing: the file was cut short",
        fix="fetch the picture again, or take its entry out",
        source="ITU-T T.81, B.2.1 (EOI); PNG third edition, 5.6 (IEND); decoding is Pillow's",
    ),
    Rule(
        "F316", "nearly-same-picture", "warning", "image",
        what="With --deep: a picture that looks like an earlier one of its split. Their perceptual hashes differ in at "
        "most 4 of 63 bits and their grey levels at 32 x 32 px have a correlation of 0.95 or more.",
        why="Scaled or recompressed copies, bursts and frames of one video count like new pictures and are not; dealt "
        "to two splits at random they make the score too good (F503).",
        example="'frame_0002.jpg' is 'frame_0001.jpg', nearly",
        fix="keep one of each group, or at least keep a group in one split",
        source="Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions, sec. 3.2.1; the "
        "bounds are ours: 10 of 10 such pairs in bccd and face_mask show one scene",
    ),
    Rule(
        "F317", "enormous-picture", "error", "image",
        what="A picture of more than 178,956,970 px.",
        why="Pillow takes it for an attack on your memory and refuses it, so training stops. A file of a few "
        "kilobytes can claim that size. --deep does not decode it.",
        example="'map.png' has 40000 x 40000 px",
        fix="cut it into tiles, and its boxes with it",
        source="Pillow, Image.MAX_IMAGE_PIXELS: an error above twice its value",
    ),
)  # fmt: skip
