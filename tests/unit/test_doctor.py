"""What `inv doctor` finds, in the order in which it is to be read, and what it ends with."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from podtasks.doors import machine
from podtasks.doors.at_once import Late, ask_at_once
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import doctor, doctor_cloud, doctor_keys, doctor_local, doctor_machine, doctor_project
from podtasks.flows.doctor import Patient
from podtasks.pure.credit import Credit, parse_credit
from podtasks.pure.doctor import (
    Check,
    State,
    as_checks,
    as_json,
    exit_code,
    fine,
    problem,
    remark,
    render,
    summarize,
)
from podtasks.pure.errors import ApiUnreachableError, AuthenticationError, PlanError, SettingsError, combine
from podtasks.pure.settings import Effective, Settings, load_settings
from tests.unit.fakes import RTX_4090, STOPPED, VOLUME, FakeClock, FakeReporter, World

SETTINGS = Settings(project="demo", max_usd_per_hour=0.8, gpu_types=(RTX_4090.id,))
NO_GPU = PlanError("The price is above your cap.", next_step="raise max_usd_per_hour")
CREDIT = Credit(42.5, 0.69, 80.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An account without answers yet."""
    return World(tmp_path)


def states(checks: list[Check] | Iterator[Check]) -> dict[str, State]:
    """Return the state of each check by its name."""
    return {check.name: check.state for check in checks}


# What is made of checks


def test_lines_are_aligned_with_the_next_step_below() -> None:
    checks = [fine("git", "/usr/bin/git"), problem("code", "two lines\nof text", "git push"), remark("x", "note")]
    assert render(checks, plain=False) == [
        "\u2713 git   /usr/bin/git",
        "\u2717 code  two lines",
        "        of text",
        "        Next: git push",
        "! x     note",
    ]
    assert [line[0] for line in render(checks, plain=True)] == ["+", "x", " ", " ", "!"]
    assert "".join(render(checks, plain=True)).isascii()


def test_first_problem_gives_the_exit_code_and_remarks_give_none() -> None:
    bad = as_checks("a", AuthenticationError("The key is refused.", next_step="make a new one"))
    assert exit_code([fine("x", ""), remark("y", "")]) == 0
    assert exit_code([remark("y", ""), *bad, problem("z", "", "")]) == 111
    assert exit_code([problem("z", "", "")]) == SettingsError.exit_code == 103
    assert summarize([]) == "nothing would stop inv train"
    assert summarize(bad) == "one problem would stop inv train"
    assert summarize([*bad, *bad]) == "2 problems would stop inv train"


def test_several_problems_found_together_are_a_check_each() -> None:
    checks = as_checks("GPU", combine([NO_GPU, PlanError("There is no volume.", next_step="set it")]))
    assert [(c.name, c.text, c.next_step, c.exit_code) for c in checks] == [
        ("GPU", "The price is above your cap", "raise max_usd_per_hour", 114),
        ("GPU", "There is no volume", "set it", 114),
    ]
    assert {check.state for check in as_checks("GPU", NO_GPU, stops=False)} == {State.REMARK}


def test_json_has_what_the_documentation_says() -> None:
    assert as_json([fine("git", "there"), problem("code", "bad", "git push", 104)]) == {
        "is_ready": False,
        "checks": [
            {"name": "git", "state": "ok", "text": "there", "next_step": None, "exit_code": None},
            {"name": "code", "state": "problem", "text": "bad", "next_step": "git push", "exit_code": 104},
        ],
    }


# Asking at once


def test_answers_come_in_order_with_what_was_raised_and_what_is_late() -> None:
    never = threading.Event()

    def fail() -> bool:
        raise IndexError

    questions: dict[str, Callable[[], bool]] = {"slow": never.wait, "bad": fail, "good": lambda: True}
    told = list(ask_at_once(questions, timeout_s=0.3))
    never.set()
    assert [name for name, _ in told] == ["slow", "bad", "good"]
    assert isinstance(told[0][1], Late) and isinstance(told[1][1], IndexError) and told[2] == ("good", True)


