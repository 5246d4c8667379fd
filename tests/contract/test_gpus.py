"""What programs and the API see of a pod's GPUs."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from podtasks.emulator.gpus import write_report
from podtasks.emulator.pod import Pod
from tests.contract.local_cloud import Emulator, Pods, wait_for

QUERY = "nvidia-smi --query-gpu=index,name,utilization.gpu,memory.used,memory.total --format=csv,noheader,nounits"


def test_nvidia_smi_shows_the_rented_gpus_and_their_use(emulator: Emulator, pods: Pods) -> None:
    pod_id = pods.ready_pod(gpu_count=2)
    name = "NVIDIA GeForce RTX 4090"
    assert pods.ssh(pod_id, QUERY) == f"0, {name}, 0, 0, 24576\n1, {name}, 0, 0, 24576\n"
    emulator.turn(gpu_util_percent=75)
    assert pods.ssh(pod_id, QUERY) == f"0, {name}, 75, 18432, 24576\n1, {name}, 75, 18432, 24576\n"
    with_units = pods.ssh(pod_id, "nvidia-smi -i 1 --query-gpu='index, utilization.gpu,memory.used' --format=csv")
    assert with_units == "index, utilization.gpu [%], memory.used [MiB]\n1, 75 %, 18432 MiB\n"
    table = pods.ssh(pod_id, "nvidia-smi").splitlines()
    assert len(table) == 4
    assert name in table[2]
    assert "75%" in table[3]
    assert pods.ssh(pod_id, "nvidia-smi -L").count("GPU-") == 2
    assert pods.try_ssh(pod_id, "nvidia-smi --query-gpu=colour --format=csv").returncode == 2
    assert pods.try_ssh(pod_id, "nvidia-smi --frobnicate").returncode == 2
    query = f'query {{ pod(input: {{podId: "{pod_id}"}}) {{ runtime {{ gpus {{ gpuUtilPercent }} }} }} }}'
    runtime = emulator.graphql(query)["data"]["pod"]["runtime"]
    assert runtime == {"gpus": [{"gpuUtilPercent": 75.0}] * 2}
    assert emulator.call("POST", "/_cloud/dials", {"gpu_util_percent": 101}).status_code == 400


def test_a_pod_without_gpus_has_no_nvidia_smi(emulator: Emulator, pods: Pods) -> None:
    emulator.turn(images=[{"pattern": "bare:*", "without": ["nvidia-smi"]}])
    for wish in ({"gpu_type_id": None, "instance_id": "cpu3c-2-4"}, {"image_name": "bare:1"}):
        pod_id = pods.create(**wish)
        wait_for(partial(is_running, emulator, pod_id), "it runs")
        programs = f"{emulator.inside(pod_id)['disk']}/opt/image/bin"
        assert not os.path.exists(f"{programs}/nvidia-smi")
        assert os.path.exists(f"{programs}/runpodctl")


def is_running(emulator: Emulator, pod_id: str) -> bool:
    return emulator.inside(pod_id)["process_id"] is not None


def test_a_new_container_shows_the_use_of_the_moment(emulator: Emulator, pods: Pods) -> None:
    emulator.turn(gpu_util_percent=40)
    pod_id = pods.ready_pod(gpu_type_id="NVIDIA L40S")
    assert pods.ssh(pod_id, QUERY) == "0, NVIDIA L40S, 40, 19661, 49152\n"


def test_a_dial_that_is_turned_while_a_pod_starts_or_ends_does_no_harm(tmp_path: Path) -> None:
    order = SimpleNamespace(gpu_type_id="NVIDIA L40S")
    pod = cast(Pod, SimpleNamespace(order=order, gpu_count=1, machine_id="m"))
    (tmp_path / "disk").mkdir()
    with ThreadPoolExecutor(8) as pool:
        for written in [pool.submit(write_report, tmp_path / "disk", pod, use) for use in range(100)]:
            written.result()
        assert os.listdir(tmp_path / "disk/opt/image") == ["gpus"]
        late = [pool.submit(write_report, tmp_path / "disk", pod, use) for use in range(100)]
        shutil.rmtree(tmp_path / "disk", ignore_errors=True)
        for written in late:
            written.result()
