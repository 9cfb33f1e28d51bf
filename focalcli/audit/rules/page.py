"""What a rule's page says, and how a page reads as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import TextWrapper

from focalcli.audit.report import Severity, Unit

PAGE_WIDTH = 88
COCO = "https://cocodataset.org/#format-data"


@dataclass(frozen=True)
class Rule:
    """One page.

    Attributes:
        name: kebab-case. unit: what a finding counts. what, why: prose. example: a line that trips the rule, or
            what a report says of it.
        fix: the next step, in one line; findings carry it as their hint. source: where the claim can be checked.
    """

    code: str
    name: str
    severity: Severity
    unit: Unit
    what: str
    why: str
    example: str
    fix: str
    source: str

    @property
    def doc(self) -> str:
        """The whole page as plain text, in lines of at most PAGE_WIDTH."""
        parts = {
            "What it finds": self.what,
            "Why it is bad": self.why,
            "Example": self.example,
            "How to fix": self.fix,
            "Source": self.source,
        }
        return plain_page(f"{self.code} {self.name} ({self.severity})", parts)


def plain_page(heading: str, parts: Mapping[str, str]) -> str:
    """A heading and titled paragraphs, in lines of at most PAGE_WIDTH."""
    wrap = TextWrapper(PAGE_WIDTH, "  ", "  ", break_long_words=False, break_on_hyphens=False)
    return f"{heading}\n" + "".join(f"\n{title}\n{wrap.fill(text)}\n" for title, text in parts.items())
