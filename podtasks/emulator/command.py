"""The command a container runs: the image's own, or what dockerArgs puts in its place."""

from __future__ import annotations

import json
import shlex


def start_command(docker_args: str, *, has_start_sh: bool) -> list[str]:
    """Return the words of process 1.

    `dockerArgs` replaces the image's command. It is a word list in shell quoting, or the JSON object
    {"cmd": [...], "entrypoint": [...]} (source: runpodctl#314, dstack's runpod/compute.py).

    Args:
        docker_args: as ordered; empty for the image's own command.
        has_start_sh: whether the image has /start.sh; an image without one runs a shell, which ends at
            once because nothing is typed into it.
    """
    if not docker_args.strip():
        return ["/start.sh"] if has_start_sh else ["/bin/bash"]
    structured = _parse_structured(docker_args)
    if structured is not None:
        return structured
    try:
        return shlex.split(docker_args)
    except ValueError:
        return docker_args.split()


def _parse_structured(text: str) -> list[str] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        parts = json.loads(text)
        words = [*(parts.get("entrypoint") or []), *(parts.get("cmd") or [])]
    except (ValueError, TypeError, AttributeError):
        return None
    return words if words and all(isinstance(word, str) for word in words) else None
