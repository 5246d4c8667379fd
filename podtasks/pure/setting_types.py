"""What a setting's value may look like, as types that check it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from podtasks.pure.errors import UsageError
from podtasks.pure.placeholder import unknown_placeholders
from podtasks.pure.pod_path import clean_path, has_control_characters, path_problem, relative_path_problem
from podtasks.pure.shell import split_args
from podtasks.pure.suggestion import did_you_mean

SYSTEM_FOLDER = re.compile(
    r"/(bin|boot|dev|etc|lib|lib64|proc|run|sbin|sys|usr|opt/podtasks)(/.*)?|/(home|opt|root|tmp|var)"
)
CHECKPOINT_PLACEHOLDERS = frozenset({"output_dir", "branch", "config"})
MAX_HTTP_PORTS = 10  # RunPod docs: pods/configuration/expose-ports
PORT = re.compile(r"([1-9][0-9]{0,5})/(tcp|http)")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")
GPU_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/()+-]*")
CPU_INSTANCE = re.compile(r"[a-z][a-z0-9]*-[1-9][0-9]*-[1-9][0-9]*")
NOTIFY_URL = re.compile(r"https://[^\s@]+|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?(/\S*)?")
ON_FAILURE = re.compile(r"stop|keep-for:([1-9][0-9]*)([smh])")
SECONDS = {"s": 1, "m": 60, "h": 3600}
LONGEST_KEEP_S = 24 * 3600
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DATA_CENTER = re.compile(r"[A-Z0-9]+(-[A-Z0-9]+)*")
# git-check-ref-format: what a branch name must not hold.
BAD_BRANCH = re.compile(r"^[-/.]|[/.]$|\.lock(/|$)|\.\.|//|/\.|@\{|[\s~^:?*\[\\\x00-\x1f\x7f]|^@$")
URL_WITH_CREDENTIALS = re.compile(r"https?://[^/]*@", re.IGNORECASE)


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _join_commas(value: object) -> object:
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return value


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _at_least_one(values: tuple[str, ...]) -> tuple[str, ...]:
    # Not Field(min_length): pydantic counts the good items, and would call a list with one bad item empty.
    if not values:
        raise ValueError("must not be empty")
    return values


def _text(value: str) -> str:
    if has_control_characters(value):
        raise ValueError("must not hold control characters")
    return value.strip()


def _required_text(value: str) -> str:
    value = _text(value)
    if not value:
        raise ValueError("must not be empty")
    return value


def matching(pattern: re.Pattern[str], rule: str) -> AfterValidator:
    """Return a check that the whole text matches the pattern; the rule says so in words."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def _repository(value: str) -> str:
    if URL_WITH_CREDENTIALS.match(value):
        raise ValueError(
            "must not carry a user name or token: it would end up in logs and in the pod's clone "
            "(use an ssh address with forward_agent, or code: local)"
        )
    if value.startswith("-") or "::" in value or re.search(r"\s", value):
        raise ValueError("must be an address git can fetch from, such as https://github.com/you/project.git")
    return value


def _branch(value: str) -> str:
    if BAD_BRANCH.search(value):
        raise ValueError("is not a name git allows for a branch")
    return value


def _ports(value: str) -> str:
    ports = [port.strip() for port in value.split(",")]
    for port in ports:
        if not PORT.fullmatch(port):
            raise ValueError("must be ports such as 22/tcp or 8888/http, separated by commas")
    if "22/tcp" not in ports:
        raise ValueError("must hold 22/tcp, by which podtasks reaches the pod")
    if sum(port.endswith("/http") for port in ports) > MAX_HTTP_PORTS:
        raise ValueError(f"must not hold more than {MAX_HTTP_PORTS} http ports")
    return ",".join(dict.fromkeys(ports))


def _mount_path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("must be absolute, such as /workspace")
    _raise(path_problem(value))
    path = clean_path(value)
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", path):
        raise ValueError("must hold only letters, digits, dots, dashes and underscores between slashes")
    if SYSTEM_FOLDER.fullmatch(path):
        raise ValueError("must not hide a folder of the pod's system")
    return path


def _relative_path(value: str) -> str:
    _raise(relative_path_problem(value))
    return clean_path(value)


def _folder(value: str) -> str:
    path = _relative_path(value)
    if path == ".":
        raise ValueError("must name a folder inside")
    return path


def _folder_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("must be one folder name of letters, digits, dots, dashes and underscores")
    return value


def _checkpoint_dir(value: str) -> str:
    for name in unknown_placeholders(value, CHECKPOINT_PLACEHOLDERS):
        raise ValueError(f"has an unknown placeholder {{{name}}}{did_you_mean(name, CHECKPOINT_PLACEHOLDERS)}")
    _raise(path_problem(value))
    return value


