"""What a recipe may say: one frozen pydantic model per section, one described field per key.

A field's description is its comment in a dumped recipe and its text in the JSON schema; its range is what an
error message says was expected. No key takes true or false, which lets reading.py refuse every bare `no` and `on`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, Tag, ValidationInfo, field_validator

T = TypeVar("T")
TAGS = ("<number>", "<mapping>")  # what pydantic puts into an error's place for the two arms of PerClass
ANNOTATIONS = (".json", ".json.gz")  # how a value of data.train and data.val ends that is a file, not a split
KEYWORDS = ("coco", "imagenet", "none")  # values of model.weights that are no file
METRICS = (  # of evaluation.ApTable.summary
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "APr", "APc", "APf"
)  # fmt: skip

ClassName = Annotated[str, Field(min_length=1, max_length=200)]  # YAML allows a key on one line 1024 characters
PerClass = Annotated[
    Annotated[T, Tag(TAGS[0])] | Annotated[dict[ClassName, T], Field(min_length=1), Tag(TAGS[1])],
    Discriminator(lambda value: TAGS[isinstance(value, Mapping)]),
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Inside = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Exponent = Annotated[float, Field(ge=0, le=10)]  # the paper goes to 5; at 10 only p_t below 0.4 costs anything
Side = Annotated[float, Field(ge=1, le=16384)]
Ratio = Annotated[float, Field(ge=1e-4, le=1e4)]
Prior = Annotated[float, Field(gt=0, le=0.5)]
Factor = Annotated[float, Field(ge=0.1, le=4)]


class Section(BaseModel):
    """Strict: 10.0 is no integer, "0.1" is no number; and a key that is not in the schema is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True, hide_input_in_errors=True
    )


def sequence(default: Any = ..., *, description: str, **limits: int) -> Any:
    """A field that holds a tuple: frozen like the rest, and not strict, because YAML has lists only."""
    return Field(default, description=description, strict=False, **limits)


class Data(Section):
    """Which pictures, and how they are varied in training."""

    path: str = Field(description='dataset folder, relative to this file; "" when train and val are JSON files')
    train: str = Field("train", min_length=1, description="a split of data.path, or a COCO JSON file")
    val: str = Field("val", min_length=1, description="a split of data.path, or a COCO JSON file")
    train_images: str | None = Field(None, description="folder of the pictures, when not found beside the JSON")
    val_images: str | None = Field(None, description="folder of the pictures, when not found beside the JSON")
    flip: Fraction = Field(0.5, description="chance of a left-right flip")
    vertical_flip: Fraction = Field(0.0, description="chance of an up-down flip")
    scale_jitter: tuple[Factor, ...] = sequence(
        (0.8, 1.25), min_length=2, max_length=2, description="factor on the size, drawn in this range"
    )
    brightness: Fraction = Field(0.0, description="times a factor drawn from 1 - this to 1 + this; 0 is off")
    contrast: Fraction = Field(0.0, description="times a factor drawn from 1 - this to 1 + this; 0 is off")
    saturation: Fraction = Field(0.0, description="times a factor drawn from 1 - this to 1 + this; 0 is off")
    crop: Fraction = Field(0.0, description="chance to see a window only, half to all of each side, around an object")
    sampler: Literal["shuffle", "class_aware"] = Field(
        "shuffle", description="class_aware: each class equally often (Shen et al. 2016), in place of the repeats"
    )
    repeat_threshold: Fraction = Field(
        0.0, description="repeat images of classes on fewer than this share (Gupta et al. 2019); 0 is off"
    )
    repeat_power: float = Field(
        0.5, ge=0.1, le=1, description="repeats are (threshold / share) to this power; 0.5 is LVIS's"
    )
    workers: int = Field(2, ge=0, description="processes that load pictures; 0 loads in the training process")
    cache: str | None = Field(None, min_length=1, description="folder to keep decoded pictures in for later epochs")

    @field_validator("scale_jitter")
    @classmethod
    def _low_to_high(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value[0] > value[1]:
            raise ValueError("the lower factor first")
        return value


class Model(Section):
    """The network and what it starts from."""

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "mobilenet_v3_large"] = Field(
        description="the network under the feature pyramid"
    )
    weights: str = Field("none", min_length=1, description="coco, imagenet, none, or a file relative to this one")
    trainable_layers: int = Field(3, ge=0, le=5, description="backbone stages that train, from the top; 5 is all")
    batch_norm: Literal["auto", "frozen", "train"] = Field("auto", description="auto: frozen with pretrained weights")
    width: int = Field(256, ge=16, le=4096, multiple_of=8, description="channels of the pyramid and the heads")
    head_depth: int = Field(4, ge=0, le=8, description="convolutions in each head before its output")
    head_norm: Literal["none", "group"] = Field("none", description="normalisation inside the heads")

    @field_validator("weights")
    @classmethod
    def _keyword_or_file(cls, value: str) -> str:
        """A bare word is a keyword with a typing mistake far more often than a file without an extension."""
        if value not in KEYWORDS and not re.search(r"[./\\]", value):
            raise ValueError("coco, imagenet, none or the path of a file")
        return value

    @field_validator("weights")
    @classmethod
    def _there_are_such(cls, value: str, info: ValidationInfo) -> str:
        """torchvision has a RetinaNet trained on COCO for one backbone."""
        if value == "coco" and info.data.get("backbone", "resnet50") != "resnet50":
            raise ValueError("imagenet, none or a file: COCO's weights are of resnet50 alone")
        return value


