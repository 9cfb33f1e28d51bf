"""The plots of an evaluation's page as PNG files, in the colours of the light theme."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focalcli.coco import Floats
from focalcli.evaluation import ApTable, Diagnosis
from focalcli.files import write_whole
from focalcli.render.html import drawing
from focalcli.render.html.evaluation_plots import evaluation_plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
# stand-in -> the light theme of style.css
_COLOURS = {
    drawing.INK: "#16202c", drawing.MUTED: "#566373", drawing.RULE: "#dde2e8", drawing.BLUE: "#0068a8",
    drawing.ORANGE: "#b85c00", drawing.GREEN: "#00795a", drawing.RED: "#b3261e", drawing.PURPLE: "#9a4a7d",
}  # fmt: skip
_PROPERTIES = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def save_plots(table: ApTable, diagnosis: Diagnosis, folder: Path) -> tuple[str, ...]:
    """Write one PNG for each plot that there is something to draw in; returns their names.

    Raises:
        FocalError: the folder cannot be written to.
    """
    made = {}
    with drawing.styled():
        for name, plot in evaluation_plots(table, diagnosis).items():
            if plot is not None:
                made[f"{name}.png"] = png(plot.figure)
    for name, content in made.items():
        write_whole(folder / name, content, "--plots DIR")
    return tuple(made)


def png(figure: Figure) -> bytes:
    """The figure on white, its stand-in colours replaced."""
    figure.canvas.draw()  # makes the ticks, which have colours too
    for artist in figure.findobj():
        for name in _PROPERTIES:
            get, put = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
            if get is not None and put is not None and (colours := replaced(get())) is not None:
                put(colours if len(colours) > 1 else tuple(colours[0]))
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return target.getvalue()


def replaced(colour: Any) -> Floats | None:
    """(n, 4) what becomes of one or n of matplotlib's colours; None where none of them is a stand-in."""
    from matplotlib.colors import to_hex, to_rgb, to_rgba_array

    try:
        rgba = to_rgba_array(colour)
    except (TypeError, ValueError):  # "none", or the colours of a map
        return None
    names = [to_hex(row) for row in rgba]
    for row, name in zip(rgba, names, strict=True):
        row[:3] = to_rgb(_COLOURS.get(name, name))
    return rgba if any(name in _COLOURS for name in names) else None
