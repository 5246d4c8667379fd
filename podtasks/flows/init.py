"""Making a training repository a podtasks project."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from podtasks.doors import git_questions
from podtasks.flows.run_copies import FETCHED
from podtasks.pure.project_settings import DEFAULT_LINKS

TEMPLATES = {
    "tasks.py": "tasks.py",
    "invoke.yaml": "invoke.yaml",
    "runpod.env.example": ".runpod.env.example",
}
IGNORED = (".runpod.env", ".podtasks/")
# Not the folders `logs` and the like further down, which may hold code.
RESULTS = (*(f"/{folder}" for folder in DEFAULT_LINKS), f"/{FETCHED}")


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
    # As bytes: line ends stay what they are.
    text = path.read_bytes().decode() if path.exists() else ""
    lines = text.splitlines()
    missing = [entry for entry in IGNORED if entry not in lines]
    # A venv here would be committed with everything else, or keep the first training from starting.
    venvs = [f"/{config.parent.name}" for config in sorted(path.parent.glob("*/pyvenv.cfg"))]
    folders = (*RESULTS, *venvs)
    wanted = [entry for entry in folders if not {entry, f"{entry}/", entry[1:], f"{entry[1:]}/"} & set(lines)]
    in_git = [entry for entry in wanted if git_questions.has_tracked(path.parent, entry[1:])]
    missing += [entry for entry in wanted if entry not in in_git]
    left_out = [f"left out {entry} of {path.name}: git tracks files there" for entry in in_git]
    if not missing:
        return [f"kept     {path.name}", *left_out]
    separator = "" if not text or text.endswith("\n") else "\n"
    path.write_bytes((text + separator + "\n".join(missing) + "\n").encode())
    return [f"added    {', '.join(missing)} to {path.name}", *left_out]
