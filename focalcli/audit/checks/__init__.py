"""Dataset -> findings, one function per check, in modules named as those of rules/, which has the pages.

Each check yields one finding for a rule and a split, which counts all the records it stands for and names the first.
"""

from __future__ import annotations

from focalcli.audit.checks.anchors import of_anchors
from focalcli.audit.checks.balance import of_balance, of_crowding
from focalcli.audit.checks.pictures import of_pictures
from focalcli.audit.checks.records import of_file
from focalcli.audit.checks.splits import of_splits

__all__ = ["of_anchors", "of_balance", "of_crowding", "of_file", "of_pictures", "of_splits"]
