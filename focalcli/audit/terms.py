"""figure -> the page that `focal explain` prints: its definition, how to read it, and where it comes from.

Names are those of the report. Crowds (iscrowd) are left out of every figure.
"""

from __future__ import annotations

from dataclasses import dataclass

from focalcli.audit.rules.page import plain_page

COCO_EVAL = "https://cocodataset.org/#detection-eval"
FOCAL_LOSS = "Lin et al. 2017, arXiv:1708.02002"
LVIS = "Gupta et al. 2019, arXiv:1908.03195"
MATCHER = "torchvision det_utils.Matcher(0.5, 0.4, allow_low_quality_matches=True), repeated to the last anchor"


@dataclass(frozen=True)
class Term:
    """One page.

    Attributes:
        name: kebab-case. title: in words. what: the definition, with its formula and unit. read: what its values mean.
        source: where the claim can be checked.
    """

    name: str
    title: str
    what: str
    read: str
    source: str

    @property
    def doc(self) -> str:
        """The whole page as plain text."""
        parts = {"What it is": self.what, "How to read it": self.read, "Source": self.source}
        return plain_page(f"{self.name}: {self.title}", parts)


_TERMS = (
    # between classes
    Term(
        "group", "rare, common or frequent",
        what="A class's number of training pictures in three groups: rare 1 to 10, common 11 to 100, frequent more. A "
        "class keeps its group in every split.",
        read="AP is reported per group (APr, APc, APf) because the mean over classes hides which of them is poor. A "
        "rare class is short of pictures, which no loss can make up for.",
        source=f"{LVIS}, sec. 4",
    ),
    Term(
        "head-tail", "the largest class against the smallest",
        what="Objects of the most frequent class over those of the least frequent one that has any, as 24:1.",
        read="1:1 is even; 100:1 and more is called long-tailed. It looks at two classes only: read it beside Gini.",
        source="the imbalance factor of Cui et al. 2019, arXiv:1901.05555, sec. 5",
    ),
    Term(
        "gini", "Gini coefficient of the class counts",
        what="G = 2 sum_i i x_i / (K sum_i x_i) - (K + 1) / K with the K counts x sorted upwards and i from 1: half "
        "the mean difference of two classes, over the mean count. Classes without objects are left out.",
        read="0 is even, near (K - 1) / K nearly everything is in one class. It is about all classes, where head to "
        "tail is about two.",
        source="Gini 1912, Variabilita e mutabilita; as half the relative mean absolute difference",
    ),
    Term(
        "entropy", "Shannon's entropy of the class shares",
        what="H = - sum_c p_c log2(p_c) in bits, p_c the share of the objects that are of class c.",
        read="log2(K) when K classes are even, 0 when there is one. 2^H is the number of effective classes.",
        source="Shannon 1948, A Mathematical Theory of Communication, sec. 6",
    ),
    Term(
        "effective-classes", "as many even classes are equally diverse",
        what="2^H, H the entropy of the shares in bits: the number of equally frequent classes with the same entropy.",
        read="Five classes that are as even as 2.8 behave, in the mean over objects, like about three.",
        source="Hill 1973, Ecology 54, 427-432 (number of order 1)",
    ),
    Term(
        "effective-number", "what n objects of a class are worth",
        what="(1 - beta^n) / (1 - beta) with beta = 0.999: each further object adds less, as it is ever more likely to "
        "resemble one that is there. 0 without objects, at most 1000.",
        read="Up to about 100 objects it is nearly n, at 1,000 it is 632, from 5,000 on it no longer grows. Weights of "
        "1 over it even out the classes less harshly than weights of 1 / n.",
        source="Cui et al. 2019, arXiv:1901.05555, eq. 2",
    ),
    # anchors against background
    Term(
        "foreground-background", "the imbalance that focal loss is for",
        what="Negative anchors for each positive one, over all pictures: what is left after the positives and the "
        "ignored. Per class it is n / N, its positives over everything that pushes its score down.",
        read="From 60 to 700 at 320 px and from 350 to 4,600 at 800 px on ten datasets measured: it rises with the "
        "network size, and as objects get fewer.",
        source=f"{FOCAL_LOSS}, sec. 1 and 3 (about 100,000 anchors, few of which hold an object)",
    ),
    Term(
        "positives", "anchors that are assigned to an object",
        what="Anchors whose IoU with an object is 0.5 or more, and of each object the ones it overlaps most, however "
        "little (rescued). An anchor has one owner, the box it overlaps most. Counted as if each picture were a batch.",
        read="The loss of a class is made of its positives. Their median per box says how often an object is seen in "
        "a step: RetinaNet's anchors give about 30 to one that fits them, 1 to one that is only rescued.",
        source=f"{FOCAL_LOSS}, sec. 4; {MATCHER}",
    ),
    Term(
        "ignored", "anchors that are neither object nor background",
        what="Anchors whose best IoU lies from 0.4 to 0.5, unless rescued. They take no part in the loss.",
        read="From 1.1 to 2.3 for each positive on ten datasets measured. Far fewer mean that most positives are "
        "rescued: the anchors are too large for the boxes.",
        source=f"{FOCAL_LOSS}, sec. 4; {MATCHER}",
    ),
    Term(
        "reached", "boxes that meet an anchor",
        what="The share of a class's boxes that overlap some anchor with an IoU of 0.5 or more.",
        read="Near 100 % is good. Below 90 % the anchors do not fit the class (F401): mostly its objects are too small "
        "after the resize, sometimes too long and thin.",
        source=f"{FOCAL_LOSS}, sec. 4; {MATCHER}",
    ),
    Term(
        "rescued", "boxes that only a low-quality match saves",
        what="Boxes below an IoU of 0.5 with every anchor, to which the matcher gives their best anchors all the same.",
        read="They train on one or a few badly fitting anchors. Toolkits without low-quality matches lose them wholly.",
        source=MATCHER,
    ),
    Term(
        "unreached", "boxes without any positive anchor",
        what="Boxes whose best anchors all belong to other boxes, which overlap them more, or that no anchor touches.",
        read="Nothing teaches the network to find them. Repeated boxes, and small ones inside large ones, are the "
        "usual cause (F404).",
        source=MATCHER,
    ),
    Term(
        "level", "the level of the feature pyramid that serves a class",
        what="P3 to P7: maps with a cell for each 8, 16, 32, 64 and 128 px of the picture at network size. The shares "
        "are those of the class's positives; the table names the level with most of them.",
        read="A class that hangs on a level where few other positives lie learns by luck (F402).",
        source=f"{FOCAL_LOSS}, sec. 4; Lin et al. 2017, arXiv:1612.03144 (feature pyramids)",
    ),
    Term(
        "cells-per-side", "cells that a box spans on its level",
        what="The median over a class's positives of sqrt(w h) of their box at network size over the level's stride.",
        read="RetinaNet's anchors give 4 to 8. Below 2.5 a level can hardly place the box.",
        source=f"{FOCAL_LOSS}, sec. 4 (areas 32^2 to 512^2 on strides 8 to 128); measured, see F402",
    ),
    Term(
        "first-loss", "who carries the loss of the first step",
        what="N f- / (n f+ + N f-), where every score is the prior pi, so that each of the n positives costs f+ = - "
        "alpha (1 - pi)^gamma log(pi) and each of the N negatives f- = - (1 - alpha) pi^gamma log(1 - pi); summed over "
        "the outputs of all classes, and for each.",
        read="Near 1 the first steps only teach the head to say no (F608). RetinaNet's alpha 0.25, gamma 2 and prior "
        "0.01 keep it small; a score of 0.5 everywhere, as without a prior, gives over 0.99.",
        source=f"{FOCAL_LOSS}, eq. 5, sec. 3.3 and 4.1",
    ),
    # sizes
    Term(
        "small-medium-large", "COCO's three sizes",
        what="Area below 32^2, up to 96^2, and above. In the file it is the annotation's own `area` (of its mask, "
        "where there is one), as APs, APm and APl take it; at network size it is w h after the resize.",
        read="The file's column says what APs, APm and APl will be made of; the network's what the detector will see.",
        source=COCO_EVAL,
    ),
    Term(
        "side", "side of a box",
        what="sqrt(w h) in px, as 5th, 25th, 50th, 75th and 95th percentile over the class: in the file, and after the "
        "resize to network size. Boxes are clipped to their picture.",
        read="Anchors fit when their sizes span the 5th to the 95th percentile at network size. Under 16 px an object "
        "has fewer than two cells of the finest map (F604).",
        source=f"{FOCAL_LOSS}, sec. 4 (anchor areas)",
    ),
    Term(
        "aspect", "shape of a box",
        what="height / width, as 5th, 25th, 50th, 75th and 95th percentile over the class.",
        read="1 is square, 0.5 twice as wide as high. RetinaNet's anchors have 0.5, 1 and 2; with one of 2, whatever "
        "its size, a box of ratio r > 2 has an IoU of at most 1 / (sqrt(2 r) - 1): 0.69 for 3, and 0.5 for 4.5.",
        source=f"{FOCAL_LOSS}, sec. 4 (ratios); the bound follows from intersection and union of two centred boxes",
    ),
    # places and company
    Term(
        "border", "boxes that end at the picture's border",
        what="Boxes of which a side lies within 1 px of the border, or beyond it, in pictures of known size.",
        read="They are probably cut off: the network sees a part. Up to a quarter of all boxes on ten datasets "
        "measured; over half of a class means that it fills the picture, or that pictures were cut into tiles (F605).",
        source="the width of 1 px is ours: below it a box is rounded, not apart from the border",
    ),
    Term(
        "heat-map", "where the boxes lie",
        what="For each of 24 x 24 cells, laid over every picture stretched to a square, the boxes on its centre.",
        read="A bright middle is how people take pictures. A network learns such a place: expect misses where objects "
        "of another camera lie elsewhere, and use flips and crops.",
        source="Torralba and Efros 2011, Unbiased look at dataset bias (CVPR): capture bias",
    ),
    Term(
        "objects-per-image", "how full the pictures are",
        what="The number of pictures with 0, 1, 2, ... objects of any class.",
        read="Empty pictures are valid negatives. A long tail of full pictures makes the loss of a batch uneven where "
        "it is not divided by the batch's positives.",
        source=f"{FOCAL_LOSS}, sec. 4.1 (the loss is divided by the number of positives)",
    ),
    Term(
        "crowded", "pictures with more objects than are scored",
        what="Pictures with more than 100 objects of one class.",
        read="COCO's evaluation counts the 100 best detections of a class in a picture, so recall there cannot be 1.",
        source=COCO_EVAL,
    ),
    Term(
        "company", "which classes meet in pictures (co-occurrence)",
        what="Of a class's pictures: those without any other class (alone), the class that most of the others hold "
        "(partner, with the share of its pictures), and whether all of them hold the head, the class with the most "
        "pictures. The matrix has, for the 24 classes with the most pictures, those that hold both.",
        read="A class that is never alone can be learned from its company instead of its look (F603).",
        source="Singh et al. 2020, arXiv:2001.03152 (contextual bias)",
    ),
    # between splits
    Term(
        "drift", "is a class as frequent here as in training",
        what="The p-value of Fisher's exact test, two-sided, on pictures with and without the class in the split and "
        "in training, and the same after Holm's correction for the number of classes. Pictures are tested, not "
        "objects: those of one picture come together, and a test on them would take every cluster for a shift.",
        read="An adjusted p below 0.01 is no accident of the deal. In large splits tiny shifts are sure too, so F504 "
        "asks for a ratio of 1.5 of the shares of pictures as well.",
        source="Fisher 1935, The Design of Experiments, ch. 2; Holm 1979, Scandinavian Journal of Statistics 6, 65-70",
    ),
    Term(
        "distance", "how far a split's mixture of classes is from training's",
        what="Total variation: half of the sum over classes of |p_c - q_c|, p_c and q_c the shares of the objects. It "
        "is the share of the objects that would have to change class. Beside it stands what pictures dealt at random "
        "to splits of these sizes give on average, from the variance of a ratio in a sample without replacement.",
        read="0 is the same mixture. At or below the value by chance the split is as good as a random one; several "
        "times above it, training and measuring are about different mixtures.",
        source="Cochran 1977, Sampling Techniques, 3rd ed., ch. 6 (ratios); within 6 % of the mean of 100 random "
        "deals or more on six real datasets of 290 to 34,000 pictures",
    ),
)  # fmt: skip
TERMS: dict[str, Term] = {term.name: term for term in _TERMS}
