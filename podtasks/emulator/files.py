"""Files that are whole at every moment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 (JSON values)
    """Write JSON that only the owner may read; readers see the old file or the new one, never a part."""
    text = json.dumps(value, indent=1)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(scratch, path)


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Return what `write_json` wrote, or None when there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
