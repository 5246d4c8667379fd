"""`inv doctor`: the project's settings, files, code and data on this machine."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from podtasks.doors import local_git
from podtasks.doors.git_questions import require_remote
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.findings import Findings
from podtasks.flows.preflight import TrainRequest, check_files, find_revision, read_config, require_known_host
from podtasks.pure.doctor import Check, as_checks, fine, problem, remark
from podtasks.pure.errors import CodeError, ConfigError, PodtasksError
from podtasks.pure.settings import Effective, Settings
from podtasks.pure.settings_sources import DEFAULT
from podtasks.pure.training_config import checkpoint_directory

REMOTE_TIMEOUT_S = 10.0
MANY_RUNS = 200


def look_at_settings(effective: Effective | None) -> Iterator[Check]:
    """Yield that the settings could be read, and whether anybody hears of a run's end."""
    if effective is None:
        return
    changed = sum(source != DEFAULT for source in effective.sources.values())
    yield fine("settings", f"read; {changed} of them set, the others by default")
    notify = effective.settings.notify
    yield fine("notify", "set: it is called when a run ends" if notify else "not set: nobody is told when a run ends")
    if effective.settings.secrets:
        yield from _look_at_secrets(effective)


def _look_at_secrets(effective: Effective) -> Iterator[Check]:
    """Yield which variables of the setting `secrets` have a value, and where it stands; never the value."""
    try:
        names = effective.require_secrets()
    except PodtasksError as error:
        yield from as_checks("secrets", error)
    else:
        yield fine("secrets", ", ".join(f"{name} ({effective.sources[name]})" for name in names))


def look_at_identity_file(files: ProjectFiles, mode: int | None) -> Iterator[Check]:
    """Yield how .runpod.env stands; `mode` is what it had before this command read it, None where there is none."""
    name = files.identity_path.name
    if mode is None:
        yield fine(name, "there is none, so the local cloud is used")
    elif mode & 0o077:
        yield remark(name, f"others on this machine could read it (mode {mode:o}); reading it has made it 600")
    else:
        yield fine(name, f"readable by you only (mode {mode:o})")
    if mode is not None and _is_tracked(files):
        yield problem(
            name,
            "git has it, so the keys go wherever the repository goes",
            "git rm --cached .runpod.env, ignore it, and make new keys",
            CodeError.exit_code,
        )


def _is_tracked(files: ProjectFiles) -> bool:
    try:
        root = local_git.find_root(files.root)
        return local_git.path_exists_at(root, "HEAD", files.identity_path.name) is True
    except PodtasksError:
        return False


def look_at_configs(files: ProjectFiles, settings: Settings, config: str) -> Iterator[Check]:
    """Yield whether the configurations can be trained: the one that is named, else all."""
    names = [config] if config else files.config_names()
    if not names:
        yield problem("configs", "there are none in configs/", "write one, such as configs/digits.yaml",
                      ConfigError.exit_code)  # fmt: skip
    for name in names:
        try:
            read = read_config(name, settings, files)
            place = checkpoint_directory(settings, read, settings.branch or "main")
        except PodtasksError as error:
            yield from as_checks("config", error, stops=bool(config) or len(names) == 1)
        else:
            yield fine("config", f"{read.path}, checkpoints in {posixpath.relpath(place, settings.mount_path)}")


def look_at_code(files: ProjectFiles, settings: Settings) -> Iterator[Check]:
    """Yield whether the commit that would be trained is there, and has the script."""
    try:
        revision = find_revision(TrainRequest(""), settings, files)
    except PodtasksError as error:
        yield from as_checks("code", error)
        return
    whence = {"origin": "pushed", "local": "sent from here", "snapshot": "with uncommitted changes"}[revision.code]
    yield fine("code", f"{revision.branch} at {revision.commit[:10]}, {whence}")
    findings = Findings()
    check_files(findings, revision, settings)
    try:
        findings.raise_any()
    except PodtasksError as error:
        yield from as_checks("files", error)
    else:
        requirements = f" and {settings.requirements}" if settings.requirements else ""
        yield fine("files", f"{settings.script}{requirements}")


def look_at_repository(files: ProjectFiles, settings: Settings) -> Iterator[Check]:
    """Yield whether the repository can be reached, and its server is known."""
    if not settings.repository:
        yield fine("repository", "none set; the code is sent from here")
        return
    needed = settings.code_source == "origin"
    try:
        require_known_host(settings)
        require_remote(settings.repository, root=files.root, timeout_s=REMOTE_TIMEOUT_S)
    except PodtasksError as error:
        yield from as_checks("repository", error, stops=needed)
    else:
        yield fine("repository", "answers")


def look_at_data(files: ProjectFiles, effective: Effective) -> Iterator[Check]:
    """Yield whether what inv sync-data would upload is there."""
    there: list[str] = []
    missing: list[str] = []
    for name in effective.settings.data:
        path = files.root / Path(name).expanduser()
        (there if os.access(path, os.R_OK) else missing).append(name)
    if there:
        yield fine("data", f"{', '.join(there)} can be read")
    if missing and effective.sources["data"] == DEFAULT and not there:
        yield fine("data", "none here; the setting data says what inv sync-data uploads")
    elif missing:
        yield remark("data", f"{', '.join(missing)} missing here", "correct the setting data in invoke.yaml")


def look_at_state(files: ProjectFiles) -> Iterator[Check]:
    """Yield how the state folder stands."""
    folder = files.state_folder
    if not folder.exists():
        yield fine(".podtasks", "not made yet")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem(".podtasks", "cannot be written", f"give yourself the right to write {folder}",
                      PodtasksError.exit_code)  # fmt: skip
        return
    copies = sum(path.is_dir() for path in (folder / "runs").glob("*"))
    if copies > MANY_RUNS:
        yield remark(".podtasks", f"{copies} copies of logs in .podtasks/runs", "delete those you do not need")
    else:
        yield fine(".podtasks", f"copies of logs: {copies}")