def test_questions_are_asked_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert [answer for _, answer in ask_at_once(dict.fromkeys("abc", meeting.wait), timeout_s=10)] != []
    assert not meeting.broken


# The account


def test_account_is_looked_at_whole(world: World) -> None:
    world.api.on("list_network_volumes", [VOLUME]).on("read_credit", CREDIT).on("list_pods", [STOPPED])
    world.api.on("list_offers 1 EU-RO-1 secure", [RTX_4090])
    checks = list(doctor_cloud.look_at_account(world.cloud(), SETTINGS))
    assert set(states(checks).values()) == {State.FINE}
    told = {check.name: check.text for check in checks}
    assert told["balance"] == "$42.50, $0.69/h spent now, spend limit $80.00/h"
    assert told["GPU"] == "RTX 4090 at $0.69/h in EU-RO-1, stock high"
    assert told["volume"] == "vol1 (data), 100 GB in EU-RO-1"
    assert told["pod"] == "pod1, EXITED"
    assert world.api.orders() == [], "nothing is rented or changed"


def test_refused_key_is_the_one_problem_of_the_account(world: World) -> None:
    world.api.on("list_network_volumes", AuthenticationError("RunPod refused the API key.", next_step="a new one"))
    (check,) = doctor_cloud.look_at_account(world.cloud(), SETTINGS)
    assert (check.name, check.state, check.exit_code) == ("API key", State.PROBLEM, 111)


def test_balance_that_cannot_be_read_hides_nothing_else(world: World) -> None:
    world.api.on("list_network_volumes", []).on("read_credit", ApiUnreachableError("No answer.", next_step="later"))
    world.api.on("list_offers 1 - secure", [RTX_4090])
    checks = list(doctor_cloud.look_at_account(world.cloud(), SETTINGS))
    assert states(checks) == {
        "API key": State.FINE,
        "balance": State.REMARK,
        "volume": State.REMARK,
        "GPU": State.PROBLEM,
    }


@pytest.mark.parametrize(
    ("credit", "state"),
    [
        (Credit(0.8, 0, 80), State.FINE),
        (Credit(0.5, 0, 80), State.REMARK),
        (Credit(0.0, 0, 80), State.PROBLEM),
        (Credit(-1.0, None, None), State.PROBLEM),
        (Credit(None, None, None), State.REMARK),
    ],
)
def test_an_hour_of_credit_is_needed(world: World, credit: Credit, state: State) -> None:
    world.api.on("read_credit", credit)
    (check,) = doctor_cloud._look_at_credit(world.cloud(), SETTINGS)
    assert check.state is state


def test_credit_is_parsed_with_what_is_missing() -> None:
    assert parse_credit({"data": {"myself": {"clientBalance": 3, "spendLimit": None}}}) == Credit(3.0, None, None)
    with pytest.raises(TypeError):
        parse_credit({"data": None})


@pytest.mark.parametrize(
    ("skew_s", "state", "says"),
    [
        (None, State.REMARK, "could not be checked"),
        (1.0, State.FINE, "within 1 s"),
        (-600.0, State.REMARK, "10 min behind RunPod's, which the S3 API would refuse from an hour on"),
        (7200.0, State.REMARK, "120 min ahead of RunPod's, which the S3 API refuses"),
    ],
)
def test_clock_is_compared(
    world: World, monkeypatch: pytest.MonkeyPatch, skew_s: float | None, state: State, says: str
) -> None:
    monkeypatch.setattr(machine, "clock_skew_s", lambda *_: skew_s)
    (check,) = doctor_cloud.look_at_clock(world.cloud())
    assert check.state is state and says in check.text


def test_without_s3_keys_it_is_said_how_to_get_them(world: World) -> None:
    (check,) = doctor_cloud.look_at_s3(world.cloud())
    assert (check.state, check.text) == (State.REMARK, "there are no S3 keys; files go over SSH")
    assert "RUNPOD_S3_ACCESS_KEY" in check.next_step


