"""Verdicts of gates as lines for people, and as the reasons of an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from focalcli.evaluation import Gate
from focalcli.render.console import LABEL, Plain, print_line
from focalcli.render.text import visible

if TYPE_CHECKING:
    from rich.console import Console


def print_gates(gates: Sequence[Gate], console: Console | Plain) -> None:
    """How many failed, then each with its reason."""
    failed = sum(not gate.passed for gate in gates)
    print_line(console, f"{failed} of {len(gates)} failed" if failed else "passed", label="Gates", indent=LABEL)
    for gate in gates:
        verdict = ("passed ", "green") if gate.passed else ("failed ", "bold red")
        print_line(console, verdict, (gate.option, "bold"), f": {gate.message}", indent=2)


def reasons(gates: Sequence[Gate]) -> list[str]:
    """A line for each gate that failed; none when the exit code is 0."""
    return [f"failed: {visible(gate.option)}: {visible(gate.message)}" for gate in gates if not gate.passed]
