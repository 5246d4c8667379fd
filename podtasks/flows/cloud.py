"""Which cloud a command works on, RunPod or the local one, and all that is needed to talk to it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from podtasks.doors import key_files, local_cloud
from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles, read_identity, write_identity_value
from podtasks.doors.runpod_rest import RunPodRest
from podtasks.doors.runpod_sdk import RunPodSdk
from podtasks.pure.errors import SettingsError
from podtasks.pure.identity import IDENTITY_KEYS
from podtasks.pure.secret import Secret
from podtasks.pure.settings import Identity, Settings

SANDBOXED = "bubblewrap"
REST_URL = "https://api.runpod.io/v2"  # RunPod docs: api-reference-v2


@dataclass(frozen=True)
class Cloud:
    """An account on RunPod or on the local cloud.

    Args:
        name: what to call it.
        identity_path: the file that POD_ID is kept in.
        pod_id: the pod remembered from last time, "" when there is none.
        network_volume_id: the volume that pods get, None for a host-local volume disk.
        key_path: the private SSH key to log in with.
        public_key: its public half; "" where nothing is to be launched.
        volume_folder: where the local cloud's volume lies on this machine.
        mount_path: where pods see their volume, where the settings cannot say: a local cloud without
            sandbox has no /workspace.
        ssh_user: whom to log in as.
        s3_keys: access and secret key of the S3 API, None where there are none.
        s3_endpoint_url: where the S3 API answers, where that is not RunPod's own address of the data center.
        data_center: where the volume is, where that is known without asking.
        rest_url: the base of REST v2.
        rest: what asks it.
        must_remember: whether a POD_ID that cannot be written is an error; a watcher finds its pod without.
    """

    name: str
    is_local: bool
    api: RunPodSdk
    rest: RunPodRest
    identity_path: Path
    pod_id: str
    network_volume_id: str | None
    key_path: Path
    public_key: str
    volume_folder: Path | None = None
    mount_path: str | None = None
    ssh_user: str = "root"
    s3_keys: tuple[Secret, Secret] | None = None
    s3_endpoint_url: str | None = None
    data_center: str | None = None
    rest_url: str = REST_URL
    must_remember: bool = True

    def remember_pod(self, pod_id: str) -> None:
        """Write POD_ID to the identity file, at once, so that the pod is found again whatever happens."""
        try:
            write_identity_value(self.identity_path, "POD_ID", pod_id)
        except OSError:
            if self.must_remember:
                raise


def local_note(files: ProjectFiles) -> str:
    """Return why the local cloud is used where the settings leave it open, and how to change that."""
    if files.identity_path.exists():
        change = "fill in RUNPOD_API_KEY in .runpod.env"
    else:
        change = "cp .runpod.env.example .runpod.env, and fill it in"
    return (
        "podtasks: local cloud, because there is no RUNPOD_API_KEY. Nothing costs money; prices are RunPod's. "
        f"To train on RunPod: {change}."
    )


def local_was_started(files: ProjectFiles) -> bool:
    """Return whether the local cloud runs, or broke off; one that ended in order leaves no such trace."""
    return (local_state_folder(files) / "server.json").exists()


def local_volume_folder(files: ProjectFiles) -> Path | None:
    """Return where the volume of the local cloud's pods lies here, None before the first pod."""
    volume_id = read_identity(files.local_identity_path).get("NETWORK_VOLUME_ID")
    return local_state_folder(files) / "volumes" / volume_id if volume_id else None


def is_local(settings: Settings, identity: Identity) -> bool:
    """Return whether these settings mean the local cloud."""
    if settings.cloud == "auto":
        return identity.runpod_api_key is None
    return settings.cloud == "local"


