"""A result as exactly one JSON object on stdout."""

from __future__ import annotations

import json
import sys
from typing import Any


def print_json(result: dict[str, Any]) -> None:
    """Keys in the order of the result. NaN and Infinity, which are not JSON, are a bug of ours and raise ValueError."""
    # ASCII only: stdout may have any encoding, and a lone surrogate of a user's file has none
    sys.stdout.write(json.dumps(result, indent=2, allow_nan=False) + "\n")