def _checkpoint_pattern(value: str) -> str:
    if "/" in value:
        raise ValueError("must be the pattern of a name, without slashes")
    return value


def _shell_words(value: str) -> str:
    try:
        split_args(value)
    except UsageError as error:
        raise ValueError(error.what[0].lower() + error.what[1:].rstrip(".")) from None
    return value


def _resume_args(value: str) -> str:
    if "{" in value.replace("{checkpoint}", ""):
        raise ValueError("knows no placeholder but {checkpoint}, which stands for the checkpoint's path")
    return value


def _local_path(value: str) -> str:
    return value.rstrip("/") or "/"


def _notify(value: str) -> str:
    if "://" in value.split()[0] and not re.fullmatch(NOTIFY_URL, value):
        raise ValueError("must be an https address (http only on this machine) or a shell command")
    return value


def keep_s(on_failure: str) -> float:
    """Return for how many seconds a failed pod is kept for a look; 0 for `stop`. Raises ValueError."""
    found = ON_FAILURE.fullmatch(on_failure)
    if not found:
        raise ValueError("must be stop, or keep-for: with a time, such as keep-for:30m")
    seconds = int(found[1]) * SECONDS[found[2]] if found[1] else 0
    if seconds > LONGEST_KEEP_S:
        raise ValueError("must not keep a pod for more than 24h")
    return float(seconds)


def _on_failure(value: str) -> str:
    keep_s(value)
    return value


def _secret_name(value: str) -> str:
    if not VARIABLE.fullmatch(value):
        raise ValueError("is not a variable's name")
    if value.startswith(("RUNPOD_", "PODTASKS_")) or value in ("PUBLIC_KEY", "PATH", "HOME", "LD_PRELOAD"):
        raise ValueError(f"{value} belongs to RunPod, podtasks or the system and is not sent to the training")
    return value


def _dotted_key(value: str) -> str:
    if not all(part.strip() for part in value.split(".")):
        raise ValueError("must be keys joined by dots, such as training.output_dir")
    return value


def _raise(problem: str | None) -> None:
    if problem:
        raise ValueError(problem)


Text = Annotated[str, AfterValidator(_text)]
RequiredText = Annotated[str, AfterValidator(_required_text)]
WholeNumber = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]
Words = Annotated[Text, AfterValidator(_shell_words)]

Image = Annotated[
    RequiredText,
    matching(IMAGE, "must be a container image's name, such as runpod/pytorch:1.0.3-cu1290-torch291-ubuntu2204"),
]
GpuTypes = Annotated[
    tuple[Annotated[RequiredText, matching(GPU_TYPE, "must be a GPU type id as RunPod has it")], ...],
    BeforeValidator(_split_commas),
    AfterValidator(_unique),
    AfterValidator(_at_least_one),
]
DataCenter = Annotated[RequiredText, matching(DATA_CENTER, "must be a data center id such as EU-RO-1")]
Ports = Annotated[RequiredText, BeforeValidator(_join_commas), AfterValidator(_ports)]
MountPath = Annotated[RequiredText, AfterValidator(_mount_path)]
ProjectName = Annotated[
    str,
    Field(max_length=60),  # RunPod facts: pod names up to 60 characters work
    matching(NAME, "must be made of letters, digits, dots, dashes and underscores"),
]
Repository = Annotated[RequiredText, AfterValidator(_repository)]
Branch = Annotated[str, Field(min_length=1), AfterValidator(_branch)]
FolderName = Annotated[RequiredText, AfterValidator(_folder_name)]
RelativePath = Annotated[str, AfterValidator(_relative_path)]
Folder = Annotated[str, AfterValidator(_folder)]
LocalPath = Annotated[RequiredText, AfterValidator(_local_path)]
Notify = Annotated[RequiredText, AfterValidator(_notify)]
OnFailure = Annotated[RequiredText, AfterValidator(_on_failure)]
SecretNames = Annotated[
    tuple[Annotated[RequiredText, AfterValidator(_secret_name)], ...],
    BeforeValidator(_split_commas),
    AfterValidator(_unique),
]
CpuInstance = Annotated[
    RequiredText, matching(CPU_INSTANCE, "must be a CPU instance's id such as cpu3c-2-4: flavor, vCPUs, GB")
]
CheckpointDir = Annotated[str, AfterValidator(_checkpoint_dir)]
CheckpointPattern = Annotated[RequiredText, AfterValidator(_checkpoint_pattern)]
ResumeArgs = Annotated[Words, AfterValidator(_resume_args)]
DottedKeys = Annotated[
    tuple[Annotated[RequiredText, AfterValidator(_dotted_key)], ...],
    BeforeValidator(_split_commas),
    AfterValidator(_unique),
]
RequiredDottedKeys = Annotated[DottedKeys, AfterValidator(_at_least_one)]
