"""A result as exactly one JSON object."""

from __future__ import annotations

import json
from typing import Any


def json_text(result: dict[str, Any]) -> str:
    """Keys in the order of the result. NaN and Infinity, which are not JSON, are a bug of ours and raise ValueError."""
    # ASCII only: stdout may have any encoding, and a lone surrogate of a user's file has none
    return json.dumps(result, indent=2, allow_nan=False) + "\n"
