"""The setting `secrets` on the pod: kept for a run on the container disk, for its supervisor alone.

The values are neither on the volume nor in a record, an argument or a log, and not in the environment of process 1,
which the API lists. The file goes when the run ends, however it ends; the disk is wiped when the pod does.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
from collections.abc import Mapping

from pod_environ import container_directory


class SecretsLost(Exception):
    """A run was launched with secrets, and they are not there."""


def keep(run_id: str, values: Mapping[str, str]) -> None:
    """Keep the secrets of a run, readable by their owner only, whole or not at all; forget those of earlier runs.

    Raise OSError when the disk does not take them.
    """
    _forget_all()
    if not values:
        return
    path = _path(run_id)
    new = f"{path}.new"
    try:
        # Made private before anything is in it, and never through a link that lies in the way.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump(dict(values), file)
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


def read(run_id: str, names: list[str]) -> dict[str, str]:
    """Return the secrets that a run was launched with. Raise SecretsLost where one of `names` is not there."""
    if not names:
        return {}
    try:
        with open(_path(run_id), encoding="ascii") as file:
            values: dict[str, str] = json.load(file)
        return {name: values[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SecretsLost(f"the secrets {', '.join(names)} are not on the pod: {type(error).__name__}") from None


def forget(run_id: str) -> None:
    """Delete the secrets of a run, if there are any."""
    with contextlib.suppress(OSError):
        os.unlink(_path(run_id))


def _forget_all() -> None:
    for path in glob.glob(os.path.join(glob.escape(container_directory()), "secrets-*.json*")):
        os.unlink(path)


def _path(run_id: str) -> str:
    return os.path.join(container_directory(), f"secrets-{os.path.basename(run_id)}.json")
