"""The pages of rules and figures: a list of them, one as Markdown, or all as the document docs/rules.md."""

from __future__ import annotations

import re

from focalcli.audit import RULES, TERMS, Rule, Term

_HEAD = """# What `focal audit` finds and measures

Written by `focal explain --format markdown`. A code never changes its meaning; its first digit is its family. An error
makes training or its numbers wrong, or loses data; a warning costs accuracy or hurts other tools; an info is worth
knowing.

## Rules
"""
_UNITS = {"annotation": "annotations", "image": "pictures", "class": "classes", "record": "records"}
_CODE_OR_LINK = re.compile(r"(`[^`]+`|https?://\S+[^\s.,;:)])")


def print_list() -> None:
    """Code, severity and name of every rule, and the names of the figures."""
    from focalcli.render.console import make_console, print_rows

    console = make_console()
    print_rows([{"code": rule.code, "severity": rule.severity, "name": rule.name} for rule in RULES.values()], console)
    console.print()
    print_rows([{"figure": term.name, "what it is": term.title} for term in TERMS.values()], console)


def document() -> str:
    """Every page, under tables of the rules and the figures."""
    rules = ["| code | severity | name |", "|---|---|---|"]
    for rule in RULES.values():
        rules.append(f"| [{rule.code}](#{rule.code.lower()}-{rule.name}) | {rule.severity} | {rule.name} |")
    terms = ["| figure | what it is |", "|---|---|"]
    terms += [f"| [{term.name}](#{term.name}) | {_escaped(term.title)} |" for term in TERMS.values()]
    pages = [[markdown(page) for page in entries.values()] for entries in (RULES, TERMS)]
    return "\n".join([_HEAD, *rules, "", *pages[0], "## Figures\n", *terms, "", *pages[1]])


def markdown(page: Rule | Term) -> str:
    """One page; a rule's example is code, as it shows JSON or what a report says."""
    if isinstance(page, Term):
        blocks = [f"### {page.name}", f"*{_escaped(page.title)}.* {_escaped(page.what)}"]
        blocks += [f"**How to read it.** {_escaped(page.read)}"]
    else:
        kind = f"*{page.severity}; counts {_UNITS[page.unit]}.*"
        blocks = [f"### {page.code} {page.name}", f"{kind} {_escaped(page.what)}"]
        blocks += [f"**Why it is bad.** {_escaped(page.why)}", f"```text\n{page.example}\n```"]
        blocks += [f"**How to fix:** {_escaped(page.fix)}"]
    return "\n\n".join([*blocks, f"**Source:** {_escaped(page.source)}"]) + "\n"


def _escaped(text: str) -> str:
    """Our own text, where `code` and links are meant and nothing else is markup."""
    parts = _CODE_OR_LINK.split(text)
    return "".join(part if at % 2 else re.sub(r"([\\*_\[\]<>|~$#])", r"\\\1", part) for at, part in enumerate(parts))
