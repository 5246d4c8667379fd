"""The settings that count, from all the places they may stand in: flag, environment, file, default."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from podtasks.pure.errors import SettingsError
from podtasks.pure.identity import IDENTITY_KEYS, Identity, is_unset
from podtasks.pure.project_settings import Settings, project_name
from podtasks.pure.secret import MASK
from podtasks.pure.settings_problems import describe_problems
from podtasks.pure.suggestion import did_you_mean, find_nearest
from podtasks.pure.yaml_text import YamlTextError, load_yaml

__all__ = ["Effective", "Identity", "Settings", "load_settings"]

PROJECT_FILE = "invoke.yaml"
IDENTITY_FILE = ".runpod.env"
DEFAULT = "default"
PREFIX = "PODTASKS_"
FLAG_KEYS = {
    "gpu": "gpu_types",
    "max_price": "max_usd_per_hour",
    "pod": "POD_ID",
    "volume": "NETWORK_VOLUME_ID",
    "ssh_key": "SSH_KEY_PATH",
}
SETTING_KEYS = tuple(Settings.model_fields)
MAPPING_KEYS = frozenset({"env", "links"})
NULLABLE_KEYS = frozenset(name for name, field in Settings.model_fields.items() if field.default is None) | {
    "requirements"
}
HIDDEN_KEYS = frozenset({"env", "repository"})  # whose values may hold something secret
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
Model = TypeVar("Model", bound=BaseModel)
RESERVED_FOLDERS = frozenset({"runs", "logs", ".cache"})


@dataclass(frozen=True)
class Choice:
    """A value somebody gave, and where."""

    value: object
    source: str


@dataclass(frozen=True)
class Effective:
    """The settings that count, and where each came from.

    Args:
        settings: how the project runs.
        identity: who runs it.
        sources: for each setting (lower case) and each identity value (upper case) where it came from.
    """

    settings: Settings
    identity: Identity
    sources: Mapping[str, str]

    def rows(self) -> list[tuple[str, str, str]]:
        """Return key, value as text and source of everything, secrets masked, for `inv settings`."""
        values = {key: getattr(self.settings, key) for key in SETTING_KEYS}
        values |= {
            "clone": self.settings.clone_name,
            "code": self.settings.code_source,
            "env": self.settings.pod_environment(),
        }
        values |= {key: getattr(self.identity, key.lower()) for key in IDENTITY_KEYS}
        return [(key, _printable(_value_text(value)), self.sources[key]) for key, value in values.items()]


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
        identity_mapping: what stands in .runpod.env; None where there is none.
        flags: values of flags by name, with underscores: a setting's or identity value's name, or gpu,
            max_price, pod, volume, ssh_key. None means that the flag was not given.
        folder: the repository folder's name, which is the project's name unless one is set.

    Raises:
        SettingsError: with every problem found, where it stands, and the nearest known name.
    """
    problems: list[str] = []
    chosen = {"project": Choice(project_name(folder), DEFAULT)}
    for layer in (
        _from_project(project_mapping, problems),
        _from_identity(identity_mapping, problems),
        _from_environ(environ, problems),
        _from_flags(flags, problems),
    ):
        chosen |= layer
    settings, bad_settings = _build(Settings, SETTING_KEYS, chosen, problems)
    identity, bad_identity = _build(Identity, IDENTITY_KEYS, chosen, problems)
    for keys, text in _conflicts(settings, identity):
        if not bad_settings.union(bad_identity).intersection(keys):
            problems.append(f"{_label(keys[0], '', chosen)}: {text}")
    if problems:
        raise _settings_error(problems)
    sources = {key: chosen[key].source if key in chosen else DEFAULT for key in SETTING_KEYS + IDENTITY_KEYS}
    return Effective(settings, identity, sources)


def _from_project(mapping: object, problems: list[str]) -> dict[str, Choice]:
    if mapping is None:
        return {}
    if not isinstance(mapping, Mapping):
        problems.append(f"{PROJECT_FILE}: podtasks must be a mapping of settings, not a {type(mapping).__name__}")
        return {}
    _refuse_unknown(mapping, SETTING_KEYS, f"{PROJECT_FILE}: podtasks.", problems)
    return {
        key: Choice(mapping[key], PROJECT_FILE)
        for key in SETTING_KEYS
        if key in mapping and (mapping[key] is not None or key in NULLABLE_KEYS)
    }


def _from_identity(mapping: object, problems: list[str]) -> dict[str, Choice]:
    if mapping is None:
        return {}
    if not isinstance(mapping, Mapping):
        problems.append(f"{IDENTITY_FILE}: must hold KEY=VALUE lines")
        return {}
    _refuse_unknown(mapping, IDENTITY_KEYS, f"{IDENTITY_FILE}: ", problems)
    given = {key: mapping[key] for key in IDENTITY_KEYS if not is_unset(mapping.get(key))}
    layer = {key: Choice(value, IDENTITY_FILE) for key, value in given.items()}
    if "GPU_TYPE" in given:
        layer["gpu_types"] = Choice(given["GPU_TYPE"], f"{IDENTITY_FILE} GPU_TYPE")
    return layer