class Anchors(Section):
    """The boxes that the heads start from, on levels P3 to P7."""

    sizes: tuple[Side, ...] = sequence(
        min_length=5,
        max_length=5,
        description="side in px at network size, P3 to P7; each also x 2^(1/3) and x 2^(2/3)",
    )
    ratios: tuple[Ratio, ...] = sequence((0.5, 1.0, 2.0), min_length=1, max_length=32, description="height / width")

    @field_validator("sizes")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in pairwise(value)):
            raise ValueError("ascending sizes, because each level is coarser than the one before")
        return value


class Input(Section):
    """The size at which the network sees a picture, as torchvision resizes."""

    min_size: int = Field(800, ge=32, le=8192, description="px of the short side after the resize")
    max_size: int = Field(1333, ge=32, le=16384, description="px that the long side may not exceed; at least min_size")

    @field_validator("max_size")
    @classmethod
    def _not_below_min_size(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("min_size", 0):
            raise ValueError(f"at least input.min_size ({info.data['min_size']})")
        return value


class Loss(Section):
    """Focal loss of the classes, and the loss of the boxes. In a mapping, `default` serves classes not named."""

    alpha: PerClass[Inside] = Field(
        description="weight of positives, negatives get 1 - alpha; a number or {class: number}"
    )
    gamma: PerClass[Exponent] = Field(
        2.0, description="focusing exponent, 0 is cross-entropy; a number or {class: number}"
    )
    alpha_by: Literal["none", "effective_number", "equilibrium"] = Field(
        "none", description="give rare classes more alpha: by Cui et al. 2019, or so that all rest at one score"
    )
    beta: float = Field(0.999, ge=0, lt=1, description="alpha_by effective_number only: 0 is even, near 1 is 1 / count")
    prior: PerClass[Prior] = Field(0.01, description="score of a new head on every anchor; a number or {class: number}")
    box: Literal["l1", "smooth_l1", "giou"] = Field("l1", description="loss of the boxes of matched anchors")
    box_weight: Positive = Field(1.0, description="factor on the box loss")


class Schedule(Section):
    """How long, how fast and with which optimizer."""

    epochs: int = Field(ge=1, description="passes over the training images")
    batch_size: int = Field(ge=1, description="images in a step, in total over all GPUs")
    base_batch: int = Field(ge=1, description="images in a step that lr is for: scaled by batch_size / base_batch")
    lr: Positive = Field(description="learning rate at base_batch")
    optimizer: Literal["adamw", "sgd"] = Field("sgd", description="adamw wants a far smaller lr than sgd")
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty of sgd, decoupled decay of adamw")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    warmup_steps: int = Field(500, ge=0, description="steps in which lr rises to its full value")
    decay: Literal["cosine", "step"] = Field("cosine", description="how lr falls after the warm-up")
    milestones: tuple[Inside, ...] = sequence(
        (0.667, 0.889), description="step only: where lr falls, as shares of the run"
    )
    lr_gamma: float = Field(0.1, gt=0, le=1, description="step only: factor on lr at a milestone; focal is loss.gamma")
    clip_norm: float = Field(0.0, ge=0, description="largest gradient norm; 0 is off")
    accumulate: int = Field(1, ge=1, description="parts that a step is computed in: less memory, the same gradient")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of a moving average of the weights, which is then scored; 0 is off"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU that has it; fp16 scales the loss"
    )
    compile: bool = Field(False, description="compile the backbone by torch.compile: minutes at the start")
    patience: int = Field(0, ge=0, description="evaluations without a better eval.best before it ends; 0 is never")
    save_minutes: float = Field(5.0, gt=0, description="between checkpoints, besides those at the end of an epoch")
    save_steps: int = Field(0, ge=0, description="steps between checkpoints, besides those; 0 is off")
    keep: int = Field(1, ge=1, description="checkpoints to resume from that stay; 1 keeps the last alone")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of every random choice")

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in pairwise(value)):
            raise ValueError("ascending fractions of the run")
        return value


