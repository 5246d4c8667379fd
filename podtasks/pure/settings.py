"""The settings that count, from all the places they may stand in: flag, environment, file, default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from podtasks.pure.errors import SettingsError
from podtasks.pure.identity import IDENTITY_KEYS, Identity
from podtasks.pure.project_settings import SETTING_KEYS, Settings, project_name
from podtasks.pure.secret import MASK, Secret
from podtasks.pure.secret_values import describe_length, find_secrets, require_secrets
from podtasks.pure.settings_conflicts import find_conflicts
from podtasks.pure.settings_problems import describe_problems, printable
from podtasks.pure.settings_sources import (
    DEFAULT,
    IDENTITY_FILE,
    PROJECT_FILE,
    Choice,
    from_environ,
    from_flags,
    from_identity,
    from_project,
    refuse_unknown_lines,
)

__all__ = ["Effective", "Identity", "Settings", "load_settings"]

ADDRESS = re.compile(r"https?://[^\s'\"]+")
HIDDEN_KEYS = frozenset({"env", "repository", "notify", "secrets"})  # whose values may hold something secret
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
MISSING = "missing"
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Effective:
    """The settings that count, and where each came from.

    Args:
        settings: how the project runs.
        identity: who runs it.
        sources: for each setting (lower case), each identity value (upper case) and each secret where it came from.
        secret_values: what the names in the setting `secrets` stand for, as far as they have a value.
    """

    settings: Settings
    identity: Identity
    sources: Mapping[str, str]
    secret_values: Mapping[str, Secret] = field(default_factory=dict)

    def require_secrets(self) -> Mapping[str, Secret]:
        """Return the value of each name in the setting `secrets`. Raises SettingsError where one has none."""
        return require_secrets(self.settings.secrets, self.secret_values)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return key, value as text and source of everything, secrets masked, for `inv settings`."""
        values = {key: getattr(self.settings, key) for key in SETTING_KEYS}
        values |= {
            "clone": self.settings.clone_name,
            "code": self.settings.code_source,
            "env": self.settings.pod_environment(),
            # A webhook's address is all that is needed to post to it.
            "notify": self.settings.notify and ADDRESS.sub(MASK, self.settings.notify),
        }
        values |= {key: getattr(self.identity, key.lower()) for key in IDENTITY_KEYS}
        values |= {name: describe_length(self.secret_values.get(name)) for name in self.settings.secrets}
        return [(key, printable(_value_text(value)), self.sources[key]) for key, value in values.items()]


def load_settings(
    project_mapping: object,
    environ: Mapping[str, str],
    identity_mapping: object,
    flags: Mapping[str, object],
    *,
    folder: str = "",
) -> Effective:
    """Bring all settings together: flag before environment before file before default.

    Args:
        project_mapping: what stands under `podtasks` in invoke.yaml; None where nothing does.
        environ: the environment; `PODTASKS_GPU_COUNT` sets gpu_count, identity values have their own names.
        identity_mapping: what stands in .runpod.env; None where there is none. Beside identity values it may hold
            what the setting `secrets` names.
        flags: values of flags by name, with underscores: a setting's or identity value's name, or gpu.
            None means that the flag was not given.
        folder: the repository folder's name, which is the project's name unless one is set.

    Raises:
        SettingsError: with every problem found, where it stands, and the nearest known name.
    """
    problems: list[str] = []
    chosen = {"project": Choice(project_name(folder), DEFAULT)}
    for layer in (
        from_project(project_mapping, problems),
        from_identity(identity_mapping, problems),
        from_environ(environ, problems),
        from_flags(flags, problems),
    ):
        chosen |= layer
    settings, bad_settings = _build(Settings, SETTING_KEYS, chosen, problems)
    identity, bad_identity = _build(Identity, IDENTITY_KEYS, chosen, problems)
    if "secrets" not in bad_settings:
        refuse_unknown_lines(identity_mapping, settings.secrets, problems)
    for keys, text in find_conflicts(settings, identity):
        if not bad_settings.union(bad_identity).intersection(keys):
            problems.append(f"{_label(keys[0], '', chosen)}: {text}")
    if problems:
        raise _settings_error(problems)
    sources = {key: chosen[key].source if key in chosen else DEFAULT for key in SETTING_KEYS + IDENTITY_KEYS}
    secrets = find_secrets(settings.secrets, environ, identity_mapping)
    sources |= {name: secrets[name][1] if name in secrets else MISSING for name in settings.secrets}
    return Effective(settings, identity, sources, {name: value for name, (value, _) in secrets.items()})


def _build(
    model: type[Model], keys: tuple[str, ...], chosen: Mapping[str, Choice], problems: list[str]
) -> tuple[Model, set[str]]:
    """Given what was chosen, return the checked model and the bad keys, which have their defaults in it."""
    values = {key.lower(): chosen[key].value for key in keys if key in chosen}
    try:
        return model.model_validate(values), set()
    except ValidationError as error:
        names = {key.lower(): key for key in keys}
        quotable = {key: key in SETTING_KEYS and key not in HIDDEN_KEYS and not _is_own(key, chosen) for key in keys}
        found = describe_problems(error, quotable)
    problems.extend(f"{_label(names[key], path, chosen)}: {text}" for key, path, text in found)
    bad = {key for key, _, _ in found}
    good = model.model_validate({key: value for key, value in values.items() if key not in bad})
    return good, {names[key] for key in bad}


def _is_own(key: str, chosen: Mapping[str, Choice]) -> bool:
    """Return whether a setting's value is from a line among keys, into which a key may have slipped."""
    return key in chosen and chosen[key].source == f"{IDENTITY_FILE} GPU_TYPE"


def _label(key: str, path: str, chosen: Mapping[str, Choice]) -> str:
    """Given a setting and the path below it, return where its value stands, as the user knows the place."""
    source = chosen[key].source if key in chosen else DEFAULT
    if source == PROJECT_FILE:
        return f"{PROJECT_FILE}: podtasks.{key}{path}"
    if source == IDENTITY_FILE:
        return f"{IDENTITY_FILE}: {key}"
    return f"podtasks.{key}{path} (default)" if source == DEFAULT else source + path


def _settings_error(problems: list[str]) -> SettingsError:
    count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
    listing = "".join(f"\n  {problem}" for problem in problems)
    return SettingsError(
        f"The settings have {count}:{listing}",
        next_step="correct what is listed; inv settings then shows each value and where it comes from",
    )


def _value_text(value: object) -> str:
    if value is None:
        return "(not set)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{name}={_masked(name, text)}" for name, text in value.items()) or "(none)"
    if isinstance(value, tuple):
        return ", ".join(value) or "(none)"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _masked(name: str, text: str) -> str:
    return MASK if SECRET_NAME.search(name) else text
