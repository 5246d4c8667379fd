"""Text that is safe between the quotes of a GraphQL string.

The runpod SDK pastes values between quotes as they are (RunPod facts, section 1: "without escaping"),
so whoever calls it must have escaped them.
"""

from __future__ import annotations

import json


def escape(value: str) -> str:
    """Return the text that stands for `value` inside a GraphQL string literal.

    GraphQL's escapes are JSON's (GraphQL specification, section 2.9.4).
    """
    return json.dumps(value, ensure_ascii=False)[1:-1]
