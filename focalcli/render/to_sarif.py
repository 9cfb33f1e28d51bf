"""An audit as SARIF 2.1.0, for code scanning and for editors.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", the sections named below; and
https://docs.github.com/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from focalcli import __version__
from focalcli.audit import RULES, AuditReport, Finding, Rule
from focalcli.audit.gates import GateResult
from focalcli.render.text import place_and_message, visible

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "SRCROOT"  # the uriBaseId of files below the folder that focal ran in
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def audit_sarif(
    report: AuditReport, wanted: Callable[[str], bool], folder: Path, gates: Sequence[GateResult] = ()
) -> dict[str, Any]:
    """One log with one run. A failed gate is a result too, of a rule of its own.

    Args:
        wanted: the codes that were checked. folder: files below it are named relative to it.
    """
    failed = [gate for gate in gates if not gate.passed]
    rules = [_rule(rule) for rule in RULES.values() if wanted(rule.code)]
    rules += [_gate_rule(gate) for gate in failed]
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    seen: Counter[str] = Counter()
    results = []
    for finding in report.findings:
        location = _location(report.split(finding.split).path, folder)
        results.append(
            {
                "ruleId": finding.code,
                "ruleIndex": index[finding.code],
                "level": _LEVELS[finding.severity],
                "message": {"text": _message(visible(f"{finding.split}: {place_and_message(finding)}"))},
                "locations": [location | _logical(finding)],
                "partialFingerprints": {"focal/v1": _fingerprint(finding.code, location, seen)},
                "properties": {
                    "split": finding.split,
                    "count": finding.count,
                    "unit": finding.unit,
                    "image_ids": list(finding.image_ids),
                    "annotation_ids": list(finding.annotation_ids),
                    "hint": finding.hint,
                },
            }
        )
    for gate in failed:
        location = _location(report.split(report.reference).path, folder)
        rule = f"gate-{gate.name}"
        results.append(
            {
                "ruleId": rule,
                "ruleIndex": index[rule],
                "level": "error",
                "message": {"text": _message(visible(gate.message))},
                "locations": [location],
                "partialFingerprints": {"focal/v1": _fingerprint(rule, location, seen)},
            }
        )
    driver = {"name": "focal", "semanticVersion": __version__, "version": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "originalUriBaseIds": {ROOT: {"uri": folder.resolve().as_uri().rstrip("/") + "/"}},
        "results": results,
        "properties": {"gates": [asdict(gate) for gate in gates]},
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    """A reportingDescriptor (3.49); the page is its help."""
    page = {"What it finds": rule.what, "Why it is bad": rule.why, "Example": rule.example, "How to fix": rule.fix}
    text = "\n\n".join(f"{title}: {words}" for title, words in {**page, "Source": rule.source}.items())
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": _message(rule.name.replace("-", " "))},
        "fullDescription": {"text": _message(rule.what)},
        "help": {"text": _message(text)},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"tags": ["dataset", rule.unit]},
    }


def _gate_rule(gate: GateResult) -> dict[str, Any]:
    text = f"The limit that --{gate.name} sets."
    return {
        "id": f"gate-{gate.name}",
        "name": "".join(word.capitalize() for word in ("gate", *gate.name.split("-"))),
        "shortDescription": {"text": text},
        "fullDescription": {"text": text},
        "help": {"text": text},
        "defaultConfiguration": {"level": "error"},
    }


def _message(text: str) -> str:
    """A plain text message: braces are doubled (3.11.5, placeholders), brackets of a link escaped (3.11.6)."""
    shown = text.replace("{", "{{").replace("}", "}}")
    return re.sub(r"([\\\[\]])", r"\\\1", shown) if "](" in shown else shown


def _location(path: Path, folder: Path) -> dict[str, Any]:
    """A relative URI where the file is below `folder`, an absolute one elsewhere; percent-encoded (3.4)."""
    whole, root = path.resolve(), folder.resolve()
    artifact = (
        {"uri": quote(os.fsencode(whole.relative_to(root).as_posix())), "uriBaseId": ROOT}
        if whole.is_relative_to(root)
        else {"uri": whole.as_uri()}
    )
    # code scanning shows nothing without a region; a finding is about the file
    return {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": 1}}}


def _logical(finding: Finding) -> dict[str, Any]:
    """The records that the finding names, as places inside the JSON (3.33)."""
    names = [f"images/{image}" for image in finding.image_ids]
    names += [f"annotations/{annotation}" for annotation in finding.annotation_ids]
    return (
        {"logicalLocations": [{"fullyQualifiedName": name, "kind": "object"} for name in dict.fromkeys(names)]}
        if names
        else {}
    )


def _fingerprint(rule: str, location: dict[str, Any], seen: Counter[str]) -> str:
    """The same for the same rule on the same file, however its counts change (3.27.17)."""
    key = f"{rule}|{location['physicalLocation']['artifactLocation']['uri']}"
    seen[key] += 1
    return hashlib.sha256(f"{key}|{seen[key]}".encode()).hexdigest()
