"""What a program in a pod finds."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from tests.contract.local_cloud import Emulator, Pods, escaped, wait_for

HOSTILE = {
    "QUOTES": """both "double" and 'single'""",
    "LINES": "first\nsecond\r\n\tthird\n",
    "DOLLAR": "$HOME $(touch /tmp/owned) `id` ${PATH}; rm -rf /",
    "BACKSLASH": r"C:\new\table \\ \" \u0041",
    "BRACES": '{"key": [1, 2], "value": "}"} # comment',
    "UNICODE": "päd ☃ 🚀",
    "EMPTY": "",
    "lower_case": "kept too",
}


def test_hostile_values_arrive_byte_for_byte(pods: Pods) -> None:
    environment = pods.environment(pods.ready_pod(env=HOSTILE))
    assert {name: environment[name] for name in HOSTILE} == HOSTILE


def test_process_1_has_the_platforms_variables_and_nothing_of_this_machine(
    emulator: Emulator, sdk: ModuleType, pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THIS_MACHINE", "x")
    pod_id = pods.ready_pod(env={"RUNPOD_API_KEY": "rpa_MINE", "RUNPOD_POD_ID": "mine"}, gpu_count=2)
    environment = pods.environment(pod_id)
    expected = {
        "RUNPOD_POD_ID": pod_id,
        "RUNPOD_DC_ID": "EU-RO-1",
        "RUNPOD_PUBLIC_IP": "127.0.0.1",
        "RUNPOD_TCP_PORT_22": str(emulator.inside(pod_id)["public_ports"]["22"]),
        "RUNPOD_VOLUME_ID": emulator.info["volume_id"],
        "RUNPOD_GPU_COUNT": "2",
        "RUNPOD_CPU_COUNT": "16",
        "RUNPOD_API_URL": emulator.info["url"] + "/v2",
        "RUNPOD_GRAPHQL_URL": emulator.info["url"] + "/graphql",
        "HOME": "/root",
    }
    assert {name: environment.get(name) for name in expected} == expected
    assert environment["RUNPOD_POD_HOSTNAME"].startswith(pod_id + "-")
    assert environment["RUNPOD_API_KEY"] not in ("rpa_MINE", emulator.info["key"])
    foreign = set(os.environ) & {"SECRET_OF_THIS_MACHINE", "SHELL", "USER", "PYTHONPATH", "VIRTUAL_ENV"}
    assert not foreign & set(environment)
    assert sdk.get_pod(pod_id)["env"][1:] == ["RUNPOD_API_KEY=rpa_MINE", "RUNPOD_POD_ID=mine"]


def test_an_ssh_session_has_none_of_the_pods_variables_but_its_path(pods: Pods) -> None:
    pod_id = pods.ready_pod(env={"MINE": "1"})
    session = dict(line.split("=", 1) for line in pods.ssh(pod_id, "env").splitlines())
    assert not [name for name in session if name.startswith("RUNPOD_") or name in ("MINE", "PUBLIC_KEY")]
    assert session["PATH"] == pods.environment(pod_id)["PATH"]
    sourced = pods.ssh(pod_id, "source /etc/rp_environment; echo $MINE $RUNPOD_POD_ID $PUBLIC_KEY")
    assert sourced == f"1 {pod_id}\n"


def test_process_1_is_the_images_start_script_in_its_own_namespaces(emulator: Emulator, pods: Pods) -> None:
    pod_id = pods.ready_pod()
    assert pods.ssh(pod_id, "tr '\\0' ' ' < /proc/1/cmdline") == "/bin/bash /start.sh "
    assert pods.ssh(pod_id, "hostname").strip() == emulator.inside(pod_id)["hostname"]
    process_ids = pods.ssh(pod_id, "ls -d /proc/[0-9]*").split()
    assert len(process_ids) < 15
    for kind in ("pid", "mnt", "uts"):
        theirs = pods.ssh(pod_id, f"readlink /proc/self/ns/{kind}").strip()
        assert theirs != os.readlink(f"/proc/self/ns/{kind}")


def test_the_tools_of_the_image_run(pods: Pods) -> None:
    pod_id = pods.ready_pod()
    for command in ("python -V", "python3 -V", "uv --version", "git --version", "rsync --version", "tmux -V"):
        assert pods.ssh(pod_id, command)
    pods.ssh(pod_id, "python -m venv --without-pip /tmp/a && /tmp/a/bin/python -c 'import json, ssl, sqlite3'")
    pods.ssh(pod_id, "uv venv -q /tmp/b && /tmp/b/bin/python -c 'import json'")
    pods.ssh(pod_id, "tmux new-session -d -s train 'sleep 60' && tmux has-session -t train")
    pods.ssh(pod_id, "python - <<< 'import pty; pty.openpty()'")


def test_the_volume_is_mounted_where_it_was_ordered(emulator: Emulator, pods: Pods) -> None:
    pod_id = pods.ready_pod(volume_mount_path="/data/my volume")
    pods.ssh(pod_id, "echo hello > '/data/my volume/file'")
    assert Path(emulator.inside(pod_id)["volume"], "file").read_text() == "hello\n"


def test_two_pods_share_a_network_volume_and_nothing_else(pods: Pods) -> None:
    one, other = pods.create(), pods.create()
    pods.ready(one), pods.ready(other)
    pods.ssh(one, "echo shared > /workspace/note; echo own > /root/note; touch /tmp/note")
    assert pods.ssh(other, "cat /workspace/note; ls /root/note /tmp/note 2>&1 | wc -l") == "shared\n2\n"


def test_the_container_disk_is_writable_and_this_machine_is_not(emulator: Emulator, pods: Pods) -> None:
    pod_id = pods.ready_pod()
    pods.ssh(pod_id, "for d in / /etc /root /opt /tmp /var/lib /run /home; do touch $d/written || exit 1; done")
    assert os.path.exists(emulator.inside(pod_id)["disk"] + "/etc/written")
    assert not os.path.exists("/etc/written")
    assert pods.try_ssh(pod_id, "touch /usr/bin/written").returncode != 0


def test_a_pod_without_a_public_key_has_no_sshd(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    pod_id = pods.create(env={"PUBLIC_KEY": ""})
    disk = emulator.inside(pod_id)["disk"]
    wait_for(lambda: os.path.exists(disk + "/etc/rp_environment"), "start.sh has come to its end")
    assert sdk.get_pod(pod_id)["runtime"]["ports"][0]["privatePort"] == 22
    assert pods.try_ssh(pod_id, "true").returncode == 255


def test_docker_args_replace_the_start_script(emulator: Emulator, pods: Pods) -> None:
    command = """bash -c "echo \\"$HOME\\" 'quoted word' > /tmp/ran; sleep 60" """
    pod_id = pods.create(docker_args=escaped(command))
    ran = Path(emulator.inside(pod_id)["disk"], "tmp/ran")
    wait_for(lambda: ran.exists() and ran.read_text(), "the command ran")
    assert ran.read_text() == "/root quoted word\n"
    assert pods.try_ssh(pod_id, "true").returncode == 255


def test_docker_args_may_be_json(pods: Pods) -> None:
    words = '{"entrypoint": ["bash", "-c"], "cmd": ["echo $0 > /tmp/ran; exec /start.sh", "zero"]}'
    pod_id = pods.ready_pod(docker_args=escaped(words))
    assert pods.ssh(pod_id, "cat /tmp/ran") == "zero\n"


def test_an_image_without_start_script_has_no_sshd_of_its_own(emulator: Emulator, pods: Pods) -> None:
    starter = (
        "bash -c 'mkdir -p ~/.ssh; echo $PUBLIC_KEY > ~/.ssh/authorized_keys; "
        'ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key; exec $(command -v sshd) -D\''
    )
    emulator.turn(images=[{"pattern": "bare/*", "start_sh": False, "without": ["tmux", "uv"]}])
    pod_id = pods.ready_pod(image_name="bare/image:1", docker_args=escaped(starter))
    assert pods.try_ssh(pod_id, "test -e /start.sh").returncode == 1
    for program in ("tmux", "uv"):
        assert pods.try_ssh(pod_id, program).returncode == 127
    pods.ssh(pod_id, "git --version && python -V && perl -e 1")


def test_a_missing_program_can_be_installed(emulator: Emulator, pods: Pods) -> None:
    emulator.turn(images=[{"pattern": "*", "without": ["tmux", "rsync"]}])
    pod_id = pods.ready_pod()
    assert pods.try_ssh(pod_id, "tmux -V").returncode == 127
    pods.ssh(pod_id, "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq tmux rsync")
    assert pods.ssh(pod_id, "tmux -V && command -v rsync").endswith("/usr/bin/rsync\n")
    failed = pods.try_ssh(pod_id, "apt-get install -y no-such-package")
    assert (failed.returncode, failed.stderr) == (100, b"E: Unable to locate package no-such-package\n")


def test_other_tcp_ports_are_themselves_and_symmetrical_ones_are_free_ones(pods: Pods) -> None:
    environment = pods.environment(pods.ready_pod(ports="22/tcp,6006/tcp,70000/tcp,8888/http"))
    assert environment["RUNPOD_TCP_PORT_6006"] == "6006"
    assert 10000 <= int(environment["RUNPOD_TCP_PORT_70000"]) < 30000
    assert "RUNPOD_TCP_PORT_8888" not in environment
