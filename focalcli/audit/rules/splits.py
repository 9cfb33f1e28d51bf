"""F5: between splits."""

from __future__ import annotations

from focalcli.audit.rules.page import Rule

RULES = (
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
