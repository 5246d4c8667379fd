"""Where settings may stand, and what stands there: invoke.yaml, .runpod.env, the environment, flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from podtasks.pure.identity import IDENTITY_KEYS, is_unset
from podtasks.pure.project_settings import SETTING_KEYS, Settings
from podtasks.pure.settings_problems import printable
from podtasks.pure.suggestion import did_you_mean, find_nearest
from podtasks.pure.yaml_text import YamlTextError, load_yaml

PROJECT_FILE = "invoke.yaml"
IDENTITY_FILE = ".runpod.env"
DEFAULT = "default"
PREFIX = "PODTASKS_"
FLAG_KEYS = {"gpu": "gpu_types", "max_cost": "max_cost_usd"}
MAPPING_KEYS = frozenset({"env", "links", "data"})
NULLABLE_KEYS = frozenset(name for name, field in Settings.model_fields.items() if field.default is None) | {
    "requirements"
}


@dataclass(frozen=True)
class Choice:
    """A value somebody gave, and where."""

    value: object
    source: str


def from_project(mapping: object, problems: list[str]) -> dict[str, Choice]:
    """Return what stands under `podtasks` in invoke.yaml; what is wrong with it is added to the problems."""
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


def from_identity(mapping: object, problems: list[str]) -> dict[str, Choice]:
    """Return what .runpod.env sets; what is wrong with it is added to the problems."""
    if mapping is None:
        return {}
    if not isinstance(mapping, Mapping):
        problems.append(f"{IDENTITY_FILE}: must hold KEY=VALUE lines")
        return {}
    given = {key: mapping[key] for key in IDENTITY_KEYS if not is_unset(mapping.get(key))}
    layer = {key: Choice(value, IDENTITY_FILE) for key, value in given.items()}
    if "GPU_TYPE" in given:
        layer["gpu_types"] = Choice(given["GPU_TYPE"], f"{IDENTITY_FILE} GPU_TYPE")
    return layer


def refuse_unknown_lines(mapping: object, secrets: tuple[str, ...], problems: list[str]) -> None:
    """Add to the problems what .runpod.env holds beside identity values and the values of `secrets`."""
    if isinstance(mapping, Mapping):
        hint = "; a variable for the training must be named in podtasks.secrets"
        _refuse_unknown(mapping, IDENTITY_KEYS + secrets, f"{IDENTITY_FILE}: ", problems, hint)


def from_environ(environ: Mapping[str, str], problems: list[str]) -> dict[str, Choice]:
    """Return what the environment sets, an empty variable nothing; what is wrong is added to the problems."""
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
                yield f"environment {printable(name[:60])}: unknown setting; did you mean {PREFIX}{nearest}?"


def from_flags(flags: Mapping[str, object], problems: list[str]) -> dict[str, Choice]:
    """Return what flags set, None meaning not given; what is wrong is added to the problems."""
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


def _refuse_unknown(
    mapping: Mapping[object, object], known: tuple[str, ...], place: str, problems: list[str], hint: str = ""
) -> None:
    for key in mapping:
        if key not in known:
            name = key if isinstance(key, str) else type(key).__name__
            shown = name[:60] if name.isprintable() else repr(name[:60])
            problems.append(f"{place}{shown}: unknown setting{did_you_mean(name, known) or hint}")
