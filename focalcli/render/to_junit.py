"""An audit as JUnit XML: a suite for each split, a case for each rule, a failure for what is at or above `--fail-on`.

The shape is the one that Jenkins, GitLab and GitHub's test reporters read
(https://github.com/jenkinsci/junit-plugin, testsuites > testsuite > testcase > failure | system-out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from xml.etree import ElementTree as ET

from focalcli.audit import RULES, SEVERITIES, AuditReport, Finding, Severity
from focalcli.audit.gates import GateResult
from focalcli.render.text import place_and_message, visible


def audit_junit(
    report: AuditReport, wanted: Callable[[str], bool], fail_on: Severity | None, gates: Sequence[GateResult] = ()
) -> str:
    """One XML document.

    Args:
        wanted: the codes that were checked. fail_on: the least severity that is a failure, None for none.
    """
    suites = ET.Element("testsuites", name="focal audit")
    for split in report.splits:
        suite = ET.SubElement(suites, "testsuite", name=visible(split.name), file=visible(split.path))
        for rule in RULES.values():
            if wanted(rule.code):
                found = [entry for entry in report.findings if (entry.code, entry.split) == (rule.code, split.name)]
                case = _case(suite, f"focal.{split.name}", f"{rule.code} {rule.name}")
                _verdict(case, found, fail_on)
    if gates:
        suite = ET.SubElement(suites, "testsuite", name="gates")
        for gate in gates:
            case = _case(suite, "focal.gates", f"{gate.name} {gate.limit:g}")
            if not gate.passed:
                ET.SubElement(case, "failure", type="gate", message=visible(gate.message)).text = visible(gate.message)
    return document(suites)


def document(suites: ET.Element) -> str:
    """The whole file, with the counts that readers show."""
    for element in (*suites, suites):
        element.set("tests", str(len(list(element.iter("testcase")))))
        element.set("failures", str(len(list(element.iter("failure")))))
        element.set("errors", "0")
    ET.indent(suites)
    return ET.tostring(suites, "unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _case(suite: ET.Element, group: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=visible(group), name=visible(name))


def _verdict(case: ET.Element, found: Sequence[Finding], fail_on: Severity | None) -> None:
    """One failure with all that fails, as some readers take only one; what does not fail is said as output."""
    failing = [
        entry
        for entry in found
        if fail_on is not None and SEVERITIES.index(entry.severity) >= SEVERITIES.index(fail_on)
    ]
    if failing:
        first = failing[0]
        failure = ET.SubElement(case, "failure", type=first.severity, message=visible(place_and_message(first)))
        failure.text = "\n".join(map(_lines, failing))
    if other := [entry for entry in found if entry not in failing]:
        ET.SubElement(case, "system-out").text = "\n".join(map(_lines, other))


def _lines(finding: Finding) -> str:
    return f"{finding.severity}: {visible(place_and_message(finding))}\nhint: {visible(finding.hint)}"
