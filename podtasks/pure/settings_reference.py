"""The reference page of all settings, written from the settings themselves."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from podtasks.pure.identity import IDENTITY_KEYS, Identity
from podtasks.pure.project_settings import Settings

INTRODUCTION = """\
# Settings

This page is written from the code by `render_reference`; a test compares the two.

`inv settings` shows every value that counts and where it comes from, with secrets masked.

A flag counts before the environment, the environment before a file, a file before the default. Unknown names
are refused, and all problems are reported at once.

## invoke.yaml

How the project runs; committed. Each setting stands under the key `podtasks`:

```yaml
podtasks:
  repository: https://github.com/you/project.git
  gpu_types: [NVIDIA GeForce RTX 4090, NVIDIA A100 80GB PCIe]
  max_usd_per_hour: 1.50
```

In the environment a setting is called `PODTASKS_` and its name in capitals: `PODTASKS_MAX_USD_PER_HOUR`.
Lists are separated by commas there, mappings are YAML such as `{NAME: value}`, `null` stands for none, and an
empty variable sets nothing.

"""
IDENTITY_INTRODUCTION = """\

## .runpod.env

Who runs it; never committed, readable by its owner only. `KEY=VALUE` lines; the environment goes before the
file, under the same names. An empty value, or a placeholder such as `your_api_key_here`, sets nothing.

It may also hold a line for each name in the setting `secrets`, such as `HF_TOKEN=...`; any other name is refused.

"""


def render_reference() -> str:
    """Return the reference of all settings as Markdown, the content of docs/settings.md."""
    settings = [_row(name, field) for name, field in Settings.model_fields.items()]
    identity = [_row(key, Identity.model_fields[key.lower()]) for key in IDENTITY_KEYS]
    return INTRODUCTION + _table(settings) + IDENTITY_INTRODUCTION + _table(identity)


def _table(rows: list[str]) -> str:
    return "\n".join(["| name | default | what it does |", "|---|---|---|", *rows]) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    allowed = _choices(field.annotation)
    meaning = f"{field.description}{f' One of {allowed}.' if allowed else ''}"
    return f"| `{name}` | {_default_text(field.default)} | {meaning} |"


def _choices(annotation: Any) -> str:  # noqa: ANN401 - a type annotation can be anything
    """Given a field's type, return its allowed words where it has a fixed set of them."""
    for candidate in (annotation, *get_args(annotation)):
        if get_origin(candidate) is Literal:
            return ", ".join(f"`{word}`" for word in get_args(candidate))
    return ""


def _default_text(default: object) -> str:
    if default is None:
        return "(none)"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, dict):
        return "<br>".join(f"`{key}: {value}`" for key, value in default.items())
    if isinstance(default, tuple):
        return "<br>".join(f"`{item}`" for item in default)
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`" if default != "" else "(empty)"


if __name__ == "__main__":
    print(render_reference(), end="")
