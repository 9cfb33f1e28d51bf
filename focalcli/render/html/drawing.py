"""Plots as inline SVG that takes its colours and its font from the page, so that light, dark and print all fit.

matplotlib draws with stand-in colours; in the SVG each becomes a CSS variable of style.css. Text stays text: it is
never read as mathtext, and the browser finds the glyphs. Figures are made without pyplot and leave no state behind.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from focalcli.render.html.wording import brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
WIDTH = 440  # px of every plot; the page scales it to its column
# stand-in -> CSS variable. Series are Okabe and Ito's colours, safe for colour-blind readers, tuned for each theme
INK, MUTED, RULE = "#000101", "#000102", "#000103"
BLUE, ORANGE, GREEN, RED, PURPLE = "#000201", "#000202", "#000203", "#000204", "#000205"
_VARIABLES = {
    INK: "ink", MUTED: "muted", RULE: "rule",
    BLUE: "blue", ORANGE: "orange", GREEN: "green", RED: "red", PURPLE: "purple",
}  # fmt: skip
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED)
GROUP_COLOURS = {"frequent": BLUE, "common": GREEN, "rare": ORANGE}
HEAT_RGB = (0.16, 0.50, 0.80)  # heat is one colour, more or less opaque, and so fits both themes

_SETTINGS = {
    "figure.dpi": 72,  # 1 pt is 1 px
    "font.size": 12,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "focal",
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "legend.labelcolor": INK,
}


@contextmanager
def styled() -> Iterator[None]:
    """The house's settings and nobody's matplotlibrc; glyphs that matplotlib's own font lacks are the browser's."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def figure(height: float) -> Figure:
    """An empty figure of WIDTH x height px."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH / 72, height / 72))


def axes(fig: Figure, *, left: float = 46, right: float = 12, top: float = 10, bottom: float = 40) -> Axes:
    """Axes inside these margins, in px."""
    height = fig.get_figheight() * 72
    return fig.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height)
    )


def label_space(names: list[str]) -> float:
    """Px that the longest of some labels needs to the left of the axes."""
    return 22 + 6.6 * max((sum(2 if ord(c) > 0x2E7F else 1 for c in name) for name in names), default=0)


def rows_px(classes: int) -> int:
    """Height of a plot with a row for each class."""
    return classes * (20 if classes > 6 else 28)


def class_axis(axes: Axes, names: list[str]) -> None:
    """A row for each class, the first on top."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def count_ticks(axis: Axis) -> None:
    """Ticks of a log axis at powers of ten, as 1, 10, 1k, 1M."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(LogLocator(base=10, numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: brief(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def svg(fig: Figure, name: str, title: str) -> str:
    """The figure as an <svg> element; `name` keeps its ids apart, `title` is what a screen reader says of it."""
    target = io.StringIO()
    fig.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(target.getvalue())
    for child in [child for child in root if child.tag.endswith("metadata")]:
        root.remove(child)
    _own_ids(root, prefix=f"{name}-")
    for node in root.iter():
        if style := node.get("style"):
            node.set("style", re.sub("#0[0-9a-f]{5}", lambda found: _variable(found[0]), style))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", title)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _variable(colour: str) -> str:
    return f"var(--{_VARIABLES[colour]})" if colour in _VARIABLES else colour


def _own_ids(root: ElementTree.Element, prefix: str) -> None:
    """Drop the ids that nothing points to and prefix the others: ids are unique on a page that holds many plots."""
    link = f"{{{XLINK}}}href"
    pointers = ("clip-path", "fill", "style", link)
    used = {name for node in root.iter() for key in pointers for name in re.findall("#([-\\w]+)", node.get(key, ""))}
    for node in root.iter():
        name = node.attrib.pop("id", None)
        if name in used:
            node.set("id", prefix + name)
        for key in pointers:
            value = node.get(key, "")
            if key == link and value.startswith("#"):
                node.set(key, f"#{prefix}{value[1:]}")
            elif "url(#" in value:
                node.set(key, value.replace("url(#", f"url(#{prefix}"))
