"""An evaluation as JUnit XML: a suite of the gates, and one of the classes, of which those fail that a gate names.

The shape is that of to_junit.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from focalcli.evaluation import ClassAp, Evaluation, Gate
from focalcli.render.text import number, visible
from focalcli.render.to_junit import document


def evaluation_junit(result: Evaluation) -> str:
    """One XML document; figures are fractions in 0..1."""
    suites = ET.Element("testsuites", name="focal eval")
    if result.gates:
        suite = ET.SubElement(suites, "testsuite", name="gates")
        for gate in result.gates:
            case = ET.SubElement(suite, "testcase", classname="focal.gates", name=visible(gate.option))
            _fail(case, [gate] if not gate.passed else [])
    suite = ET.SubElement(suites, "testsuite", name="classes", file=visible(result.dataset.path))
    for entry in result.table.classes:
        case = ET.SubElement(suite, "testcase", classname="focal.classes", name=visible(entry.name))
        _fail(case, [gate for gate in result.gates if entry.name in gate.classes])
        ET.SubElement(case, "system-out").text = _figures(entry)
    return document(suites)


def _fail(case: ET.Element, gates: Sequence[Gate]) -> None:
    """One failure with all that fails, as some readers take only one."""
    if gates:
        failure = ET.SubElement(case, "failure", type="gate", message=visible(gates[0].message))
        failure.text = "\n".join(f"{visible(gate.option)}: {visible(gate.message)}" for gate in gates)


def _figures(entry: ClassAp) -> str:
    names = ("AP", "AP50", "AP75", "AR100", "precision", "recall")
    figures = ", ".join(f"{name} {number(getattr(entry, name), '.3f')}" for name in names)
    return f"{number(entry.n_val)} objects: {figures}"
