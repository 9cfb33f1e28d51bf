"""Which classes are in which pictures, and how many objects of each: what crowding, company and drift count.

Crowds (iscrowd) are left out. Shapes: P pairs of a picture and a class that it holds, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focalcli.coco import Dataset, Ints


@dataclass(frozen=True)
class Pairs:
    """Every picture and class that it holds, once, sorted by picture and then class.

    Attributes:
        image, label: (P,) indices into the dataset's images and categories. objects: (P,) of the class in the picture.
    """

    image: Ints
    label: Ints
    objects: Ints


def find_pairs(dataset: Dataset) -> Pairs:
    """One sort of the boxes; everything else that is counted by picture and class is a pass over the pairs."""
    keep = ~dataset.iscrowd
    k = max(1, len(dataset.categories))
    key, objects = np.unique(dataset.box_image[keep] * k + dataset.box_label[keep], return_counts=True)
    return Pairs(key // k, key % k, objects)
