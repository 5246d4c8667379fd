"""Pods without a live run are found and stopped, and nothing else is: two projects and a stranger on one cloud."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from podtasks.doors import local_cloud
from podtasks.doors.s3 import S3Volume
from podtasks.flows.heartbeats import read_beat
from podtasks.pure.reap import Beat
from podtasks.pure.s3_account import S3Account
from tests.end_to_end.project import TrainingProject

HANG = (
    "for file in $(find ${PODTASKS_DIR:-/opt/podtasks} -name stop_pod.py); do "
    "echo 'import time; time.sleep(3600)' > $file; done"
)
STRANGER = (
    'mutation { podFindAndDeployOnDemand(input: {gpuTypeId: "NVIDIA GeForce RTX 4090", imageName: "i", '
    'name: "somebody\'s", cloudType: SECURE, gpuCount: 1}) { id } }'
)


def neighbour(project: TrainingProject, path: Path) -> TrainingProject:
    """Return another project of the same account, with the same SSH key."""
    made = TrainingProject.make(path)
    (path / "configs/run.yaml").write_text("output_dir: checkpoints/other\nsteps: 2\nsave_steps: 2\n")
    made.commit("its own output")
    (path / ".podtasks").mkdir()
    (path / ".podtasks/cloud").symlink_to(project.path / ".podtasks/cloud")
    for name in ("local_key", "local_key.pub"):
        shutil.copy(project.path / ".podtasks" / name, path / ".podtasks" / name)
    return made


def open_volume(project: TrainingProject) -> S3Volume:
    """Return the volume of the local cloud, by its S3 API."""
    cloud = local_cloud.find(project.path / ".podtasks/cloud")
    assert cloud is not None and cloud.s3_keys is not None
    return S3Volume(S3Account(cloud.url, cloud.data_center, cloud.volume_id, *cloud.s3_keys), use_proxies=False)


def pods(project: TrainingProject, *words: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what `inv reap --json` tells of each pod, and which it stopped."""
    done = project.inv("reap", "--json", *words)
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    return {pod["id"]: pod for pod in told["pods"]}, told["stopped"]


def test_only_the_pod_that_cannot_stop_itself_is_stopped(project: TrainingProject, tmp_path: Path) -> None:
    project.hold_at(2)
    assert project.train("--no-follow").code == 0
    project.wait_for_step(2)
    (live,) = project.running_pods()
    volume = open_volume(project)
    first = read_beat(volume, live)
    assert first.run_id and first.data
    project.wait_for(lambda: read_beat(volume, live) != first, "the heartbeat of the live run")
    assert read_beat(volume, "no-such-pod") == Beat("", None)
    other = neighbour(project, tmp_path / "other")
    assert other.inv("start").code == 0
    (stuck,) = set(project.running_pods()) - {live}
    stranger = project.graphql(STRANGER)["podFindAndDeployOnDemand"]["id"]

    within_grace, _ = pods(project, "--all")
    assert {pod_id: pod["state"] for pod_id, pod in within_grace.items()} == {
        live: "running",
        stuck: "grace",
        stranger: "stranger",
    }
    assert within_grace[stuck]["project"] == "other" and within_grace[stuck]["ends_in_s"] > 60
    assert pods(project)[0].keys() == {live}, "without --all only the project's own"

    refused = project.inv("reap", "--all", "--now")
    assert refused.code == 101, "nobody can be asked"
    assert "nobody to ask" in refused.stderr and "with --yes" in refused.stderr
    assert set(project.running_pods()) == {live, stuck, stranger}

    other_output = project.volume / "checkpoints/other"
    other_output.mkdir(parents=True)
    (other_output / "hold-2").touch()
    assert other.train("--no-follow").code == 0
    assert other.inv("ssh", HANG).code == 0
    (other_output / "hold-2").unlink()
    project.wait_for((other_output / "final_model").exists, "the other project's training to end")
    found, stopped = pods(project, "--all", "--yes")
    assert stopped == [stuck]
    assert found[stuck]["state"] == "idle" and "does not get there" in found[stuck]["why"]
    assert (found[live]["state"], found[live]["run_id"]) == ("running", within_grace[live]["run_id"])
    assert set(project.running_pods()) == {live, stranger}
    project.release()
    assert project.train().code == 0, "the live run was not disturbed"
    assert "step 8" in project.log