class Eval(Section):
    """When and how the validation set is scored."""

    every: int = Field(1, ge=1, description="epochs between evaluations")
    score_threshold: float = Field(0.05, ge=0, le=0.05, description="boxes below are dropped; a higher one lowers AP")
    nms_iou: float = Field(0.5, gt=0, le=1, description="of two boxes of a class that overlap more, the better stays")
    max_detections: int = Field(100, ge=1, description="boxes kept in an image")
    best: str = Field("AP", description="metric that chooses the best checkpoint, or class:NAME for the AP of a class")

    @field_validator("best")
    @classmethod
    def _metric_or_class(cls, value: str) -> str:
        if value not in METRICS and not re.fullmatch(r"class:.+", value):
            raise ValueError(f"one of {', '.join(METRICS)}, or class:NAME")
        return value


class Recipe(Section):
    """One training run: everything that changes its result, and nothing else."""

    name: str = Field(
        max_length=100, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", description="results go to runs/<name>"
    )
    data: Data
    model: Model
    anchors: Anchors
    input: Input = Input()
    loss: Loss
    schedule: Schedule
    eval: Eval = Eval()
    _folder: Path = PrivateAttr(default=Path())

    def resolve(self, relative: str) -> Path:
        """The path that a value of this recipe means: relative to the recipe file; an absolute one stays."""
        return self._folder / os.path.expanduser(relative)  # Path.expanduser raises on an unknown ~user

    def __eq__(self, other: object) -> bool:
        """Recipes are equal when they say the same; where each lies does not count."""
        return as_dict(self) == as_dict(other) if isinstance(other, Recipe) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a mapping inside cannot be hashed


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain dicts, lists, numbers and text, in schema order; `from_dict` is its inverse."""
    return recipe.model_dump(mode="json")


def schema_json() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a recipe, for editors and other tools."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def key_schemas() -> dict[str, dict[str, Any]]:
    """Dotted key -> JSON schema of its value, in schema order. Sections themselves are not in it."""
    schema = Recipe.model_json_schema()
    found = {}
    for key, value in schema["properties"].items():
        reference = value.get("$ref")
        if reference is None:
            found[key] = value
            continue
        section = schema["$defs"][reference.rsplit("/", 1)[1]]
        found |= {f"{key}.{name}": leaf for name, leaf in section["properties"].items()}
    return found


SCHEMAS = key_schemas()
SECTIONS = tuple(dict.fromkeys(key.split(".")[0] for key in SCHEMAS if "." in key))


def expected(schema: Mapping[str, Any]) -> str:
    """What a value must be, in words: 'a number above 0 and below 1', 'one of l1, smooth_l1, giou'."""
    if "oneOf" in schema:  # PerClass
        return f"{expected(schema['oneOf'][0])}, or a mapping of class names to such numbers"
    if "anyOf" in schema:
        return " or ".join(expected(arm) for arm in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        fewest, most = schema.get("minItems"), schema.get("maxItems")
        count = f"exactly {most} items" if most == fewest and most else f"at most {most} items" if most else "items"
        return f"a list of {count}, each {expected(schema['items'])}"
    if kind == "string":
        return "text of letters, digits, '.', '_' and '-', not with '.' first" if "pattern" in schema else "text"
    if kind == "null":
        return "null"
    if kind == "boolean":
        return "true or false"
    return f"{'an integer' if kind == 'integer' else 'a number'}{limits(schema)}"


def limits(schema: Mapping[str, Any]) -> str:
    """The range of a number in words, with a space before it; empty where there is none."""
    both = "minimum" in schema and "maximum" in schema
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    parts = [f"{word} {schema[name]}" for name, word in words.items() if name in schema]
    if both:
        parts = [f"from {schema['minimum']} to {schema['maximum']}"]
    if "multipleOf" in schema:
        parts.append(f"a multiple of {schema['multipleOf']}")
    return " " + " and ".join(parts) if parts else ""
