"""Placeholders such as ``{output_dir}`` in a setting's text."""

from __future__ import annotations

import re
from collections.abc import Mapping

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def fill(pattern: str, values: Mapping[str, str]) -> str:
    """Replace each known ``{name}`` in the pattern by its value; all other text stays as it is.

    Values are not looked into, so one that holds braces (JSON, say) is taken literally.
    """
    return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), pattern)


def unknown_placeholders(pattern: str, known: frozenset[str]) -> list[str]:
    """Return the names in braces that nothing will be filled in for."""
    return [name for name in PLACEHOLDER.findall(pattern) if name not in known]
