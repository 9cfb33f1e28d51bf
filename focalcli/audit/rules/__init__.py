"""code -> the page that `focal explain CODE` prints. Codes are stable: they are never reused for another meaning.

F0 records, F1 boxes, F2 categories, F3 pictures, F4 anchors, F5 between splits, F6 balance: one module each.
The loader finds those that only a reader of the file can see (Defect), checks/ the others, in modules of these names.

Severity: an error makes training or its numbers wrong, or loses data; a warning costs accuracy or hurts other tools;
an info is worth knowing.
"""

from __future__ import annotations

from focalcli.audit.rules import anchors, balance, boxes, categories, pictures, records, splits
from focalcli.audit.rules.page import Rule

__all__ = ["RULES", "Rule"]

_FAMILIES = (records, boxes, categories, pictures, anchors, splits, balance)
RULES: dict[str, Rule] = {rule.code: rule for family in _FAMILIES for rule in family.RULES}