# This machine


@pytest.mark.parametrize(
    ("version", "state"), [((3, 9, 1), State.PROBLEM), ((3, 10, 0), State.FINE), ((4, 0, 0), State.FINE)]
)
def test_python_must_be_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], state: State
) -> None:
    monkeypatch.setattr(machine, "python_version", lambda: version)
    assert states(doctor_machine.look(tmp_path))["Python"] is state


def test_missing_programs_packages_and_room_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_program", lambda _: None)
    monkeypatch.setattr(machine, "free_bytes", lambda _: 5000)
    monkeypatch.setattr(machine, "OWN_PACKAGES", ("no_such_package",))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    found = states(doctor_machine.look(tmp_path))
    assert found["git"] is State.PROBLEM and found["packages"] is State.PROBLEM
    assert {name for name, state in found.items() if state is State.REMARK} == {"ssh", "rsync", "disk", "proxies"}


def test_listed_packages_are_those_that_are_installed() -> None:
    assert machine.missing_packages() == []


# Keys and the local cloud


@pytest.mark.parametrize(("needed", "state"), [(True, State.PROBLEM), (False, State.REMARK)])
def test_missing_key_stops_only_where_it_is_needed(tmp_path: Path, needed: bool, state: State) -> None:
    effective = load(tmp_path, {"SSH_KEY_PATH": str(tmp_path / "none")})
    assert states(doctor_keys.look(effective.identity, SETTINGS, needed=needed))["SSH key"] is state


def test_key_that_others_may_read_is_found(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    effective = load(tmp_path, {"SSH_KEY_PATH": str(tmp_path / "key")})
    assert states(doctor_keys.look(effective.identity, SETTINGS, needed=True))["SSH key"] is State.FINE
    (tmp_path / "key").chmod(0o644)
    checks = list(doctor_keys.look(effective.identity, SETTINGS, needed=True))
    assert checks[0].state is State.PROBLEM and checks[0].next_step.startswith("chmod 600")


def test_agent_is_missed_only_where_it_is_forwarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    identity = load(tmp_path, {}).identity
    assert states(doctor_keys.look(identity, SETTINGS, needed=False))["SSH agent"] is State.FINE
    forwarding = SETTINGS.model_copy(update={"forward_agent": True})
    assert states(doctor_keys.look(identity, forwarding, needed=False))["SSH agent"] is State.PROBLEM


def test_local_cloud_is_not_started_to_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "why_no_sandbox", lambda: "bwrap is not installed")
    monkeypatch.setattr(machine, "find_program", lambda name: f"/usr/sbin/{name}")
    files = ProjectFiles(tmp_path)
    checks = list(doctor_local.look(files))
    assert states(checks) == {"local cloud": State.FINE, "sandbox": State.REMARK, "sshd": State.FINE}
    state = tmp_path / ".podtasks/cloud"
    state.mkdir(parents=True)
    (state / "server.json").write_text("{}")
    assert states(doctor_local.look(files))["local cloud"] is State.REMARK
    assert [path.name for path in state.iterdir()] == ["server.json"]


# The project


def load(folder: Path, environ: dict[str, str], mapping: object = None) -> Effective:
    """Return settings as they are read in a folder."""
    return load_settings(mapping, environ, None, {}, folder=folder.name)


def test_identity_file_is_judged_by_the_mode_it_had(tmp_path: Path) -> None:
    files = ProjectFiles(tmp_path)
    name = ".runpod.env"
    assert states(doctor_project.look_at_identity_file(files, None)) == {name: State.FINE}
    assert states(doctor_project.look_at_identity_file(files, 0o600)) == {name: State.FINE}
    (check,) = doctor_project.look_at_identity_file(files, 0o644)
    assert check.state is State.REMARK and "mode 644" in check.text


