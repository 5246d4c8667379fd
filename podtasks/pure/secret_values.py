"""The setting `secrets`: the values behind its names, and whether a training can be given them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from podtasks.pure.errors import SettingsError
from podtasks.pure.identity import is_unset
from podtasks.pure.secret import MASK, Secret
from podtasks.pure.settings_sources import IDENTITY_FILE

# execve(2), MAX_ARG_STRLEN: the most that `NAME=value` may take, with the NUL behind it.
MAX_VARIABLE_BYTES = 128 * 1024
# What all of them may take, far below what execve takes for arguments and environment together.
MAX_ALL_BYTES = 1024 * 1024


def find_secrets(
    names: Sequence[str], environ: Mapping[str, str], identity_mapping: object
) -> dict[str, tuple[Secret, str]]:
    """Return the value and its source of each name that has one; the environment goes before .runpod.env.

    An empty value, or the example's placeholder, is none.
    """
    in_file = identity_mapping if isinstance(identity_mapping, Mapping) else {}
    found = {}
    for name in names:
        for place, source in ((environ, f"environment {name}"), (in_file, IDENTITY_FILE)):
            value = place.get(name)
            if isinstance(value, str) and not is_unset(value):
                found[name] = (Secret(value), source)
                break
    return found


def describe_length(value: Secret | None) -> str | None:
    """Return the mask with the value's length, by which one that was cut short shows; None without a value."""
    return None if value is None else f"{MASK}, {len(value.reveal())} characters"


def require_secrets(names: Sequence[str], values: Mapping[str, Secret]) -> dict[str, Secret]:
    """Return the value of each name.

    Raises:
        SettingsError: one has no value, or one that no variable can have. No value is quoted.
    """
    missing = [name for name in names if name not in values]
    problems = [f"{name} has no value (an empty one or the example's is none)" for name in missing]
    problems += [f"{name} {why}" for name in names if name in values and (why := _why_no_variable(name, values[name]))]
    if sum(_size_bytes(name, value) for name, value in values.items()) > MAX_ALL_BYTES:
        problems.append("together they are longer than 1 MB")
    if problems:
        raise SettingsError(
            f"The training cannot be given its secrets: {'; '.join(problems)}.",
            means="No pod was created.",
            next_step=_next_step(missing),
        )
    return {name: values[name] for name in names}


def _next_step(missing: Sequence[str]) -> str:
    if not missing:
        return "give each a value that fits, or take its name out of podtasks.secrets in invoke.yaml"
    name = missing[0]
    return (
        f"put the line {name}=VALUE into {IDENTITY_FILE}, or set {name} in your environment, or take the name out of "
        "podtasks.secrets in invoke.yaml"
    )


def _why_no_variable(name: str, value: Secret) -> str:
    if "\0" in value.reveal():
        return "holds a NUL character, which no variable can"
    if _size_bytes(name, value) > MAX_VARIABLE_BYTES:
        return "is longer than 128 kB, which no variable can be"
    return ""


def _size_bytes(name: str, value: Secret) -> int:
    return len(os.fsencode(f"{name}={value.reveal()}")) + 1
