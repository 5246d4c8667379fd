"""The network between a client and a pod's sshd, disturbed: seen through ssh, paramiko and plain sockets."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import paramiko
import pytest

from tests.contract.local_cloud import READY_S, Emulator, Pods, escaped, public_port, wait_for

# A program in place of sshd: it takes all bytes of a connection, and answers after their end.


def instead_of_sshd(script: str) -> str:
    """Return a start command of Python that has a listening socket, `server`, where sshd would listen."""
    lines = (
        "import hashlib, socket, threading\n"
        'port = [line.split()[1] for line in open("/etc/ssh/sshd_config") if line.startswith("Port")][0]\n'
        'server = socket.create_server(("127.0.0.1", int(port)))\n'
    )
    return escaped(f"python3 -uc '{lines}{script}'")


# Takes all bytes of a connection and answers after their end.
COUNTING = instead_of_sshd("""
def answer(end):
    seen = hashlib.sha256()
    while part := end.recv(1 << 18):
        seen.update(part)
    end.sendall(seen.hexdigest().encode())
    end.close()
while True:
    threading.Thread(target=answer, args=(server.accept()[0],)).start()
""")
# Sends much and reads nothing.
FLOODING = instead_of_sshd("""
while True:
    end = server.accept()[0]
    try:
        for number in range(400):
            end.sendall(b"%06d\\n" % number * 30000)
    except OSError:
        pass
    end.close()
""")
# Greets and reads nothing.
DEAF = instead_of_sshd("""
kept = []
while True:
    kept.append(server.accept()[0])
    kept[-1].sendall(b"0")
