"""What is compared on what, and in which order: the datasets, the budget, the plan. README.md has the reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from arms import BOX_WEIGHTS, COARSE, GRID, RARE_PAIRS
from families import FAMILIES, Dial
from material import Windows, drawn, windows, write
from trial import Budget

from focalcli import coco
from focalcli.anchors import AnchorSpec

SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"


@dataclass(frozen=True)
class Subject:
    """A dataset of the protocol. sizes: anchors that `focal recommend` fitted to it, the same for every arm."""

    name: str
    sizes: tuple[float, ...]
    family: str = ""  # of drawn pictures
    dial: Dial = Dial()  # noqa: RUF009 (frozen)
    real: str = ""  # folder below SHARED_DATA
    cut: Windows = Windows()  # noqa: RUF009 (frozen)
    held_out: bool = False

    @property
    def spec(self) -> AnchorSpec:
        return AnchorSpec(self.sizes)

    def write(self, folder: Path) -> None:
        """Make the dataset in `folder`."""
        if self.family:
            counts = {"train": TRAIN_PICTURES, "val": VAL_PICTURES}
            splits = {split: drawn(self.family, self.dial, split, count) for split, count in counts.items()}
            names = list(FAMILIES[self.family].classes)
        else:
            path = SHARED_DATA / self.real / "annotations"
            loaded = {split: coco.load(path / f"{split}.json") for split in ("train", "val")}
            splits = {split: windows(dataset, self.cut) for split, dataset in loaded.items()}
            names = list(loaded["train"].class_names)
        write(folder, names, splits)


BUDGET = Budget()
TRAIN_PICTURES, VAL_PICTURES = 600, 128
OCTAVES = {base: tuple(float(base * 2**level) for level in range(5)) for base in range(8, 65)}


# --------------------------------------------------------------------------------------------------------- the datasets


def _drawn(family: str, sizes: tuple[float, ...], held_out: bool = False) -> tuple[Subject, ...]:
    return tuple(
        Subject(f"{family}-{ratio}", sizes, family=family, dial=Dial(head_tail=ratio), held_out=held_out)
        for ratio in (1, 10, 100)
    )


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("bccd", OCTAVES[12], real="bccd", cut=Windows((160, 120))),
        Subject("deeppcb_600", OCTAVES[16], real="deeppcb_600", cut=Windows(share=0.4, rarest=False)),
        *_drawn("shapes", OCTAVES[14]),
        *_drawn("textures", OCTAVES[20]),
        Subject("shapes-10-sparse", OCTAVES[14], family="shapes", dial=Dial(10, objects=1.5)),
        Subject("shapes-10-dense", OCTAVES[14], family="shapes", dial=Dial(10, objects=12.0)),
        Subject("textures-10-noise5", OCTAVES[20], family="textures", dial=Dial(10, noise=0.05)),
        Subject("textures-10-noise20", OCTAVES[20], family="textures", dial=Dial(10, noise=0.2)),
        Subject("face_mask", OCTAVES[18], real="face_mask", cut=Windows(share=0.3), held_out=True),
        *_drawn("glyphs", OCTAVES[12], held_out=True),
        *_drawn("letters", OCTAVES[12], held_out=True),
    )
}


# ------------------------------------------------------------------------------------------------------------ the order

FIRST = ("retinanet", "ce")
SECOND = (
    "recommend", "repeat_shown", "repeat_strength_0.5", "repeat_strength_1", "retinanet_repeat", "strength_1",
    "strength_0.5", "inverse_frequency", "effective_number", "recommend_checkpoint", "alpha_ce", "retinanet_prior_0.01",
    "ce_box_1", "alpha_ce_box_1", *COARSE,
)  # fmt: skip
BOX = tuple(f"retinanet_box_{weight:g}" for weight in BOX_WEIGHTS)
TAILS = (
    "alpha_by_effective_number", "alpha_by_equilibrium", "gamma_by_rarity",  # the recipe's own settings
    *(f"rare {alpha:g} {gamma:g}" for alpha, gamma in RARE_PAIRS),
)  # fmt: skip
PARTS = ("retinanet_box_0.5", "retinanet_repeat", "strength_0.5", "repeat_box_0.5", "recommend_box_1")
PARTS_ON = ("shapes-100", "textures-100", "glyphs-100")
TAILS_ON = ("bccd", "shapes-10", "shapes-100", "textures-100")
TUNED = ("bccd", "deeppcb_600", "shapes-100", "face_mask")  # a study costs twenty runs
LAST = (*BOX, "ce_prior_0.01", "inverse_frequency_box_1", *GRID)


def plan() -> Iterator[tuple[str, str, int]]:
    """(dataset, arm, seed) of every run, the most telling first; an arm whose loss another one had costs nothing.

    The last stage, other box weights and the other half of the grid, is for seed 0 alone.
    """
    for seed in (0, 1):
        for arm in FIRST:
            yield from ((dataset, arm, seed) for dataset in SUBJECTS)
    for seed in (0, 1):
        for dataset in SUBJECTS:
            yield from ((dataset, arm, seed) for arm in SECOND)
    for seed in (0, 1):
        for chosen, arms in ((PARTS_ON, PARTS), (TAILS_ON, TAILS)):
            yield from ((dataset, arm, seed) for dataset in chosen for arm in arms)
    yield from ((dataset, "tune", seed) for dataset in TUNED for seed in (0, 1))
    for dataset in SUBJECTS:
        yield from ((dataset, arm, 0) for arm in LAST)
