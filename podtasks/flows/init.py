"""Making a training repository a podtasks project."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

TEMPLATES = {
    "tasks.py": "tasks.py",
    "invoke.yaml": "invoke.yaml",
    "runpod.env.example": ".runpod.env.example",
}
IGNORED = (".runpod.env", ".podtasks/")


def write_project_files(folder: Path) -> list[str]:
    """Write the files a project needs into `folder`, leaving those there are; return what was done, in lines."""
    done = [_write_template(template, folder / name) for template, name in TEMPLATES.items()]
    return [*done, *_ignore(folder / ".gitignore")]


def _write_template(template: str, path: Path) -> str:
    if path.exists() or path.is_symlink():
        return f"kept     {path.name}"
    path.write_text((resources.files("podtasks") / "templates" / template).read_text())
    return f"written  {path.name}"


def _ignore(path: Path) -> list[str]:
    text = path.read_text() if path.exists() else ""
    missing = [entry for entry in IGNORED if entry not in text.splitlines()]
    if not missing:
        return [f"kept     {path.name}"]
    separator = "" if not text or text.endswith("\n") else "\n"
    path.write_text(text + separator + "\n".join(missing) + "\n")
    return [f"added    {', '.join(missing)} to {path.name}"]
