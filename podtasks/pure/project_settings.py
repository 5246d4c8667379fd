"""How a project runs: the settings under `podtasks` in invoke.yaml."""

from __future__ import annotations

import itertools
import posixpath
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from podtasks.pure.placeholder import fill
from podtasks.pure.setting_types import (
    Branch,
    CheckpointDir,
    CheckpointPattern,
    CpuInstance,
    DataCenter,
    DottedKeys,
    Folder,
    FolderName,
    GpuTypes,
    Image,
    LocalPath,
    MountPath,
    Notify,
    Number,
    OnFailure,
    Ports,
    ProjectName,
    RelativePath,
    Repository,
    RequiredDottedKeys,
    RequiredText,
    ResumeArgs,
    SecretNames,
    Text,
    WholeNumber,
    Words,
)

DEFAULT_GPU_TYPES = ("NVIDIA GeForce RTX 4090", "NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB")
DEFAULT_ENV = {"HF_HOME": "{mount_path}/.cache/huggingface", "PYTHONPATH": "{clone}"}
DEFAULT_LINKS = {name: name for name in ("data", "checkpoints", "logs", "predictions")}
DEFAULT_DATA = {
    name: name for name in ("data/audio_0", "data/audio_1", "data/audio_2", "data/train_word_transcripts.jsonl")
}
DEFAULT_PROJECT = "project"
MAX_PROJECT_LENGTH = 60  # RunPod facts: pod names up to 60 characters work
MAX_ENV = 50  # RunPod takes at most 50 variables
OUR_ENV = 8  # of which podtasks needs some: host key, project stamp, grace time, public key
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _default_env(value: object) -> object:
    return {**DEFAULT_ENV, **value} if isinstance(value, dict) else value


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _env(env: dict[str, str]) -> dict[str, str]:
    problems = [problem for name, value in env.items() if (problem := _variable_problem(name, value))]
    if len(env) > MAX_ENV - OUR_ENV:
        problems.append(f"holds {len(env)} variables; at most {MAX_ENV - OUR_ENV} fit beside podtasks' own")
    if problems:
        raise ValueError("; ".join(problems))
    return env


def _variable_problem(name: str, value: str) -> str | None:
    """Given a variable, return why the pod cannot have it, without ever quoting its value."""
    if not VARIABLE.fullmatch(name):
        return f"{name[:60]!r} is not a variable's name"
    if name.startswith(("RUNPOD_", "PODTASKS_")) or name == "PUBLIC_KEY":
        return f"{name} is set by RunPod or podtasks and cannot be set here"
    if "\0" in value:
        return f"the value of {name} holds a NUL character, which no variable can"
    return None


def _links(links: dict[str, str]) -> dict[str, str]:
    for inner in links:
        for outer in links:
            if inner.startswith(outer + "/"):
                raise ValueError(f"{inner} lies inside {outer}, which is itself a link")
        if inner.split("/")[0] == ".git":
            raise ValueError("must not replace git's own folder")
    return links


def _data(data: dict[str, str]) -> dict[str, str]:
    for outer, inner in itertools.permutations(data.values(), 2):
        if inner == outer or inner.startswith(outer + "/"):
            raise ValueError(f"{inner} lies inside {outer}: two local paths would share it")
    return data


Env = Annotated[
    dict[str, Annotated[str, BeforeValidator(_number_as_text)]],
    BeforeValidator(_default_env),
    AfterValidator(_env),
]
Links = Annotated[dict[Folder, Folder], AfterValidator(_links)]
Data = Annotated[dict[LocalPath, Folder], AfterValidator(_data)]