def _from_environ(environ: Mapping[str, str], problems: list[str]) -> dict[str, Choice]:
    """Given the environment, return what it sets; an empty variable sets nothing."""
    layer = {}
    for key in IDENTITY_KEYS:
        if not is_unset(environ.get(key)):
            layer[key] = Choice(environ[key], f"environment {key}")
            if key == "GPU_TYPE":
                layer["gpu_types"] = Choice(environ[key], "environment GPU_TYPE")
    for key in SETTING_KEYS:
        name = PREFIX + key.upper()
        if environ.get(name, "").strip():
            layer[key] = Choice(_from_text(key, environ[name], f"environment {name}", problems), f"environment {name}")
    problems.extend(_misspelt(environ))
    return layer


def _from_text(key: str, text: str, source: str, problems: list[str]) -> object:
    if key in NULLABLE_KEYS and text.strip().lower() in ("null", "none"):
        return None
    if key not in MAPPING_KEYS:
        return text
    try:
        return load_yaml(text)
    except YamlTextError:
        problems.append(f"{source}: must be YAML such as {{NAME: value}}")
        return {}


def _misspelt(environ: Mapping[str, str]) -> Iterator[str]:
    """Given the environment, yield the names that must be meant for a setting but are not one's."""
    names = [PREFIX + key.upper() for key in SETTING_KEYS]
    for name in environ:
        if name.startswith(PREFIX) and name not in names:
            nearest = find_nearest(name.removeprefix(PREFIX), [key.upper() for key in SETTING_KEYS], cutoff=0.85)
            if nearest:
                yield f"environment {_printable(name[:60])}: unknown setting; did you mean {PREFIX}{nearest}?"


def _from_flags(flags: Mapping[str, object], problems: list[str]) -> dict[str, Choice]:
    layer = {}
    for name, value in flags.items():
        key, flag = FLAG_KEYS.get(name, name), "--" + name.lower().replace("_", "-")
        if value is None:
            continue
        if key not in SETTING_KEYS and key not in IDENTITY_KEYS:
            problems.append(f"flag {flag}: unknown setting{did_you_mean(name, SETTING_KEYS)}")
            continue
        given = _from_text(key, value, f"flag {flag}", problems) if isinstance(value, str) else value
        layer[key] = Choice(given, f"flag {flag}")
    return layer


def _refuse_unknown(mapping: Mapping[object, object], known: tuple[str, ...], place: str, problems: list[str]) -> None:
    for key in mapping:
        if key not in known:
            name = key if isinstance(key, str) else type(key).__name__
            shown = name[:60] if name.isprintable() else repr(name[:60])
            problems.append(f"{place}{shown}: unknown setting{did_you_mean(name, known)}")


def _build(
    model: type[Model], keys: tuple[str, ...], chosen: Mapping[str, Choice], problems: list[str]
) -> tuple[Model, set[str]]:
    """Given what was chosen, return the checked model and the bad keys, which have their defaults in it."""
    values = {key.lower(): chosen[key].value for key in keys if key in chosen}
    try:
        return model.model_validate(values), set()
    except ValidationError as error:
        names = {key.lower(): key for key in keys}
        quotable = {key: key in SETTING_KEYS and key not in HIDDEN_KEYS for key in keys}
        found = describe_problems(error, quotable)
    problems.extend(f"{_label(names[key], path, chosen)}: {text}" for key, path, text in found)
    bad = {key for key, _, _ in found}
    good = model.model_validate({key: value for key, value in values.items() if key not in bad})
    return good, {names[key] for key in bad}


def _conflicts(settings: Settings, identity: Identity) -> Iterator[tuple[tuple[str, ...], str]]:
    """Given settings that are right one by one, yield the keys and the text of what does not fit together."""
    if settings.code == "origin" and not settings.repository:
        yield ("code", "repository"), "origin needs podtasks.repository, the address to clone from"
    if settings.cloud_type == "community" and identity.network_volume_id:
        # RunPod docs: storage/network-volumes
        yield (
            ("cloud_type", "NETWORK_VOLUME_ID"),
            "community has no network volumes, but NETWORK_VOLUME_ID is set",
        )
    if bool(identity.runpod_s3_access_key) != bool(identity.runpod_s3_secret_key):
        keys = ("RUNPOD_S3_ACCESS_KEY", "RUNPOD_S3_SECRET_KEY")
        given, missing = keys if identity.runpod_s3_access_key else keys[::-1]
        yield (given, missing), f"{missing} is missing; the two are only good together"
    yield from _folder_conflicts(settings)


def _folder_conflicts(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Given the settings, yield where two things would share a folder of the volume."""
    clone_keys = ("clone" if settings.clone else "project", "links")
    targets = {target.split("/")[0] for target in settings.links.values()}
    if settings.clone_name in RESERVED_FOLDERS | targets:
        yield (
            clone_keys,
            f"the clone cannot be the folder {settings.clone_name}, which holds other things on the volume "
            "(set podtasks.clone)",
        )
    for target in sorted(targets & (RESERVED_FOLDERS - {"logs"})):
        yield ("links",), f"{target} on the volume belongs to podtasks"


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
        next_step="correct what is listed; `inv settings` then shows each value and where it comes from",
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


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
