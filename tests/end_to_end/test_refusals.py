"""Every bad input: one clear error that says what to do, an exit code, and no pod."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.project import Done, TrainingProject


def require_refused(project: TrainingProject, done: Done, code: int, *texts: str) -> None:
    assert done.code == code, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Next: " in done.stderr
    assert "Traceback" not in done.stderr
    for text in texts:
        assert text in done.stderr
    if (project.path / ".podtasks/cloud/server.json").exists():
        assert project.pods() == []


def test_missing_config_lists_those_there_are(project: TrainingProject) -> None:
    require_refused(project, project.inv("train"), 101, "configs/run.yaml")
    require_refused(project, project.inv("train", "--config", "configs/rum.yaml"), 102, "did you mean configs/run.yaml")


def test_help_prints_help_and_trains_nothing(project: TrainingProject) -> None:
    for words in (("train", "--help"), ("--help", "train")):
        done = project.inv(*words)
        assert done.code == 0
        assert "--force-restart" in done.stdout
    assert not (project.path / ".podtasks").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [("output_dir: [", "not YAML"), ("steps: 3\n", "no output directory"), ("- a\n", "configs/run.yaml")],
)
def test_bad_config(project: TrainingProject, text: str, told: str) -> None:
    (project.path / "configs/run.yaml").write_text(text)
    project.commit("bad config")
    require_refused(project, project.train(), 102, told)


def test_unknown_setting_is_refused_with_the_nearest_name(project: TrainingProject) -> None:
    project.set(max_usd_per_hours="3")
    require_refused(project, project.train(), 103, "max_usd_per_hours", "max_usd_per_hour")


def test_invoke_yaml_that_is_not_yaml(project: TrainingProject) -> None:
    (project.path / "invoke.yaml").write_text("podtasks: [\n")
    require_refused(project, project.train(), 103, "invoke.yaml")


def test_uncommitted_changes_are_named(project: TrainingProject) -> None:
    (project.path / "scripts/train.py").write_text("print('edited')\n")
    require_refused(project, project.train(), 104, "scripts/train.py", "--code snapshot")


def test_script_that_is_not_in_the_commit(project: TrainingProject) -> None:
    project.set(script="scripts/trian.py")
    project.commit("misspelt")
    require_refused(project, project.train(), 104, "scripts/trian.py (the setting script)", "podtasks.script")


def test_project_in_a_folder_of_its_repository(project: TrainingProject) -> None:
    project.git("init", "-q", "-b", "main", "..")
    (project.path / ".git").rename(project.path / ".home/git")
    require_refused(project, project.train(), 104, "a folder inside the git repository", "move tasks.py")


def test_local_cloud_ignores_the_cloud_type(project: TrainingProject) -> None:
    project.set(cloud_type="community")
    project.commit("community")
    done = project.train("--dry-run")
    assert done.code == 0, done.stderr


def test_commit_that_is_not_pushed(project: TrainingProject, tmp_path: Path) -> None:
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(project.path), str(origin)], check=True)
    project.set(repository=f"file://{origin}")
    project.commit("not pushed")
    require_refused(project, project.train(), 104, "not pushed", "git push")


def test_unknown_gpu_type(project: TrainingProject) -> None:
    require_refused(project, project.train("--gpu", "NVIDIA RTX 4090"), 114, "NVIDIA GeForce RTX 4090")


def test_price_above_the_cap(project: TrainingProject) -> None:
    project.set(max_usd_per_hour="0.10")
    project.commit("low cap")
    require_refused(project, project.train(), 114, "above your cap of $0.10/h", "max_usd_per_hour")


def test_no_capacity_names_what_was_tried(project: TrainingProject) -> None:
    project.start_cloud()
    project.ask("dials", {"stock": {"NVIDIA GeForce RTX 4090": "None"}})
    require_refused(project, project.train("--gpu", "NVIDIA GeForce RTX 4090"), 113, "RTX 4090", "--gpu")


@pytest.fixture
def account(project: TrainingProject) -> TrainingProject:
    """The project with a filled-in .runpod.env, whose RunPod is the emulator."""
    project.start_cloud()
    write_identity(project)
    return project


def write_identity(project: TrainingProject, **changes: str) -> None:
    server = project.server()
    key = project.path / ".home/id_ed25519"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    values = {
        "RUNPOD_API_KEY": server["key"],
        "RUNPOD_API_BASE_URL": server["url"],
        "NETWORK_VOLUME_ID": server["volume_id"],
        "POD_ID": "",
        "SSH_KEY_PATH": str(key),
        **changes,
    }
    (project.path / ".runpod.env").write_text("".join(f"{name}='{value}'\n" for name, value in values.items()))


def test_with_runpod_env_filled_in_the_same_command_trains_there(account: TrainingProject) -> None:
    done = account.train()

    assert done.code == 0, done.stderr
    assert "local cloud" not in done.stderr
    text = (account.path / ".runpod.env").read_text()
    assert f"POD_ID={account.pods()[0]['id']}" in text.replace("'", "").replace('"', "")
    assert (account.path / ".runpod.env").stat().st_mode & 0o777 == 0o600


def test_refused_api_key(account: TrainingProject) -> None:
    write_identity(account, RUNPOD_API_KEY="rpa_WRONG")
    done = account.train()
    require_refused(account, done, 111, "RUNPOD_API_KEY")
    assert "rpa_WRONG" not in done.stderr


def test_volume_in_another_data_center(account: TrainingProject) -> None:
    account.set(data_center="US-KS-2")
    account.commit("elsewhere")
    require_refused(account, account.train(), 114, "US-KS-2", account.server()["data_center"])


def test_unknown_volume(account: TrainingProject) -> None:
    write_identity(account, NETWORK_VOLUME_ID="nosuchvol1")
    require_refused(account, account.train(), 114, "nosuchvol1", account.server()["volume_id"])


def test_pod_is_stopped_without_the_ssh_key_too(account: TrainingProject) -> None:
    account.hold_at(2)
    assert account.train("--no-follow").code == 0
    (account.path / ".home/id_ed25519").unlink()

    done = account.inv("stop")

    assert done.code == 0, done.stderr
    assert "could not be asked to end" in done.stderr
    assert account.running_pods() == []


def test_bad_key_files(account: TrainingProject) -> None:
    key = account.path / ".home/id_ed25519"
    write_identity(account, SSH_KEY_PATH="~/nowhere")
    require_refused(account, account.train(), 103, "nowhere", "ssh-keygen")
    write_identity(account, SSH_KEY_PATH=f"{key}.pub")
    Path(f"{key}.pub").chmod(0o600)
    require_refused(account, account.train(), 103, "not a private SSH key")
    write_identity(account)
    key.chmod(0o644)
    require_refused(account, account.train(), 103, "chmod 600")
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(key)], check=True)
    require_refused(account, account.train(), 103, "passphrase", f"ssh-add {shlex.quote(str(key))}")
    assert account.inv("stop", "--now").code == 0, "a pod can be stopped without the key"
