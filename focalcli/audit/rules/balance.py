"""F6: balance."""

from __future__ import annotations

from focalcli.audit.rules.page import Rule

RULES = (
    Rule(
        "F601", "rare-class", "warning", "class",
        what="A class that at most 10 training pictures hold: one that LVIS calls rare.",
        why="So few pictures show too little of how the class varies. On LVIS the average precision of rare classes is "
        "well below that of common and frequent ones, whatever the loss; alpha and gamma cannot add what is not there.",
        example="pictures: 'Carded blister pack' 1, 'Battery' 2 and 20 more",
        fix="collect pictures of it, repeat those there are (`data.repeat_threshold`), or leave the class out",
        source="Gupta et al. 2019, arXiv:1908.03195, sec. 4 and 5 (groups of 1-10, 11-100 and more pictures)",
    ),
    Rule(
        "F602", "long-tail", "info", "class",
        what="A training split with 100 or more objects of its largest class for each of its smallest.",
        why="The tail hardly moves the loss and the mean over objects, so training can look finished before the tail "
        "is learned. Read the AP of every class, not the mean alone.",
        example="667:1 from 'Cigarette' (667 objects) to 'Carded blister pack' (1); with at most 1 % of the head's "
        "objects: 14 of 59 classes",
        fix="`focal recommend` sets how often pictures of the tail are repeated; gates: `--max-head-tail`",
        source="100 is the usual long tail of the literature (CIFAR-LT: Cui et al. 2019, arXiv:1901.05555, sec. 5)",
    ),
    Rule(
        "F603", "only-with-head", "info", "class",
        what="A class all of whose training pictures also hold the class with the most pictures, where chance "
        "does not explain it: a probability below 0.01 over all classes, were its pictures drawn from all.",
        why="Nothing in the data tells the class from its company. A network may find it by the head class beside it "
        "and miss it where it stands alone.",
        example="all pictures of 'leash' (60) hold 'dog', which is in 41 % of all pictures",
        fix="add pictures of the class alone; look at its misses and false alarms before you trust its AP",
        source="hypergeometric probability; Singh et al. 2020, arXiv:2001.03152 (contextual bias of co-occurring "
        "categories)",
    ),
    Rule(
        "F604", "mostly-tiny", "warning", "class",
        what="A class with 10 or more training boxes, over half of them under 16 px a side (sqrt of the area) "
        "at network size.",
        why="Such an object spans fewer than two cells of P3 (stride 8), the finest map of a RetinaNet, whatever its "
        "anchors. On AI-TOD, whose objects have 12.8 px on average, detectors that do well on COCO do badly.",
        example="'Cigarette' 66 % of 667 boxes under 16 px, median 13 px",
        fix="raise the network size (`--min-size` shows what changes), or cut the pictures into tiles",
        source="Wang et al. 2021, \"Tiny Object Detection in Aerial Images\" (ICPR 2020); Lin et al. 2017, "
        "arXiv:1708.02002, sec. 4",
    ),
    Rule(
        "F605", "mostly-cut-off", "info", "class",
        what="A class with 30 or more training boxes, over half of which end within 1 px of the picture's border.",
        why="Most of its objects are seen in part, so the network learns parts, and sizes that say where the picture "
        "ends. It is natural for large things seen from near; pictures cut into tiles or crops cause it too.",
        example="they end at the border: 'rut' 69 % of 437 boxes",
        fix="if the pictures are tiles, cut them with an overlap and leave out slivers; otherwise only keep it in mind",
        source="the bounds are ours; in rdd19c_val only 1 of 19 classes is beyond them, ruts, with 69 %",
    ),
    Rule(
        "F606", "mostly-empty", "info", "image",
        what="A training split in which over half of the pictures have no object.",
        why="They are valid negatives, but batches without a single positive teach little, and pictures that nobody "
        "labelled look the same: objects in those are taught as background.",
        example="6,000 of 9,000 pictures have no object",
        fix="check that these pictures were looked at; sample fewer of them if they were",
        source="torchvision RetinaNet.forward (a picture without boxes is background); the bound is ours",
    ),
    Rule(
        "F607", "crowded-picture", "warning", "image",
        what="A picture with more than 100 objects of one class.",
        why="COCO scores the 100 best detections of a class in a picture, and torchvision's RetinaNet gives at most "
        "300 of a picture over all classes: the rest is missed, however good the model is.",
        example="'person' has 312 objects in one picture; scored by 100 detections, its recall cannot pass 96 %",
        fix="cut such pictures into tiles, or mark the crowd as one box with iscrowd 1",
        source="pycocotools cocoeval.py, Params.maxDets; https://github.com/facebookresearch/detectron2/issues/3359",
    ),
    Rule(
        "F608", "negatives-outweigh", "warning", "class",
        what="A loss whose first step is over half due to negatives, at the alpha, gamma and prior that the audit was "
        "given (RetinaNet's, or those of --recipe).",
        why="Then the first steps teach the head to say no to everything, at a learning rate meant for less; the paper "
        "set the prior so that training does not diverge there.",
        example="negatives carry 99.9 % of the first loss at alpha 0.25, gamma 2, prior 0.5 (r.yaml)",
        fix="lower loss.prior (`focal recommend` computes it for this dataset)",
        source="Lin et al. 2017, arXiv:1708.02002, sec. 3.3 and 4.1; the bound of one half is ours",
    ),
)  # fmt: skip