class Settings(BaseModel):
    """How a project runs, checked; every field has the default that podtasks is designed around."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)

    cloud: Literal["auto", "runpod", "local"] = Field(
        default="auto",
        description="Where pods run: `runpod`, or `local` on this machine. "
        "`auto` takes RunPod when there is an API key.",
    )
    project: ProjectName = Field(
        default=DEFAULT_PROJECT,
        description="The pod's name and stamp, by which it is found again; at most 60 characters. "
        "Default: the repository folder's name.",
    )
    image: Image = Field(
        default="runpod/pytorch:1.0.3-cu1290-torch291-ubuntu2204", description="The container image of a new pod."
    )
    gpu_types: GpuTypes = Field(
        default=DEFAULT_GPU_TYPES,
        description="GPU types in order of preference, as RunPod's ids. `GPU_TYPE` replaces it.",
    )
    gpu_count: WholeNumber = Field(default=1, ge=1, le=64, description="GPUs in the pod.")
    cloud_type: Literal["auto", "secure", "community"] = Field(
        default="auto",
        description="RunPod's Secure or Community Cloud. `auto` takes Secure, the only one with network volumes.",
    )
    data_center: DataCenter | None = Field(
        default=None, description="RunPod's data center id, such as EU-RO-1. Default: where the network volume is."
    )
    max_usd_per_hour: Number = Field(
        default=0.50, gt=0, le=10_000, description="Price cap in US dollars per hour for the pod with all its GPUs."
    )
    container_disk_gb: WholeNumber = Field(
        default=50, ge=1, le=100_000, description="Container disk in GB; wiped whenever the pod stops."
    )
    volume_disk_gb: WholeNumber = Field(
        default=20, ge=1, le=100_000, description="Volume disk in GB; only where there is no network volume."
    )
    ports: Ports = Field(
        default="22/tcp", description="Ports the pod opens, separated by commas; 22/tcp must be among them."
    )
    mount_path: MountPath = Field(default="/workspace", description="Where the volume is mounted in the pod.")
    env: Env = Field(
        default=DEFAULT_ENV,
        description="Variables for the pod and the training, added to the defaults (yours count first). "
        "`{mount_path}` and `{clone}` are filled in. Not for secrets where invoke.yaml is committed.",
    )
    repository: Repository | None = Field(default=None, description="The address the pod clones the code from.")
    branch: Branch = Field(default="main", description="The branch that is trained.")
    clone: FolderName | None = Field(
        default=None, description="The clone's folder name below `mount_path`. Default: the project."
    )
    code: Literal["origin", "local", "snapshot"] | None = Field(
        default=None,
        description="Where the code comes from: `origin` (what was pushed), `local` (this machine's commit, "
        "sent over SSH) or `snapshot` (the same with uncommitted changes). "
        "Default: `origin` with a repository, else `local`.",
    )
    forward_agent: bool = Field(
        default=False, description="Let the pod use this machine's SSH agent while it fetches from the repository."
    )
    python: RequiredText = Field(default="python", description="The Python that the pod's venv is made from.")
    script: RelativePath = Field(default="scripts/train.py", description="The training script, relative to the clone.")
    config_flag: Text = Field(
        default="--config", description="The script's flag for the configuration; empty: the path alone is passed."
    )
    args: Words = Field(default="", description="More arguments for the script, in shell words; nothing is expanded.")
    requirements: RelativePath | None = Field(
        default="requirements.txt",
        description="The requirements file, relative to the clone; `null`: nothing is installed.",
    )
    venv: Literal["container", "volume"] = Field(
        default="container",
        description="Where the venv lives: on the fast container disk, filled at each start from a cache "
        "on the volume, or on the volume, where it stays but imports are slow.",
    )
    links: Links = Field(
        default=DEFAULT_LINKS,
        description="Folders of the clone that live elsewhere on the volume: path in the clone to path below "
        "`mount_path`. Replaces the default; `{}`: no links.",
    )
    data: Data = Field(
        default=DEFAULT_DATA,
        description="What `inv sync-data` uploads: path on this machine (from the project's top, absolute, or with ~) "
        "to path below `mount_path`. Replaces the default.",
    )
    output_dir: RequiredDottedKeys = Field(
        default=("training.output_dir", "output_dir"),
        description="Where the output directory stands in a training configuration: "
        "dotted keys, of which the first present counts.",
    )
    logging_dir: DottedKeys = Field(
        default=("training.logging_dir", "logging_dir"),
        description="The same for the directory that TensorBoard reads.",
    )
    checkpoint_dir: CheckpointDir = Field(
        default="{output_dir}",
        description="Where the script really writes checkpoints, from `{output_dir}`, `{branch}` and "
        "`{config}` (the configuration's name).",
    )
    checkpoint_pattern: CheckpointPattern = Field(
        default="checkpoint-*", description="The name pattern of a checkpoint; the number in it is its step."
    )
    resume_args: ResumeArgs = Field(
        default="--resume {checkpoint}", description="Arguments that make the script resume; empty: it never resumes."
    )
    max_hours: Number = Field(
        default=24, gt=0, le=8760, description="Hours a run may take; then it is ended and the pod stopped."
    )
    grace_minutes: Number = Field(
        default=15, gt=0, le=1440, description="Minutes a pod may run without a run before it stops itself."
    )
    when_done: Literal["stop", "terminate", "keep"] = Field(
        default="stop",
        description="What happens to the pod when the run ends: `stop`, `terminate` (only with a network "
        "volume) or `keep` (it goes on billing until `max_hours`).",
    )
    max_cost_usd: Number | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="Most US dollars that a training may cost, with its restarts, at its pod's price; then it is "
        "ended and the pod stopped. `null`: no limit but `max_hours`.",
    )
    max_restarts: WholeNumber = Field(
        default=10, ge=0, le=1000, description="How often `--until-done` starts a training again."
    )
    stall_minutes: Number = Field(
        default=30,
        ge=0,
        le=100_000,
        description="Minutes without a byte of log and without GPU use after which a training counts as stalled; "
        "0: never.",
    )
    on_stall: Literal["notify", "stop"] = Field(
        default="notify", description="What follows a stall: a notification, or also the end of the run."
    )
    on_failure: OnFailure = Field(
        default="stop",
        description="What becomes of the pod when the training fails: `stop`, or `keep-for:30m` (s, m or h, 24h at "
        "most) for a look at it before it stops.",
    )
    secrets: SecretNames = Field(
        default=(),
        description="Variables for the training that nobody else may see, such as HF_TOKEN: their names. The values "
        "come from your environment or .runpod.env and lie in the pod's memory and container disk only.",
    )
    stop_grace_s: Number = Field(
        default=30, ge=0, le=3600, description="Seconds the training gets to end by itself before it is killed."
    )
    notify: Notify | None = Field(
        default=None,
        description="Who hears of a run's end, failure or recovery: an https address that gets the run's record as "
        "JSON, or a shell command that gets it on standard input. It is called from the pod.",
    )
    cpu_instance: CpuInstance = Field(
        default="cpu3c-2-4",
        description="The CPU pod that copies files where no GPU pod runs: RunPod's flavor, vCPUs and memory in GB.",
    )
    cpu_image: Image = Field(
        default="runpod/base:1.0.2-ubuntu2204", description="The container image of that CPU pod; it needs rsync."
    )
    pod_ready_timeout_s: Number = Field(
        default=900, gt=0, le=86_400, description="Seconds to wait until a pod answers."
    )

    @property
    def clone_name(self) -> str:
        """The clone's folder name below the mount path."""
        return self.clone or self.project

    @property
    def clone_path(self) -> str:
        """The clone's absolute path on the pod."""
        return posixpath.join(self.mount_path, self.clone_name)

    @property
    def code_source(self) -> Literal["origin", "local", "snapshot"]:
        """Where the code comes from, the default resolved."""
        return self.code or ("origin" if self.repository else "local")

    def pod_environment(self) -> dict[str, str]:
        """Return the variables for the pod, placeholders filled; podtasks' own are not among them."""
        values = {"mount_path": self.mount_path, "clone": self.clone_path}
        return {name: fill(value, values) for name, value in self.env.items()}


SETTING_KEYS = tuple(Settings.model_fields)


def project_name(folder: str) -> str:
    """Return a folder's name as a project name: at most 60 letters, digits, dots, dashes and underscores."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", folder[:1000])
    return re.sub(r"^[^A-Za-z0-9]+", "", cleaned)[:MAX_PROJECT_LENGTH].rstrip("-._") or DEFAULT_PROJECT
