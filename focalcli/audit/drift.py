"""How far the classes of a split are from those of training: is it more than chance, and how large is it.

Whether: Fisher's exact test of each class on pictures with and without it (Fisher 1935, "The Design of Experiments",
ch. 2), two-sided, adjusted for the number of classes after Holm (1979, Scandinavian Journal of Statistics 6, 65-70).
Pictures are what was dealt to the splits; the objects of one picture come together, so a test on objects would call
every cluster a drift. How large: the total variation distance of the two distributions of objects, beside what it is
on average when pictures are dealt at random.

Shapes: K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from focalcli.audit.figures import ClassDrift, Drift
from focalcli.audit.pairs import Pairs
from focalcli.chance import holm
from focalcli.coco import Dataset, Floats, Ints

SAME = 1 + 1e-7  # outcomes whose probabilities differ by less are equally probable: lgamma is exact to about 1e-9


def find_drift(split: str, other: Dataset, train: Dataset, pairs: Pairs, train_pairs: Pairs) -> Drift:
    """Compare by class name, as splits are matched. pairs, train_pairs: of `other` and of `train`."""
    names = list(dict.fromkeys((*train.class_names, *other.class_names)))
    index = {name: place for place, name in enumerate(names)}
    tables = []
    for dataset, found in ((other, pairs), (train, train_pairs)):
        place = np.array([index[name] for name in dataset.class_names], dtype=np.int64)
        tables.append(Pairs(found.image, place[found.label], found.objects))
    n, n_train = len(other.image_ids), len(train.image_ids)
    images, train_images = (_pictures(table, len(names)) for table in tables)
    objects, train_objects = (np.bincount(table.label, weights=table.objects, minlength=len(names)) for table in tables)
    share, train_share = _shares(objects), _shares(train_objects)

    present = np.flatnonzero(images + train_images)
    p_values = fisher_exact(images[present], n, train_images[present], n_train)
    adjusted = holm(p_values)
    size = np.zeros(len(names))
    if share is not None and train_share is not None:
        size = np.abs(share - train_share)
    order = np.lexsort((-size[present], p_values))
    return Drift(
        split=split,
        distance=float(size.sum() / 2) if share is not None and train_share is not None else None,
        by_chance=_distance_by_chance(tables, (n, n_train), len(names)),
        classes=tuple(
            ClassDrift(
                name=names[present[row]],
                share=None if share is None else float(share[present[row]]),
                train_share=None if train_share is None else float(train_share[present[row]]),
                images=int(images[present[row]]),
                train_images=int(train_images[present[row]]),
                p_value=float(p_values[row]),
                adjusted=float(adjusted[row]),
            )
            for row in order
        ),
    )


def _pictures(table: Pairs, k: int) -> Ints:
    """(K,) pictures that hold each class; two categories of one name are one class here."""
    key = np.sort(table.image * k + table.label)
    return np.bincount(key[np.diff(key, prepend=-1) > 0] % k, minlength=k)


def _shares(objects: Floats) -> Floats | None:
    return objects / objects.sum() if objects.any() else None


def fisher_exact(with_class: Ints, n: int, train_with_class: Ints, n_train: int) -> Floats:
    """Two-sided p-value of each class: the probability of all deals that are not more probable than the real one.

    With the pictures of both splits and of the class given, the number of the latter that land in the first split is
    hypergeometric. All its values are summed, so the cost is the number of pictures that hold a class, over all.

    Args:
        with_class, train_with_class: (K,) pictures of each split that hold the class.
        n, n_train: pictures of each split.

    Returns:
        (K,) in 0..1.
    """
    log_factorial = np.array([math.lgamma(count + 1) for count in range(n + n_train + 1)])

    def log_choose(total: Ints | int, chosen: Ints) -> Floats:
        return log_factorial[total] - log_factorial[chosen] - log_factorial[total - chosen]

    p_values = np.ones(len(with_class))
    for row, (here, there) in enumerate(zip(with_class.tolist(), train_with_class.tolist(), strict=True)):
        low, high = max(0, here + there - n_train), min(here + there, n)
        value = np.arange(low, high + 1)
        log_p = log_choose(n, value) + log_choose(n_train, here + there - value)
        probability = np.exp(log_p - log_p.max())
        as_odd = probability <= probability[here - low] * SAME
        p_values[row] = min(1.0, float(probability[as_odd].sum() / probability.sum()))
    return p_values


def _distance_by_chance(tables: Sequence[Pairs], n: Sequence[int], k: int) -> float | None:
    """The mean total variation distance of two splits of these sizes that pictures are dealt to at random.

    A class's share is a ratio of two sums over pictures, x objects of the class over t objects of any, so the
    difference between the splits has the variance N / (n m) S^2 / mean(t)^2, S^2 that of x - P t over all N = n + m
    pictures (Cochran 1977, "Sampling Techniques", 3rd ed., ch. 6). Its mean absolute value is that of a normal
    variable, sqrt(2 / pi) of the deviation, and never above 2 P, which is the exact value for a class of one object.
    """
    both = sum(n)
    x, label = np.concatenate([t.objects for t in tables]), np.concatenate([t.label for t in tables])
    totals = [np.bincount(t.image, weights=t.objects, minlength=size) for t, size in zip(tables, n, strict=True)]
    if not all(total.any() for total in totals):
        return None
    t = np.concatenate([total[table.image] for total, table in zip(totals, tables, strict=True)])
    objects = x.sum()
    p = np.bincount(label, weights=x, minlength=k) / objects
    squares = np.bincount(label, weights=x * x, minlength=k) - 2 * p * np.bincount(label, weights=x * t, minlength=k)
    squares += p**2 * sum((total**2).sum() for total in totals)
    deviation = np.sqrt(np.maximum(squares, 0) / max(1, both - 1) * both / (n[0] * n[1])) * both / objects
    return float(np.minimum(math.sqrt(2 / math.pi) * deviation, 2 * p).sum() / 2)
