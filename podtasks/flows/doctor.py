"""Every precondition of a training, looked at without renting, starting or changing anything."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from podtasks.doors.at_once import Late, ask_at_once
from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import doctor_cloud, doctor_keys, doctor_local, doctor_machine, doctor_project
from podtasks.flows.cloud import Cloud, find_local, is_local, open_cloud
from podtasks.pure.doctor import Check, as_checks, problem
from podtasks.pure.errors import ApiUnreachableError, PodtasksError
from podtasks.pure.settings import Effective

TIMEOUT_S = 20.0
Question = Callable[[], Iterable[Check]]


@dataclass(frozen=True)
class Patient:
    """What is looked at: the project, its settings (None where they cannot be read), and one configuration or all."""

    files: ProjectFiles
    effective: Effective | None
    settings_problem: PodtasksError | None
    identity_mode: int | None
    config: str


def examine(patient: Patient, report: Reporter, clock: Clock) -> list[Check]:
    """Return what was found, in the order in which it is to be read. Nothing is raised for what is wrong."""
    questions: dict[str, Question] = {
        "this machine": functools.partial(doctor_machine.look, patient.files.root),
        "settings": functools.partial(_look_at_settings, patient),
    }
    if patient.effective is not None:
        questions |= _ask_about_project(patient, patient.effective, report, clock)
    return [check for name, answer in ask_at_once(_guarded(questions), TIMEOUT_S) for check in _read(name, answer)]


def _look_at_settings(patient: Patient) -> Iterator[Check]:
    if patient.settings_problem is not None:
        yield from as_checks("settings", patient.settings_problem)
    else:
        yield from doctor_project.look_at_settings(patient.effective)
    yield from doctor_project.look_at_identity_file(patient.files, patient.identity_mode)


def _ask_about_project(
    patient: Patient, effective: Effective, report: Reporter, clock: Clock
) -> Mapping[str, Question]:
    settings, identity, files = effective.settings, effective.identity, patient.files
    questions: dict[str, Question] = {
        "configurations": functools.partial(doctor_project.look_at_configs, files, settings, patient.config),
        "code": functools.partial(doctor_project.look_at_code, files, settings),
        "repository": functools.partial(doctor_project.look_at_repository, files, settings),
        "data": functools.partial(doctor_project.look_at_data, files, effective),
        "state folder": functools.partial(doctor_project.look_at_state, files),
    }
    local = is_local(settings, identity)
    questions["SSH key"] = functools.partial(doctor_keys.look, identity, settings, needed=not local)
    if local:
        questions["local cloud"] = functools.partial(doctor_local.look, files)
        if find_local(files) is None:
            return questions
    try:
        cloud = open_cloud(settings, identity, files, report, clock, to_launch=False)
    except PodtasksError as error:
        return {**questions, "account": functools.partial(as_checks, "account", error)}
    return {**questions, **_ask_about_cloud(cloud, effective)}


def _ask_about_cloud(cloud: Cloud, effective: Effective) -> Mapping[str, Question]:
    settings = effective.settings
    return {
        # One thread: the SDK keeps a call's status in one place.
        "account": functools.partial(doctor_cloud.look_at_account, cloud, settings),
        "REST v2": functools.partial(doctor_cloud.look_at_rest, cloud, settings),
        "S3 API": functools.partial(doctor_cloud.look_at_s3, cloud),
        "clock": functools.partial(doctor_cloud.look_at_clock, cloud),
    }


def _guarded(questions: Mapping[str, Question]) -> Mapping[str, Callable[[], list[Check]]]:
    """Return the questions with their answers read to the end, in the thread that asks."""

    def ask(question: Question) -> list[Check]:
        return list(question())

    return {name: functools.partial(ask, question) for name, question in questions.items()}


def _read(name: str, answer: list[Check] | BaseException | Late[list[Check]]) -> list[Check]:
    if isinstance(answer, Late):
        text = f"no answer within {TIMEOUT_S:.0f} s"
        return [problem(name, text, "look at the network, then run inv doctor again", ApiUnreachableError.exit_code)]
    if isinstance(answer, PodtasksError):
        return as_checks(name, answer)
    if isinstance(answer, OSError):
        return [problem(name, str(answer), "mend the file or folder that is named", PodtasksError.exit_code)]
    if isinstance(answer, BaseException):
        raise answer
    return answer