def open_cloud(
    settings: Settings,
    identity: Identity,
    files: ProjectFiles,
    report: Reporter,
    clock: Clock,
    *,
    to_launch: bool = True,
) -> Cloud:
    """Return the cloud that the settings choose, starting the local one where it is wanted.

    Only `to_launch` needs the user's SSH key: a pod must be stopped without it as well. Raises SettingsError
    for a missing key, CloudError when the local cloud does not start.
    """
    if is_local(settings, identity):
        return _open_local(files, report, clock, settings.secrets)
    return _open_runpod(identity, files, clock, to_launch, settings.data_center)


def find_local(files: ProjectFiles) -> local_cloud.LocalCloud | None:
    """Return the project's local cloud if it runs."""
    return local_cloud.find(local_state_folder(files))


def start_local(
    files: ProjectFiles, report: Reporter, clock: Clock, secrets: Collection[str] = ()
) -> local_cloud.LocalCloud:
    """Return the project's local cloud, starting it, without the variables that `secrets` names, unless it runs."""
    with files.locked("cloud"):
        running = find_local(files)
        if running is not None:
            return running
        started = local_cloud.start(local_state_folder(files), clock, hidden={*IDENTITY_KEYS, *secrets})
    report.step(f"local cloud started at {started.url}")
    if started.sandbox != SANDBOXED:
        report.note("this machine cannot sandbox: pods are plain processes under .podtasks/")
    return started


def local_state_folder(files: ProjectFiles) -> Path:
    """Return the folder that the local cloud keeps its state in."""
    return files.ensure_state_folder() / "cloud"


def _open_local(files: ProjectFiles, report: Reporter, clock: Clock, secrets: Collection[str]) -> Cloud:
    running = start_local(files, report, clock, secrets)
    key_path = key_files.ensure_login_key(files.state_folder / "local_key")
    volume_folder = local_state_folder(files) / "volumes" / running.volume_id
    remembered = read_identity(files.local_identity_path)
    if remembered.get("NETWORK_VOLUME_ID") != running.volume_id:
        write_identity_value(files.local_identity_path, "NETWORK_VOLUME_ID", running.volume_id)
    return Cloud(
        name="local cloud",
        is_local=True,
        api=RunPodSdk(running.key, running.url, clock),
        rest=RunPodRest(running.key, f"{running.url}/v2", clock),
        identity_path=files.local_identity_path,
        pod_id=remembered.get("POD_ID", ""),
        network_volume_id=running.volume_id,
        key_path=key_path,
        public_key=key_files.require_login_key(key_path),
        volume_folder=volume_folder,
        mount_path=None if running.sandbox == SANDBOXED else str(volume_folder),
        ssh_user=running.ssh_user,
        s3_keys=running.s3_keys,
        s3_endpoint_url=running.url,
        data_center=running.data_center,
        rest_url=f"{running.url}/v2",
    )


def _open_runpod(
    identity: Identity, files: ProjectFiles, clock: Clock, to_launch: bool, data_center: str | None
) -> Cloud:
    if identity.runpod_api_key is None:
        raise SettingsError(
            "cloud is runpod, but there is no RUNPOD_API_KEY.",
            next_step="put it into .runpod.env (see .runpod.env.example), or use --cloud local",
        )
    key_path = Path(identity.ssh_key_path)
    rest_url = f"{identity.runpod_api_base_url}/v2" if identity.runpod_api_base_url else REST_URL
    return Cloud(
        name="RunPod",
        is_local=False,
        api=RunPodSdk(identity.runpod_api_key, identity.runpod_api_base_url, clock),
        rest=RunPodRest(identity.runpod_api_key, rest_url, clock),
        identity_path=files.identity_path,
        pod_id=identity.pod_id or "",
        network_volume_id=identity.network_volume_id,
        key_path=key_path.expanduser(),
        public_key=key_files.require_login_key(key_path) if to_launch else "",
        s3_keys=_s3_keys(identity),
        data_center=data_center,
        rest_url=rest_url,
    )


def _s3_keys(identity: Identity) -> tuple[Secret, Secret] | None:
    access_key, secret_key = identity.runpod_s3_access_key, identity.runpod_s3_secret_key
    return (access_key, secret_key) if access_key and secret_key else None
