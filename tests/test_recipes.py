"""The recipes of the repository: each loads, says how it is run, and trains.

A recipe whose data is here takes a step on it; one whose data is elsewhere (coco) takes it on the sample data, with the
values that name its own classes replaced by one number. None is skipped.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import ROOT, focal

from focalcli import recipe as recipes
from focalcli.coco import find_splits, load
from focalcli.splits import split_file

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
PICTURES = 4


def test_the_recipes_that_the_project_promises_are_there():
    """One for the demo, two measured on real data, one for a GPU."""
    assert {"sample", "bccd", "face_mask", "coco"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_starts_with_the_command_that_runs_it(path):
    """STYLE: `# focal train recipes/bccd.yaml   2 CPU cores, 9 min, seed 0: ...`."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    command = f"# focal train recipes/{path.name}"
    assert first == command or first.startswith(f"{command} ")
    assert recipes.load(path).name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_holds_nothing_of_the_machine_that_it_was_written_on(path):
    """Every path is relative, so that a clone can run it."""
    recipe = recipes.as_dict(recipes.load(path))
    for value in (recipe["data"]["path"], recipe["data"]["train"], recipe["data"]["val"], recipe["model"]["weights"]):
        assert not Path(value).is_absolute()


def few_pictures(file: Path, folder: Path) -> list[str]:
    """Write a dataset of a few pictures that hold every class of `file`; returns the overrides that name it."""
    content = json.loads(file.read_text(encoding="utf-8"))
    holders: dict[int, list[int]] = {}
    for box in content["annotations"]:
        if min(box["bbox"][2:]) > 0:
            holders.setdefault(box["category_id"], []).append(box["image_id"])
    chosen = {images[0] for images in holders.values()}
    others = [image["id"] for image in content["images"] if image["id"] not in chosen]
    chosen |= set(others[: max(0, PICTURES - len(chosen))])
    content["images"] = [image for image in content["images"] if image["id"] in chosen]
    content["annotations"] = [box for box in content["annotations"] if box["image_id"] in chosen]
    small = folder / "few.json"
    small.write_text(json.dumps(content))
    root = load(file).image_root
    return [f"data.{s}={small}" for s in ("train", "val")] + [f"data.{s}_images={root}" for s in ("train", "val")]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_builds_its_model_and_trains(path, tmp_path):
    """One epoch of a few pictures at 64 px, from random weights: its network, anchors, loss, optimizer, evaluation."""
    recipe = recipes.load(path)
    folder = recipe.resolve(recipe.data.path)
    overrides = []
    if folder.is_dir():
        file = split_file(folder, recipe.data.train)
    else:
        file = find_splits(ROOT / "sample_data")["train"]
        for key in ("alpha", "gamma", "prior"):
            value = getattr(recipe.loss, key)
            overrides += [f"loss.{key}={next(iter(value.values()))}"] if isinstance(value, dict) else []
    overrides += few_pictures(file, tmp_path)
    overrides += ["model.weights=none", "input.min_size=64", "input.max_size=96", "data.workers=0"]
    overrides += ["schedule.epochs=1", f"schedule.batch_size={PICTURES}", "eval.every=1"]
    result = focal("train", path, *overrides, "--runs", tmp_path, "--device", "cpu")
    assert f"model     {recipe.model.backbone}, 64 px" in result.stderr and "trained in" in result.stderr
    [*_, train, scored] = (json.loads(line) for line in (tmp_path / recipe.name / "metrics.jsonl").open())
    assert (train["kind"], scored["kind"]) == ("train", "eval") and 0 < train["loss"] < 100
