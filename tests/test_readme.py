"""What the README says can be typed can be typed: commands, options, recipe keys; and its links lead somewhere.

Commands are those of the ```console blocks (after `$ `) and of the ```sh blocks.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from command import ROOT

from focalcli import cli
from focalcli import recipe as recipes

README = ROOT / "README.md"
REQUIRED = ("pip install -e . && focal demo", "pip install -e '.[test]' && pytest")


def text() -> str:
    return README.read_text(encoding="utf-8") if README.is_file() else ""


def command_lines() -> list[str]:
    """Every command line of the README, continued lines joined, comments and prompts taken off."""
    lines = []
    for language, block in re.findall(r"^```(console|sh|bash|shell)\n(.*?)^```", text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if language == "console":
                line = line.removeprefix("$ ") if line.startswith("$ ") else ""
            if line.strip() and not line.startswith("#"):
                lines.append(line.strip())
    return lines


def focal_commands() -> list[list[str]]:
    """The words after `focal` of every focal command in them; what follows a pipe or a redirection is the shell's."""
    found = []
    for line in command_lines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|><")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|><"):
                found += [command[1:]] if command[:1] == ["focal"] else []
                command = []
            else:
                command.append(word)
    return found


def test_the_two_commands_that_everybody_needs_are_there():
    """From a clone to the whole job, and to the tests, in one line each."""
    for command in REQUIRED:
        assert command in command_lines(), f"README lacks a block with: {command}"


def test_no_placeholder_is_left():
    """Figures are put in by hand once they are measured."""
    assert README.is_file() and "@@" not in text()


def test_the_main_commands_are_shown():
    assert {"audit", "recommend", "train", "eval", "demo"} <= {words[0] for words in focal_commands() if words}


@pytest.mark.parametrize("words", focal_commands() or [[]], ids=" ".join)
def test_command_of_the_readme_parses(words):
    """By the real parser, which knows every subcommand, option, choice and range; nothing runs."""
    command = typer.main.get_command(cli.app)
    context = command.make_context("focal", list(words) or ["--version"], resilient_parsing=not words)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"no command `focal {' '.join(words)}`"
        command = command.commands[rest.pop(0)]
    if not hasattr(command, "commands") and not {"-h", "--help"} & set(rest):
        context = command.make_context("focal", rest)
        recipes.read_overrides([word for word in context.params.get("overrides") or [] if not word.startswith("[")])


def links() -> list[str]:
    """Targets of Markdown links and images, and of HTML's src and href, that are not on the web."""
    found = re.findall(r"\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)", text()) + re.findall(
        r"(?:src|href)=\"([^\"]+)\"", text()
    )
    return sorted({link for link in found if not re.match(r"[a-z]+:", link)})


@pytest.mark.parametrize("link", links() or ["README.md"])
def test_relative_link_leads_to_a_file(link):
    """And a link into a page leads to a heading of it."""
    path, _, anchor = link.partition("#")
    target = Path(ROOT / path) if path else README
    assert target.exists(), f"{link}: no such file"
    if anchor and target.suffix == ".md":
        headings = re.findall(r"^#+\s+(.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{link}: no such heading"
