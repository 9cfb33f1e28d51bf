"""The figures of an audit beside class counts and anchors: sizes, places, crowding, company, drift, the first loss.

Frozen rows, as in report.py: shares are fractions in 0..1, None is undefined. Crowds (iscrowd) are left out everywhere.
Each figure has a page in terms.py, which `focal explain` prints. K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

# COCO's small, medium and large: area below 32^2, up to 96^2, above (https://cocodataset.org/#detection-eval)
AREA_NAMES, AREA_EDGES = ("small", "medium", "large"), (32.0**2, 96.0**2)
PERCENTILES = (5, 25, 50, 75, 95)
SIDE_EDGES = (0, 4, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024, 10**6)  # px, half octaves
ASPECT_EDGES = (0, 1 / 8, 1 / 5, 1 / 3, 1 / 2, 1 / 1.4, 1.4, 2, 3, 5, 8, 10**6)  # height / width
HEAT_CELLS = 24  # columns and rows of the heat map
MOST_TOGETHER = 24  # classes of the co-occurrence matrix
MAX_DETECTIONS = 100  # COCO scores no more of a class in one picture


@dataclass(frozen=True)
class ClassScale:
    """How large the boxes of one class are, clipped to their pictures; None and empty without boxes.

    Attributes:
        in_file, at_network: boxes that are small, medium, large by the file's `area`, and by w * h after the resize.
        side, side_at_network: PERCENTILES of sqrt(w h) in px, in the file and after the resize.
        aspect: PERCENTILES of height / width.
        sides, aspects: boxes between each two SIDE_EDGES (at network size) and ASPECT_EDGES.
        at_border: boxes within 1 px of their picture's border; they are probably cut off.
    """

    in_file: tuple[int, int, int]
    at_network: tuple[int, int, int]
    side: tuple[float, ...] | None
    side_at_network: tuple[float, ...] | None
    aspect: tuple[float, ...] | None
    sides: tuple[int, ...]
    aspects: tuple[int, ...]
    at_border: int


@dataclass(frozen=True)
class Company:
    """Which classes one class shares its pictures with.

    Attributes:
        alone: pictures of the class without an object of another class.
        partner: the class in most of its pictures besides, and `partner_share` the share of its pictures that hold it;
            None where it is never beside another.
        only_with_head: True when every picture of the class holds the head too, the class with the most pictures; the
            head itself is not.
    """

    alone: int
    partner: str | None
    partner_share: float | None
    only_with_head: bool


@dataclass(frozen=True)
class Together:
    """Pictures in which two classes meet, for the MOST_TOGETHER classes with the most pictures.

    Attributes:
        names: the classes. images: (n, n) pictures that hold both; the diagonal is the class's own pictures.
    """

    names: tuple[str, ...]
    images: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Layout:
    """Where the boxes lie and how many share a picture.

    Attributes:
        heat: (HEAT_CELLS, HEAT_CELLS) boxes that cover each cell's centre, rows from the top, every picture stretched
            to a square; pictures of unknown size left out.
        at_border: boxes within 1 px of their picture's border.
        objects_per_image: (objects, images) pairs, ascending, zero included.
        crowded: pictures with more than MAX_DETECTIONS objects of one class.
    """

    heat: tuple[tuple[int, ...], ...]
    at_border: int
    objects_per_image: tuple[tuple[int, int], ...]
    crowded: int


@dataclass(frozen=True)
class ClassDrift:
    """One class in another split against training.

    Attributes:
        share, train_share: of the objects of each split. images, train_images: pictures that hold the class.
        p_value: of Fisher's exact test, two-sided, on pictures with and without the class in both splits; pictures, not
            objects, because those of one picture come together. adjusted: after Holm's correction for K classes.
    """

    name: str
    share: float | None
    train_share: float | None
    images: int
    train_images: int
    p_value: float
    adjusted: float


@dataclass(frozen=True)
class Drift:
    """How far the classes of a split are from those of training.

    Attributes:
        distance: total variation of the two distributions of objects: the share of them that would have to change
            class. by_chance: what pictures dealt at random would give on average.
        classes: those that training or the split has, the most significant first.
    """

    split: str
    distance: float | None
    by_chance: float | None
    classes: tuple[ClassDrift, ...]


@dataclass(frozen=True)
class FirstLoss:
    """The share of the first step's loss that negatives carry when every score is the prior (Lin et al. 2017, 3.3).

    Attributes:
        source: where alpha, gamma and prior come from, "RetinaNet" or a recipe's path.
        alpha, gamma, prior: None where the recipe has one for each class.
        negatives: share over all classes; per_class: (K,) of each, None without positives.
    """

    source: str
    alpha: float | None
    gamma: float | None
    prior: float | None
    negatives: float | None
    per_class: tuple[float | None, ...]
