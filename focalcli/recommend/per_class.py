"""Settings for long tails: from one alpha to one for each class, by how often the classes come.

alpha_by weighs positives against negatives of a class: the odds alpha / (1 - alpha) are multiplied by the class's
weight, so that alpha stays within (0, 1). A sigmoid detector has no label for background that a weight could go to, so
the weight of Cui et al., theirs for whole samples, goes to the positives.

Sources: Cui et al. 2019, "Class-Balanced Loss", arXiv:1901.05555, eq. 2 and sec. 4.
Shapes: K trained classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from focalcli import anchors
from focalcli.anchors import AnchorSpec
from focalcli.audit.imbalance import effective_numbers
from focalcli.coco import Dataset, Floats
from focalcli.errors import FocalError, nearest
from focalcli.recommend.boxes import at_network_size

LEAST = 1e-3  # of alpha and of 1 - alpha: a class that is all positives or all negatives is not trained


def by_name(value: float | Mapping[str, float], names: Sequence[str], key: str) -> float | list[float]:
    """One number, or one for each class in order; `default` serves the classes that a mapping does not name.

    Args:
        value: of the recipe's `key`. names: (K,).

    Raises:
        FocalError: the mapping names a class that is not there, or leaves one out.
    """
    if not isinstance(value, Mapping):
        return value
    for name in value:
        if name != "default" and name not in names:
            near = nearest(name, names)
            raise FocalError(
                f"{key}: no class {name!r} with objects in the training set",
                f"did you mean {near!r}?" if near else f"its classes are {', '.join(names[:8])}",
            )
    missing = [name for name in names if name not in value]
    if missing and "default" not in value:
        raise FocalError(f"{key}: no value for class {missing[0]!r}", "name every class, or add `default`")
    return [value.get(name, value.get("default", 0.0)) for name in names]


def alphas(alpha: float | Sequence[float], weights: Floats) -> list[float]:
    """(K,) alpha of each class, its odds multiplied by its weight. alpha: one number, or (K,)."""
    base = np.broadcast_to(np.asarray(alpha, dtype=np.float64), weights.shape)
    odds = base / (1 - base) * weights
    return [float(value) for value in np.clip(odds / (1 + odds), LEAST, 1 - LEAST)]


def effective_number_weights(objects: Sequence[int], beta: float) -> Floats:
    """(K,) 1 / effective number, (1 - beta) / (1 - beta^n), scaled to a mean of 1 (Cui et al. 2019, sec. 4)."""
    weights = 1 / effective_numbers(np.asarray(objects), beta)
    return weights * len(weights) / weights.sum()


def equilibrium_weights(foreground: Sequence[float]) -> Floats:
    """(K,) what makes every class rest at one score: alpha f = (1 - alpha) (1 + gamma) p^(1 + gamma) for small p.

    So the odds go as 1 / f; scaled to a geometric mean of 1, so that the typical class keeps its alpha.

    Args:
        foreground: positives over all other anchors, > 0.
    """
    logs = -np.log(np.asarray(foreground, dtype=np.float64))
    return np.exp(logs - logs.mean())


def repeat_factors(dataset: Dataset, threshold: float, power: float = 0.5) -> np.ndarray:
    """(I,) how often each picture is shown in an epoch: max over its classes of max(1, (threshold / f_c)^power).

    f_c is the share of pictures that hold class c; power 0.5 is LVIS's square root. Threshold 0: all 1.
    """
    factors = np.ones(len(dataset.image_ids))
    if threshold > 0:
        share = dataset.images_per_class / max(1, len(dataset.image_ids))
        per_class = np.maximum(1.0, (threshold / np.maximum(share, 1e-12)) ** power)
        keep = ~dataset.iscrowd
        np.maximum.at(factors, dataset.box_image[keep], per_class[dataset.box_label[keep]])
    return factors


def frequency_weights(objects: Sequence[int], power: float, most: float = math.inf) -> Floats:
    """(K,) (typical count / count)^power: 0 treats all classes alike, 1 is inverse frequency.

    The typical count is the geometric mean, so that the odds are raised for some as they are lowered for others.

    Args:
        most: no weight is above it or below 1 / most.
    """
    logs = np.log(np.maximum(1, np.asarray(objects, dtype=np.float64)))
    return np.clip(np.exp(power * (logs.mean() - logs)), 1 / most, most)


def foreground_of(train: Dataset, spec: AnchorSpec, min_size: int, max_size: int) -> list[float]:
    """Positives over negatives of each class with objects, in the order of the file; ignored anchors are neither.

    A class without a positive counts as if it had one.
    """
    boxes = at_network_size(train, min_size, max_size)
    counts = anchors.count(boxes.xyxy, boxes.image, boxes.grid, spec)
    k = len(train.categories)
    positives = np.bincount(boxes.label, weights=counts.positives.sum(axis=1), minlength=k)
    positives = np.maximum(positives[train.objects_per_class > 0], 1.0)
    trained = float(anchors.anchors_per_image(spec, boxes.grid).sum() - counts.ignored.sum())
    return [float(share) for share in positives / np.maximum(1.0, trained - positives)]


def varied_alpha(
    alpha: float | list[float], by: str, objects: Sequence[int], beta: float, foreground: Callable[[], Sequence[float]]
) -> float | list[float]:
    """What loss.alpha and loss.alpha_by come to: as it is for none, else one number for each class.

    Args:
        by: none, effective_number or equilibrium. foreground: asked only for equilibrium, as counting it takes time.
    """
    if by == "effective_number":
        return alphas(alpha, effective_number_weights(objects, beta))
    if by == "equilibrium":
        return alphas(alpha, equilibrium_weights(foreground()))
    return alpha
