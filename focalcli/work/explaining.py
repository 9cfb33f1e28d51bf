"""Recipe or checkpoint -> Explained: the loss on the training set that it names, and a model's scores on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from focalcli.anchors import AnchorSpec
from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.recipe import Recipe, from_dict, load
from focalcli.recipe.schema import ANNOTATIONS
from focalcli.recommend import per_class
from focalcli.recommend.explained import Explained, explain
from focalcli.splits import load_split, split_file


def of_recipe(path: Path, overrides: list[str]) -> Explained:
    """The loss of a recipe file, without torch.

    Raises:
        FocalError: no such recipe, or its training set is not there.
    """
    return _explained(str(path), load(path, overrides))


def of_checkpoint(source: Path, overrides: list[str], *, pictures: int, device: str, counting: Any) -> Explained:
    """The loss that a checkpoint was trained with, and its model's scores on the training set.

    Args:
        pictures: to look at, evenly drawn; 0 does not run the model. counting: shows the progress.

    Raises:
        FocalError: no readable checkpoint, or its training set is not there.
    """
    from focalcli.training import checkpoint, run
    from focalcli.work import measuring

    path = checkpoint.find(source)
    if overrides:
        raise FocalError(
            f"{overrides[0]}: a checkpoint's loss is what it is", "give its recipe.yaml to try other values"
        )
    recipe = from_dict(run.load_trained(path, run.pick_device("cpu")).meta["recipe"], place=str(path))
    now = None
    if pictures:
        now = measuring.measure(path, None, most_images=pictures, device=device, counting=counting)
    return _explained(str(source), recipe, now)


def _explained(source: str, recipe: Recipe, now: Any = None) -> Explained:
    train = _train_set(recipe)
    present = train.objects_per_class > 0
    names = [name for name, there in zip(train.class_names, present.tolist(), strict=True) if there]
    objects = train.objects_per_class[present].tolist()
    spec = AnchorSpec(tuple(recipe.anchors.sizes), tuple(recipe.anchors.ratios))
    foreground = per_class.foreground_of(train, spec, recipe.input.min_size, recipe.input.max_size)
    loss = recipe.loss

    alpha, gamma, prior = (
        per_class.by_name(getattr(loss, key), names, f"loss.{key}") for key in ("alpha", "gamma", "prior")
    )
    alpha = per_class.varied_alpha(alpha, loss.alpha_by, objects, loss.beta, lambda: foreground)
    each = [value if isinstance(value, list) else [value] * len(names) for value in (alpha, gamma, prior)]
    return explain(source, str(train.path), names, objects, foreground, *each, now)


def _train_set(recipe: Recipe) -> Dataset:
    """Its annotations alone; the pictures may be elsewhere."""
    wanted, folder = recipe.data.train, recipe.resolve(recipe.data.path)
    if wanted.endswith(ANNOTATIONS):
        file = recipe.resolve(wanted)
    elif recipe.data.path and folder.is_dir():
        file = split_file(folder, wanted)
    else:
        raise FocalError(
            f"data.path: {folder if recipe.data.path else 'nothing'}: no such dataset folder",
            "set it on the command line: data.path=FOLDER (a COCO dataset with annotations/train.json)",
        )
    train = load_split(file, None)
    if not train.objects_per_class.any():
        raise FocalError(f"{train.path}: no objects", "expected at least one usable box that is not a crowd")
    return train
