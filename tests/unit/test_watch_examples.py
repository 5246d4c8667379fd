"""The examples that keep watching: they parse, and name commands and flags that there are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from podtasks.pure.identity import IDENTITY_KEYS
from tests.unit.test_docs import ROOT, parse_command

EXAMPLES = ROOT / "examples/watch"
FILES = sorted(EXAMPLES.iterdir())


def commands(path: Path) -> list[list[str]]:
    """Return the words after `inv` in each line that runs it."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    found = [re.search(r"(?:^|[\s/=])inv (watch.*)$", line) for line in lines]
    return [shlex.split(match[1]) for match in found if match]


def workflow() -> dict[Any, Any]:
    loaded = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_there_is_an_example_for_each_scheduler() -> None:
    assert {path.name for path in FILES} == {
        "crontab",
        "github-actions.yml",
        "podtasks-watch.service",
        "podtasks-watch.timer",
    }


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix != ".timer"], ids=lambda path: path.name)
def test_each_example_looks_once_with_flags_that_there_are(path: Path) -> None:
    assert commands(path) == [["watch", "--once"]]
    for words in commands(path):
        assert [context.name for context in parse_command(words)][1:] == ["watch"]


def test_workflow_has_what_a_watcher_needs_and_no_secret_in_it() -> None:
    job = workflow()["jobs"]["watch"]
    assert set(job["env"]) <= set(IDENTITY_KEYS)
    assert {"RUNPOD_API_KEY", "NETWORK_VOLUME_ID", "RUNPOD_S3_SECRET_KEY"} <= set(job["env"])
    assert all(value == f"${{{{ secrets.{name} }}}}" for name, value in job["env"].items())
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    assert "${{" not in "".join(step.get("run", "") for step in job["steps"]), "values come by the environment"
    assert workflow()["permissions"] == {"contents": "read"}
    # YAML 1.1 reads the word `on` as true.
    assert re.fullmatch(r"\*/\d+ \* \* \* \*", workflow()[True]["schedule"][0]["cron"])


def test_workflow_remembers_a_look_that_failed_as_well() -> None:
    steps = workflow()["jobs"]["watch"]["steps"]
    uses = [str(step.get("uses", step.get("run"))).partition("@")[0] for step in steps]
    assert "actions/cache" not in uses, "it saves nothing after a step that failed"
    restore, save = (steps[uses.index(f"actions/cache/{what}")] for what in ("restore", "save"))
    assert save["if"] == "always()" and uses.index("actions/cache/save") > uses.index("inv watch --once")
    assert {name: restore["with"][name] for name in ("path", "key")} == save["with"]


def test_units_of_a_user_need_none_of_the_system() -> None:
    """A user's systemd knows no network-online.target: it would be waited for in vain."""
    for path in FILES:
        assert path.suffix not in (".service", ".timer") or "network-online" not in path.read_text()


def test_crontab_has_five_fields_and_a_command() -> None:
    lines = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if line and not line.startswith("#")]
    assert re.fullmatch(r"PATH=\S+", lines[0])
    [line] = lines[1:]
    fields = line.split(maxsplit=5)
    assert all(re.fullmatch(r"\*(/\d+)?|\d+", field) for field in fields[:5])
    assert "%" not in fields[5], "cron reads it as the end of a line"
    subprocess.run(["sh", "-n", "-c", fields[5]], check=True)


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    units = [path for path in FILES if path.suffix in (".service", ".timer")]
    for path in units:
        text = path.read_text().replace("%h/my-project/.venv/bin/inv", "/bin/true").replace("%h/my-project", "/tmp")
        (tmp_path / path.name).write_text(text)
        assert re.findall(r"^\[(\w+)\]$", text, re.MULTILINE)[0] == "Unit"
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    words = [analyze, "verify", "--user", *(str(tmp_path / path.name) for path in units)]
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, env=environment, capture_output=True, check=False)
    complaints = [line for line in done.stderr.decode().splitlines() if "podtasks-watch" in line]
    assert complaints == [] and done.returncode == 0, done.stderr.decode()
