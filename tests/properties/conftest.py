"""What the property tests share: the programs of remote/ can be imported as they import each other."""

from __future__ import annotations

import sys
from pathlib import Path

import tests.properties.profile  # noqa: F401 - loads the profile

sys.path.append(str(Path(__file__).parents[2] / "remote"))