def test_identity_file_in_git_is_a_problem(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tmp_path / ".runpod.env").write_text("RUNPOD_API_KEY=x\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    assert states(doctor_project.look_at_identity_file(ProjectFiles(tmp_path), 0o600)) == {
        ".runpod.env": State.PROBLEM
    }


def test_each_configuration_is_read_and_the_one_that_is_named_must_be_right(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/a.yaml").write_text("output_dir: checkpoints/a\n")
    (tmp_path / "configs/b.yaml").write_text("x: 1\n")
    files = ProjectFiles(tmp_path)
    found = [check.state for check in doctor_project.look_at_configs(files, SETTINGS, "")]
    assert found == [State.FINE, State.REMARK]
    (check,) = doctor_project.look_at_configs(files, SETTINGS, "configs/b.yaml")
    assert check.state is State.PROBLEM and check.exit_code == 102
    (check,) = doctor_project.look_at_configs(ProjectFiles(tmp_path / "configs"), SETTINGS, "")
    assert check.state is State.PROBLEM


def test_data_that_is_missing_counts_only_where_it_was_named(tmp_path: Path) -> None:
    files = ProjectFiles(tmp_path)
    assert [c.state for c in doctor_project.look_at_data(files, load(tmp_path, {}))] == [State.FINE]
    named = load(tmp_path, {}, {"data": {"here": "data/here", "gone": "data/gone"}})
    (tmp_path / "here").mkdir()
    checks = list(doctor_project.look_at_data(files, named))
    assert [(check.state, check.text) for check in checks] == [
        (State.FINE, "here can be read"),
        (State.REMARK, "gone missing here"),
    ]


def test_repository_that_does_not_answer_stops_only_a_run_from_there(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for code, state in (("origin", State.PROBLEM), ("local", State.REMARK)):
        settings = SETTINGS.model_copy(update={"repository": f"file://{tmp_path}/none", "code": code})
        (check,) = doctor_project.look_at_repository(ProjectFiles(tmp_path), settings)
        assert check.state is state and "git ls-remote" in check.next_step


# All of it


def test_bad_settings_leave_the_rest_to_be_looked_at(tmp_path: Path) -> None:
    bad = SettingsError("The settings have one problem.", next_step="correct it")
    patient = Patient(ProjectFiles(tmp_path), None, bad, None, "")
    checks = doctor.examine(patient, FakeReporter(), FakeClock())
    assert {"Python", "git", "settings", ".runpod.env"} <= set(states(checks))
    assert states(checks)["settings"] is State.PROBLEM and exit_code(checks) == 103


def test_account_without_a_key_is_one_problem_among_the_others(tmp_path: Path) -> None:
    effective = load(tmp_path, {}, {"cloud": "runpod"})
    patient = Patient(ProjectFiles(tmp_path), effective, None, None, "")
    checks = doctor.examine(patient, FakeReporter(), FakeClock())
    told = {check.name: check for check in checks}
    assert told["account"].state is State.PROBLEM and "RUNPOD_API_KEY" in told["account"].text
    assert {"configs", "code", "SSH key", "clock"} - set(told) == {"clock"}, "what needs a key is not asked"


def test_bug_in_a_check_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> list[Check]:
        raise ZeroDivisionError(root)

    monkeypatch.setattr(doctor_machine, "look", fail)
    patient = Patient(ProjectFiles(tmp_path), None, SettingsError("x", next_step="x"), None, "")
    with pytest.raises(ZeroDivisionError):
        doctor.examine(patient, FakeReporter(), FakeClock())


def test_question_that_takes_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(doctor_machine, "look", lambda _: iter(never.wait, True))
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.2)
    patient = Patient(ProjectFiles(tmp_path), None, SettingsError("x", next_step="x"), None, "")
    checks = doctor.examine(patient, FakeReporter(), FakeClock())
    never.set()
    assert checks[0] == replace(checks[0], name="this machine", state=State.PROBLEM, exit_code=112)
