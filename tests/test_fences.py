"""Who imports whom: downwards only, heavy packages behind their fences, and none of them where a command must be quick.

Source: DESIGN.md, "Import direction". The first tests read the source, imports inside functions included; the last ones
look at what a fresh process really loaded.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, environment

PACKAGE = ROOT / "focalcli"

# lowest first: a module imports from layers below its own, and from nothing beside or above it
LAYERS = (
    {"errors"},
    {"files"},
    {"coco", "focal_loss"},
    {"anchors", "chance", "detections", "splits"},
    {"audit", "evaluation"},
    {"fix", "recommend"},
    {"recipe", "render", "training"},
    {"work", "boundary"},
    {"cli"},
    {"__main__"},
)
FENCES = {  # package -> the only module or folder that may import it
    "torch": "training", "torchvision": "training", "safetensors": "training",
    "rich": "render", "jinja2": "render", "matplotlib": "render",
    "pydantic": "recipe", "yaml": "recipe",
    "typer": "cli", "click": "cli",
    "pycocotools": "evaluation",
    "numba": "anchors",
    "triton": "training",
    "optuna": "work", "sqlalchemy": "work",
}  # fmt: skip
HEAVY = {"torch", "torchvision", "numpy", "PIL", "pycocotools", "rich", "pydantic", "yaml", "msgspec"}


def unit(path: Path) -> str:
    """The module, or the folder of modules with one entrance, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every dotted name that a file imports, anywhere in it; `from a import b` gives a.b. Types alone do not count."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for block in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if ast.unparse(block.test) == "TYPE_CHECKING":
            block.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_module_has_its_layer():
    """A new module must be given its place here, and one that is gone loses it."""
    units = {unit(path) for path in FILES} - {"__init__"}
    assert units == set().union(*LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    """Never up, never sideways into a fence; focalcli itself (the version) is below everything."""
    own = unit(path)
    rank = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("focalcli.")} & rank.keys() - {own}
    assert own != "__init__" or not inner
    too_high = sorted(name for name in inner if rank[name] >= rank[own])
    assert not too_high, f"{own} imports {too_high}, which are not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_stay_behind_their_fences(path):
    """torch only in training/, rich only in render/, pydantic and yaml only in recipe/, typer only in cli.py."""
    outer = {name.split(".")[0] for name in imports(path)}
    astray = {name: home for name, home in FENCES.items() if name in outer and unit(path) != home}
    assert not astray


def loaded_by(*words: object) -> set[str]:
    """The top-level packages in a fresh process at the end of a command, which must succeed."""
    code = (
        "import sys\n"
        "from focalcli import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["recipe", "--help"]])
def test_help_and_version_load_nothing_heavy(words):
    """`focal --help` answers in a quarter of a second: there is nothing to wait for. A command's options are pydantic's
    business in newer versions of Typer."""
    typers_own = {"pydantic"} if len(words) > 1 else set()
    assert not loaded_by(*words) & (HEAVY - typers_own)


def test_audit_recommend_and_eval_of_detections_never_load_torch(world, tmp_path):
    """They run in CI and on machines without torch's seconds to spare."""
    detections = world / "scored/predictions.coco.json"
    for words in (
        ["audit", world / "data", "--fail-on", "never"],
        ["recommend", world / "data", "-o", tmp_path / "r.yaml"],
        ["eval", detections, world / "data"],
        ["recipe", "check", world / "r.yaml"],
        ["explain", "F101"],
        ["explain-loss", world / "r.yaml"],
    ):
        loaded = loaded_by(*words)
        assert not loaded & {"torch", "torchvision", "numba"}, words
        assert words[0] == "eval" or "pycocotools" not in loaded, words
