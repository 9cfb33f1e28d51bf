"""The frame that all of focal's pages share: jinja's environment, the style sheet, the script, the security policy."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from focalcli import __version__
from focalcli.render.html import wording
from focalcli.render.text import place_and_message

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(template: str, **context: Any) -> str:
    """A page of templates/. Every value is escaped, and what of it cannot be printed becomes an escape sequence."""
    style, script = _file("style.css"), _file("page.js")
    # hashes and not 'unsafe-inline' for scripts: nothing of a dataset could run even if it got into the page. Styles
    # are inline, as the plots and the bars of the tables have them in attributes
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    )
    page = _environment().get_template(template)
    return page.render(policy=policy, style=style, script=script, version=__version__, **context)


def _prose(text: str) -> Markup:
    """Our own sentences, with a dataset's names in them: escaped, `code` set as code, no line break before a %."""
    from markupsafe import Markup, escape

    escaped = str(escape(wording.shown(text))).replace(" %", "&nbsp;%")
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", escaped))


def _file(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else wording.shown(value),
    )
    environment.filters |= {"prose": _prose, "place_and_message": place_and_message}
    names = ("brief", "count", "decimal", "label", "listed", "median", "p_value", "percent", "plural", "ratio")
    environment.filters |= {name: getattr(wording, name) for name in names}
    return environment
