"""The environment of a training, and of whoever works beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pod_environ import read_pod_environ


def build(script_env: Mapping[str, str]) -> dict[str, str]:
    """Return the pod's environment with the project's own variables, output unbuffered."""
    environ = read_pod_environ()
    environ.pop("PODTASKS_HOST_KEY", None)
    environ.setdefault("HOME", os.path.expanduser("~"))
    environ.setdefault("PATH", os.defpath)
    environ.update(script_env)
    environ["PYTHONUNBUFFERED"] = "1"
    return environ


def put_first(environ: dict[str, str], python: str) -> None:
    """Make the environment of `python` the active one, as its `activate` would."""
    programs = os.path.dirname(python)
    home = os.path.dirname(programs)
    if os.path.isfile(os.path.join(home, "pyvenv.cfg")):
        environ["VIRTUAL_ENV"] = home
        environ["PATH"] = f"{programs}{os.pathsep}{environ['PATH']}"
