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
        "and silently left out of the mean. Where half of 3 objects were found, the true recall lies between 13 and "
        "87 % with 95 % confidence; of 100 objects, between 40 and 60 %.",
        example="objects: 'mask_weared_incorrect' 3 (a measured 50 % means 13 to 87 %)",
        fix="split again by class so that each keeps 10 or more objects, or read these classes' AP as a guess",
        source="Wilson 1927, Journal of the American Statistical Association 22, 209-212 (the interval); pycocotools "
        "gives -1 for a class without objects; the bound of 10 is ours",
    ),
    Rule(
        "F503", "picture-of-training", "error", "image",
        what="A picture of another split that is in training too, byte by byte; with --deep also one that nearly is "
        "(as in F316). Where all are only nearly the same it is a warning.",
        why="The detector has seen the answer: AP on it says how well it remembers.",
        example="pictures of train: 1 nearly ('BloodImage_00037.jpg' is 'BloodImage_00038.jpg')",
        fix="take them out of one of the two; deal groups (videos, patients, places) to splits as a whole",
        source="SHA-256, and the perceptual hash of F316",
    ),
    Rule(
        "F504", "class-drift", "warning", "class",
        what="A class in 1.5 times as large a share of the pictures of a split as of training's, or the other way "
        "round, where chance does not explain it: p below 0.01 in Fisher's exact test, after Holm's correction.",
        why="The split measures another mixture than the one trained for: its mean AP says little of training's, and "
        "priors and thresholds that fit one do not fit the other.",
        example="'copper' is in 9 % of val's pictures and in 31 % of train's (p 0.0004)",
        fix="deal the pictures to the splits at random, by class; keep it where the split is meant to differ",
        source="Fisher 1935, The Design of Experiments, ch. 2; Holm 1979, Scandinavian Journal of Statistics 6, 65-70; "
        "the bounds are ours",
    ),
)  # fmt: skip
