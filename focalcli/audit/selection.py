"""Which rules a run reports: `--select` and `--ignore`, in codes, names and prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from focalcli.audit.rules import RULES
from focalcli.errors import FocalError, nearest


def wanted(select: Sequence[str], ignore: Sequence[str]) -> Callable[[str], bool]:
    """A predicate on codes: selected (everything is, when nothing is named) and not ignored.

    The longer of two prefixes wins, so that `--select F1 --ignore F104` and `--ignore F1 --select F104` both say what
    they seem to; of two that are equally long, `ignore` does.

    Args:
        select, ignore: words or comma-separated lists of them: a code (F104), the start of one (F1, F), or a rule's
            name; the case does not matter.

    Raises:
        FocalError: a word that names no rule.
    """
    chosen, left_out = _prefixes("--select", select), _prefixes("--ignore", ignore)

    def is_wanted(code: str) -> bool:
        return _longest(code, chosen or ("",)) > _longest(code, left_out)

    return is_wanted


def _prefixes(option: str, given: Sequence[str]) -> tuple[str, ...]:
    """Upper-case starts of codes."""
    names = {rule.name: rule.code for rule in RULES.values()}
    words = [word.strip() for text in given for word in text.split(",")]
    return tuple(_prefix(option, word, names) for word in words if word)


def _prefix(option: str, word: str, names: dict[str, str]) -> str:
    if code := names.get(word.lower()):
        return code
    if any(code.startswith(word.upper()) for code in RULES):
        return word.upper()
    near = nearest(word, [*RULES, *names])
    raise FocalError(
        f"{option} {word}: no rule has this code, start of a code, or name",
        f"did you mean {near}?" if near else "`focal explain` lists the rules; F1 means all whose code starts so",
    )


def _longest(code: str, prefixes: Sequence[str]) -> int:
    """The length of the longest prefix that fits; -1 when none does."""
    return max((len(prefix) for prefix in prefixes if code.startswith(prefix)), default=-1)