""")
FLOOD = b"".join(b"%06d\n" % number * 30000 for number in range(400))

SENSELESS: list[object] = [
    *(None, [], {}),
    *(
        {"reset": False},
        {"reset": 1},
        {"reset": "true"},
        {"reset": True, "unknown": 1},
        {"reset": True, "refuse_s": -1},
    ),
    *({"refuse_s": True}, {"refuse_s": "3"}, {"refuse_s": None}, {"refuse_s": 10**400}, {"refuse": 3}),
    *({"stall": "both"}, {"stall_s": 3}, {"stall": "sideways", "stall_s": 3}, {"stall": ["both"], "stall_s": 3}),
    *({"stall": "both", "stall_s": -3}),
]


@pytest.fixture
def relayed(emulator: Emulator) -> Emulator:
    emulator.turn(relay=True)
    return emulator


@pytest.fixture
def pod_id(relayed: Emulator, pods: Pods) -> str:
    del relayed
    return pods.ready_pod()


def disturb(emulator: Emulator, pod_id: str, **trouble: object) -> dict[str, Any]:
    return dict(emulator.control("POST", f"/pods/{pod_id}/network", trouble))


def port_of(emulator: Emulator, pod_id: str) -> int:
    return int(emulator.inside(pod_id)["public_ports"]["22"])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=READY_S)


def is_refused(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


def is_quiet(end: Any, seconds: float = 0.3) -> bool:  # noqa: ANN401 (sockets and channels)
    """Say whether nothing comes, no end either, for some time."""
    return not select.select([end], [], [], seconds)[0]


def read_to_end(end: socket.socket) -> bytes:
    return b"".join(iter(lambda: end.recv(1 << 20), b""))


def greeted(port: int) -> socket.socket:
    """Return a connection that sshd has greeted."""
    end = connect(port)
    assert end.recv(4) == b"SSH-"
    return end


def counted(port: int) -> socket.socket:
    """Return a connection to the program that stands in for sshd, once that listens."""

    def answers() -> bool:
        try:
            with connect(port) as end:
                end.shutdown(socket.SHUT_WR)
                return read_to_end(end) == hashlib.sha256().hexdigest().encode()
        except OSError:
            return False

    wait_for(answers, "the program answers")
    return connect(port)


@contextlib.contextmanager
def session(pods: Pods, pod_id: str) -> Iterator[paramiko.SSHClient]:
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1",
            port_of(pods.emulator, pod_id),
            pods.emulator.info["ssh_user"],
            key_filename=str(pods.key),
            allow_agent=False,
            look_for_keys=False,
        )
        yield client


def test_the_public_port_is_a_relays_and_sshd_is_behind_it(relayed: Emulator, pods: Pods, pod_id: str) -> None:
    inside = relayed.inside(pod_id)
    public, inner = inside["public_ports"]["22"], inside["relay"]["inner_port"]
    assert public != inner and public_port(pods.sdk.get_pod(pod_id)) == public
    assert pods.environment(pod_id)["RUNPOD_TCP_PORT_22"] == str(public)
    assert f"Port {inner}\n" in pods.ssh(pod_id, "cat /etc/ssh/sshd_config")
    assert pods.try_ssh(pod_id, "true", port=inner).returncode == 0
    with greeted(public), greeted(public):
        assert relayed.inside(pod_id)["relay"]["connections"] == 2
    wait_for(lambda: relayed.inside(pod_id)["relay"]["connections"] == 0, "both are gone")


def test_without_the_dial_there_is_no_relay_and_nothing_to_disturb(emulator: Emulator, pods: Pods) -> None:
    pod_id = pods.ready_pod()
    emulator.turn(relay=True)
    assert emulator.inside(pod_id)["relay"] is None
    answer = emulator.call("POST", f"/_cloud/pods/{pod_id}/network", {"reset": True})
    assert (answer.status_code, "dial relay" in answer.json()["error"]) == (400, True)
    assert emulator.call("POST", "/_cloud/pods/nobody/network", {"reset": True}).status_code == 404


def test_network_trouble_that_makes_no_sense_is_refused_whole(relayed: Emulator, pods: Pods, pod_id: str) -> None:
    with greeted(port_of(relayed, pod_id)) as end:
        read_line(end)
        for body in SENSELESS:
            answer = relayed.call("POST", f"/_cloud/pods/{pod_id}/network", body)
            assert (answer.status_code, list(answer.json())) == (400, ["error"]), body
        assert is_quiet(end)
    pods.ssh(pod_id, "true")


def test_connections_are_refused_for_a_while_and_open_ones_stay(relayed: Emulator, pods: Pods, pod_id: str) -> None:
    port = port_of(relayed, pod_id)
    with session(pods, pod_id) as client:
        before = time.monotonic()
        disturb(relayed, pod_id, refuse_s=1.0)
        assert is_refused(port)
        assert client.exec_command("echo still")[1].read() == b"still\n"
        wait_for(lambda: not is_refused(port), "connections are taken again")
        assert time.monotonic() - before >= 0.9
    pods.ssh(pod_id, "true")
    disturb(relayed, pod_id, refuse_s=600)
    assert is_refused(port)
    disturb(relayed, pod_id, refuse_s=0)
    wait_for(lambda: not is_refused(port), "the refusal was ended")


def test_all_open_connections_are_reset(relayed: Emulator, pods: Pods, pod_id: str) -> None:
    port = port_of(relayed, pod_id)
    with greeted(port) as one, greeted(port) as other, session(pods, pod_id) as client:
        output = client.exec_command("cat; touch /root/over")[1]
        disturb(relayed, pod_id, reset=True)
        for end in (one, other):
            with pytest.raises(ConnectionResetError):
                read_to_end(end)
        output.read()
        wait_for(lambda: not (client.get_transport() or pytest.fail()).is_active(), "paramiko notices")
    assert relayed.inside(pod_id)["relay"]["connections"] == 0
    wait_for(Path(relayed.inside(pod_id)["disk"], "root/over").exists, "the pod's end is noticed")


def test_bytes_to_the_pod_wait_while_bytes_from_it_pass(relayed: Emulator, pods: Pods, pod_id: str) -> None:
    with session(pods, pod_id) as client:
        entry, output, _ = client.exec_command("(while sleep 0.02; do echo tick; done) & cat > /root/typed")
        disturb(relayed, pod_id, stall="to_pod", stall_s=600)
        entry.write("hello\n")
        entry.flush()
        assert [output.readline() for _ in range(20)] == ["tick\n"] * 20
        disk = Path(relayed.inside(pod_id)["disk"])
        assert (disk / "root/typed").read_text() == ""
        disturb(relayed, pod_id, stall="to_pod", stall_s=0)
        wait_for(lambda: (disk / "root/typed").read_text() == "hello\n", "the word arrives")


def test_bytes_from_the_pod_wait_while_bytes_to_it_pass(relayed: Emulator, pods: Pods, pod_id: str) -> None:
    with session(pods, pod_id) as client:
        entry, output, _ = client.exec_command("tee /root/typed")
        disturb(relayed, pod_id, stall="from_pod", stall_s=1.0)
        entry.write("hello\n")
        entry.flush()
        typed = Path(relayed.inside(pod_id)["disk"], "root/typed")
        wait_for(lambda: typed.exists() and typed.read_text() == "hello\n", "the word arrives")
        assert not output.channel.recv_ready()
        assert output.readline() == "hello\n"


def test_a_stall_of_both_directions_ends_by_itself_and_meets_new_connections(
    relayed: Emulator, pods: Pods, pod_id: str
) -> None:
    port = port_of(relayed, pod_id)
    before = time.monotonic()
    disturb(relayed, pod_id, stall="both", stall_s=0.8)
    with connect(port) as end:
        assert is_quiet(end, 0.4)
        assert end.recv(4) == b"SSH-"
        assert time.monotonic() - before >= 0.8
    pods.ssh(pod_id, "true")


def test_a_stalled_flood_fills_no_memory_and_arrives_whole(relayed: Emulator, pods: Pods) -> None:
    pod_id = pods.create(docker_args=FLOODING)
    port = port_of(relayed, pod_id)
    wait_for(lambda: _first_byte(port), "the program floods")
    with connect(port) as end:
        assert end.recv(7) == b"000000\n"
        disturb(relayed, pod_id, stall="from_pod", stall_s=600)
        before = _resident_bytes(relayed)
        read = end.recv(1 << 20)
        while not is_quiet(end):
            read += end.recv(1 << 20)
        # The flood has 84 MB; a buffer of the relay and those of the kernel are passed or held.
        assert len(read) < 16e6
        assert _resident_bytes(relayed) - before < 8e6
        disturb(relayed, pod_id, stall="from_pod", stall_s=0)
        assert b"000000\n" + read + read_to_end(end) == FLOOD
    pods.sdk.terminate_pod(pod_id)


def test_an_end_in_one_direction_is_passed_on_and_the_other_goes_on(relayed: Emulator, pods: Pods) -> None:
    pod_id = pods.create(docker_args=COUNTING)
    with counted(port_of(relayed, pod_id)) as end:
        content = b"x" * 3_000_001
        end.sendall(content)
        assert is_quiet(end)
        end.shutdown(socket.SHUT_WR)
        assert read_to_end(end).decode() == hashlib.sha256(content).hexdigest()
    wait_for(lambda: relayed.inside(pod_id)["relay"]["connections"] == 0, "the connection is gone")


def test_a_clients_reset_reaches_the_pod(relayed: Emulator, pods: Pods, pod_id: str) -> None:
    end = greeted(port_of(relayed, pod_id))
    sessions = "pgrep -fc '[s]shd: .*(net|accepted|unknown|preauth)' || true"
    assert int(pods.ssh(pod_id, "pgrep -c sshd")) >= 2
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
    wait_for(lambda: relayed.inside(pod_id)["relay"]["connections"] == 0, "the connection is gone")
    wait_for(lambda: pods.ssh(pod_id, sessions).strip() in ("0", "1"), "sshd's process is gone")


def test_where_nothing_listens_behind_the_relay_a_connection_is_reset(relayed: Emulator, pods: Pods) -> None:
    pod_id = pods.create(docker_args="sleep 600")
    wait_for(lambda: relayed.inside(pod_id)["process_id"], "the pod runs")
    with pytest.raises(ConnectionResetError), connect(port_of(relayed, pod_id)) as end:
        read_to_end(end)
    relayed.control("POST", f"/pods/{pod_id}/kill")


def test_the_public_port_changes_at_once(relayed: Emulator, pods: Pods, sdk: ModuleType, pod_id: str) -> None:
    old = port_of(relayed, pod_id)
    with greeted(old) as end:
        answer = disturb(relayed, pod_id, new_port=True)
        with pytest.raises(ConnectionResetError):
            read_to_end(end)
    new = public_port(sdk.get_pod(pod_id))
    assert new == answer["public_ports"]["22"] != old
    assert is_refused(old)
    pods.ssh(pod_id, "true")
    answer = disturb(relayed, pod_id, new_port=True, refuse_s=0.5)
    assert is_refused(answer["public_ports"]["22"])
    pods.ready(pod_id)


def test_a_lost_host_can_fall_silent(relayed: Emulator, pods: Pods, pod_id: str) -> None:
    with greeted(port_of(relayed, pod_id)) as end:
        read_line(end)
        disturb(relayed, pod_id, stall="both", stall_s=1.5)
        before = time.monotonic()
        relayed.control("POST", f"/pods/{pod_id}/kill")
        pods.wait_until_ended(pod_id)
        assert is_quiet(end)
        assert is_refused(end.getpeername()[1])
        with contextlib.suppress(ConnectionResetError):
            read_to_end(end)
        assert time.monotonic() - before >= 1.4


def test_a_stalled_way_back_hides_a_reset_too(relayed: Emulator, pods: Pods) -> None:
    pod_id = pods.create(docker_args=DEAF)
    wait_for(lambda: _first_byte(port_of(relayed, pod_id)), "the program listens")
    with connect(port_of(relayed, pod_id)) as end:
        assert end.recv(1) == b"0"
        disturb(relayed, pod_id, stall="from_pod", stall_s=1.0)
        before = time.monotonic()
        end.sendall(b"never read")
        relayed.control("POST", f"/pods/{pod_id}/kill")
        with pytest.raises(ConnectionResetError):
            read_to_end(end)
        assert time.monotonic() - before >= 0.9


def test_the_relay_ends_with_the_pod_and_a_new_start_has_a_new_one(
    relayed: Emulator, pods: Pods, sdk: ModuleType, pod_id: str
) -> None:
    old = relayed.inside(pod_id)
    sdk.stop_pod(pod_id)
    pods.wait_until_ended(pod_id)
    wait_for(lambda: is_refused(old["public_ports"]["22"]), "nothing listens")
    assert relayed.inside(pod_id)["relay"] is None
    assert relayed.call("POST", f"/_cloud/pods/{pod_id}/network", {"refuse_s": 1}).status_code == 400
    sdk.resume_pod(pod_id, 1)
    pods.ready(pod_id)
    new = relayed.inside(pod_id)
    assert new["public_ports"] != old["public_ports"]
    assert new["relay"]["inner_port"] != old["relay"]["inner_port"]


@pytest.mark.parametrize("sandbox", ["auto", "processes"])
def test_relays_come_back_with_the_emulator_at_the_same_ports(
    new_emulator: Callable[..., Emulator],
    ssh_key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sandbox: str,
) -> None:
    runpod = importlib.import_module("runpod")
    emulator = new_emulator("--sandbox", sandbox).start()
    monkeypatch.setenv("RUNPOD_API_BASE_URL", emulator.info["url"])
    monkeypatch.setattr(runpod, "api_key", emulator.info["key"])
    emulator.turn(relay=True)
    pods = Pods(emulator, runpod, ssh_key, tmp_path)
    pod_id = pods.ready_pod()
    before = emulator.inside(pod_id)
    for end_it in (emulator.end, lambda: kill(emulator)):
        with greeted(port_of(emulator, pod_id)) as end:
            read_line(end)
            end_it()
            with contextlib.suppress(ConnectionResetError):
                assert read_to_end(end) == b""
        assert is_refused(before["public_ports"]["22"])
        emulator.start()
        assert not is_refused(before["public_ports"]["22"])
        after = emulator.inside(pod_id)
        assert (after["process_id"], after["public_ports"]) == (before["process_id"], before["public_ports"])
        pods.ssh(pod_id, "true")
    runpod.terminate_pod(pod_id)
    wait_for(lambda: is_refused(before["public_ports"]["22"]), "nothing listens")


def kill(emulator: Emulator) -> None:
    assert emulator.process is not None
    emulator.process.send_signal(signal.SIGKILL)
    emulator.process.wait(READY_S)
    (emulator.state / "server.json").unlink()


def read_line(end: socket.socket) -> None:
    while end.recv(1) != b"\n":
        pass


def _first_byte(port: int) -> bool:
    try:
        with connect(port) as end:
            return end.recv(1) == b"0"
    except OSError:
        return False


def _resident_bytes(emulator: Emulator) -> int:
    assert emulator.process is not None
    lines = Path(f"/proc/{emulator.process.pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])
