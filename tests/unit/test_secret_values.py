"""The setting `secrets`: where values come from, what is refused, and that none is ever shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from podtasks.doors.project_files import ProjectFiles, read_identity
from podtasks.flows.doctor_project import look_at_settings
from podtasks.pure.doctor import State
from podtasks.pure.errors import SettingsError
from podtasks.pure.secret import Secret
from podtasks.pure.secret_values import MAX_VARIABLE_BYTES
from podtasks.pure.settings import Effective, load_settings

SENTINEL = "s3ntinel-41aa"
NAMED = {"secrets": ["HF_TOKEN", "WANDB_API_KEY"]}


def load(
    project: object, environ: Mapping[str, str] | None = None, identity: Mapping[str, str] | None = None
) -> Effective:
    return load_settings(project, environ or {}, identity or {}, {}, folder="speech")


def problem(project: object, identity: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as failure:
        load(project, {}, identity)
    assert SENTINEL not in str(failure.value)
    return failure.value.what


def test_values_come_from_the_environment_before_the_file() -> None:
    effective = load(NAMED, {"HF_TOKEN": "env"}, {"HF_TOKEN": "file", "WANDB_API_KEY": "file"})
    assert effective.require_secrets() == {"HF_TOKEN": Secret("env"), "WANDB_API_KEY": Secret("file")}
    assert effective.sources["HF_TOKEN"] == "environment HF_TOKEN"
    assert effective.sources["WANDB_API_KEY"] == ".runpod.env"


def test_only_names_that_are_listed_are_read() -> None:
    assert load({}, {"HF_TOKEN": SENTINEL}).secret_values == {}


def test_rows_show_each_name_masked_with_its_source() -> None:
    rows = load(NAMED, {"HF_TOKEN": SENTINEL}).rows()
    assert ("HF_TOKEN", f"[secret], {len(SENTINEL)} characters", "environment HF_TOKEN") in rows
    assert ("WANDB_API_KEY", "(not set)", "missing") in rows
    assert SENTINEL not in str(rows)


def test_a_value_shows_in_no_repr() -> None:
    effective = load(NAMED, {"HF_TOKEN": SENTINEL}, {"WANDB_API_KEY": SENTINEL})
    assert SENTINEL not in f"{effective!r} {effective} {effective.require_secrets()!r}"


def test_a_line_of_the_file_is_allowed_exactly_when_it_is_listed() -> None:
    assert load(NAMED, {}, {"HF_TOKEN": "x"}).secret_values == {"HF_TOKEN": Secret("x")}
    said = problem({"secrets": ["HF_TOKEN"]}, {"ZZ9": SENTINEL, "HF_TOKN": SENTINEL})
    assert "ZZ9: unknown setting; a variable for the training must be named in podtasks.secrets" in said
    assert "HF_TOKN: unknown setting; did you mean HF_TOKEN?" in said


def test_a_list_that_is_wrong_accuses_no_line_of_the_file() -> None:
    said = problem({"secrets": ["HF TOKEN"]}, {"HF_TOKEN": SENTINEL})
    assert "podtasks.secrets" in said
    assert ".runpod.env" not in said


@pytest.mark.parametrize("name", ["POD_ID", "RUNPOD_API_KEY", "PODTASKS_X", "PATH", "HF_HOME", "A", "a b", "X=Y", ""])
def test_names_that_are_somebody_elses_or_no_secret_are_refused(name: str) -> None:
    assert "secrets" in problem({"secrets": [name], "env": {"A": "x"}})


@pytest.mark.parametrize("value", ["", "  ", "your_token_here", "<token>"])
def test_missing_values_are_named_with_what_to_do(value: str) -> None:
    effective = load(NAMED, {"WANDB_API_KEY": SENTINEL}, {"HF_TOKEN": value})
    with pytest.raises(SettingsError) as failure:
        effective.require_secrets()
    assert "HF_TOKEN has no value" in failure.value.what
    assert "HF_TOKEN=VALUE into .runpod.env" in failure.value.next_step
    assert SENTINEL not in str(failure.value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (f"{SENTINEL}\0", "NUL"),
        ("y" * MAX_VARIABLE_BYTES, "longer than 128 kB"),
        ("\u00fc" * (MAX_VARIABLE_BYTES // 2), "longer than 128 kB"),
    ],
)
def test_values_that_no_variable_can_have_are_refused_unquoted(value: str, why: str) -> None:
    with pytest.raises(SettingsError) as failure:
        load({"secrets": ["T"]}, {}, {"T": value}).require_secrets()
    assert why in failure.value.what
    assert SENTINEL not in str(failure.value)
    assert len(str(failure.value)) < 500


def test_the_longest_value_fits() -> None:
    value = "y" * (MAX_VARIABLE_BYTES - len("T=") - 1)
    assert load({"secrets": ["T"]}, {}, {"T": value}).require_secrets() == {"T": Secret(value)}


def test_all_together_have_a_limit() -> None:
    names = [f"T{n}" for n in range(9)]
    with pytest.raises(SettingsError, match="together"):
        load({"secrets": names}, dict.fromkeys(names, "y" * 127_000)).require_secrets()


def test_a_file_may_hold_quotes_and_several_lines(tmp_path: Path) -> None:
    files = ProjectFiles(tmp_path)
    files.identity_path.write_text("HF_TOKEN='it\\'s \"x\" $HOME ${HOME} #1'\nWANDB_API_KEY=\"first\nsecond \u00fc\"\n")
    files.identity_path.chmod(0o600)
    values = load(NAMED, {}, read_identity(files.identity_path)).require_secrets()
    assert values["HF_TOKEN"].reveal() == "it's \"x\" $HOME ${HOME} #1"
    assert values["WANDB_API_KEY"].reveal() == "first\nsecond \u00fc"


def test_doctor_tells_which_are_set_and_where_never_the_value() -> None:
    checks = list(look_at_settings(load(NAMED, {"HF_TOKEN": SENTINEL}, {"WANDB_API_KEY": SENTINEL})))
    [check] = [check for check in checks if check.name == "secrets"]
    assert (check.state, check.text) == (
        State.FINE,
        "HF_TOKEN (environment HF_TOKEN), WANDB_API_KEY (.runpod.env)",
    )
    [check] = [check for check in look_at_settings(load(NAMED, {"HF_TOKEN": SENTINEL})) if check.name == "secrets"]
    assert check.state is State.PROBLEM
    assert "WANDB_API_KEY has no value" in check.text
    assert SENTINEL not in str(check)
