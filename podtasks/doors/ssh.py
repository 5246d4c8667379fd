"""SSH to a pod: the only importer of fabric and paramiko."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from podtasks.doors.tunnel import Tunnel
from podtasks.pure.errors import HostKeyError, SshRefusedError, TransportError
from podtasks.pure.pod import SshEndpoint
from podtasks.pure.ssh_algorithms import CIPHERS, HOST_KEY, KEY_EXCHANGES, MACS, OLD_SIGNATURES, keep_modern

# A peer that acknowledges nothing for this long is gone; keep-alives make sure there is something to
# acknowledge. Linux: tcp(7), TCP_USER_TIMEOUT.
SILENCE_LIMIT_S = 30
KEEP_ALIVE_S = 10
READ_BYTES = 1 << 16
CHANNEL_TIMEOUT_S = 30
# As shells tell of a program that was killed: 128 and SIGKILL.
KILLED = 137
# Where no program listens to its log, Python would print paramiko's tracebacks beside our own message.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Output:
    """What a finished command left: exit code, and both its streams whole."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class SshLogin:
    """How the user proves who they are, and the pod which machine it is.

    `host_public_key` is an OpenSSH public key line, known before the first connection. The user's SSH agent is used
    at the pod only where `forward_agent` says so.
    """

    key_path: Path
    host_public_key: str
    user: str = "root"
    forward_agent: bool = False


def read_banner(endpoint: SshEndpoint, timeout_s: float) -> str | None:
    """Return the greeting of the SSH server at `endpoint`, None when none greets within `timeout_s`."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s) as connection:
            greeting = connection.recv(255)
    except OSError:
        return None
    return greeting.decode("ascii", "replace").strip() if greeting.startswith(b"SSH-") else None


def agent_offers(public_key: str) -> bool:
    """Return whether an SSH agent on this machine holds the private half of an OpenSSH public key line."""
    import paramiko

    wanted = public_key.split()[1:2]
    if not os.path.exists(os.environ.get("SSH_AUTH_SOCK", "")):
        return False
    try:
        agent = paramiko.Agent()
    except (paramiko.SSHException, OSError):
        return False
    try:
        return any([key.get_base64()] == wanted for key in agent.get_keys())
    finally:
        agent.close()


class RemoteProcess:
    """A command that is still running on the pod."""

    def __init__(self, channel: Any) -> None:  # noqa: ANN401  paramiko's channel
        self._channel = channel

    def send(self, data: bytes) -> None:
        """Write to the command's standard input."""
        with _as_transport_errors():
            self._channel.sendall(data)

    def end_input(self) -> None:
        """Close the command's standard input."""
        with _as_transport_errors():
            self._channel.shutdown_write()

    def read_line(self) -> bytes:
        """Return the next line of standard output, what there is at its end, b"" after it."""
        with _as_transport_errors():
            line: bytes = self._channel.makefile("rb").readline()
            return line

    def read(self, timeout_s: float) -> tuple[bytes, bytes] | None:
        """Return what arrived on (stdout, stderr) next; None when both have ended.

        Raises TransportError when nothing at all arrives within `timeout_s`.
        """
        channel = self._channel
        with _as_transport_errors():
            _wait_readable(channel, timeout_s)
            stdout = channel.recv(READ_BYTES) if channel.recv_ready() else b""
            stderr = channel.recv_stderr(READ_BYTES) if channel.recv_stderr_ready() else b""
            # A transport that dies closes the channel without an end of file.
            ended = (channel.eof_received or channel.closed) and not (
                channel.recv_ready() or channel.recv_stderr_ready()
            )
        return None if ended and not (stdout or stderr) else (stdout, stderr)

    def wait(self) -> Output:
        """Read both streams to their end and return them with the exit code.

        Raises TransportError when the link broke before the exit code came.
        """
        with _as_transport_errors():
            stdout = self._channel.makefile("rb").read()
            stderr = self._channel.makefile_stderr("rb").read()
            exit_code = self._channel.recv_exit_status()
            holds = self._channel.get_transport().is_active()
        if exit_code < 0 and not holds:
            raise _broken("the link closed before the command's exit code came")
        if exit_code < 0:
            # RFC 4254, 6.10: a program that a signal ended has no exit status, and paramiko does not read the signal.
            exit_code = KILLED
        return Output(exit_code, stdout, stderr)

    def close(self) -> None:
        """Let go of the command; sshd hangs up on it."""
        self._channel.close()


class PodShell:
    """One SSH connection to a pod, verified against the host key the pod was made with."""

    def __init__(self, endpoint: SshEndpoint, login: SshLogin, *, connect_timeout_s: float = 20) -> None:
        self.endpoint = endpoint
        self._login = login
        self._connect_timeout_s = connect_timeout_s
        self._connection: Any = None
        # paramiko hangs up on a command as soon as nobody refers to its channel.
        self._processes: list[RemoteProcess] = []

    def __enter__(self) -> PodShell:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Open the connection. Raises TransportError, HostKeyError."""
        connection = _make_connection(self.endpoint, self._login, self._connect_timeout_s)
        with _as_transport_errors():
            try:
                connection.open()
            except BaseException:
                # Fabric closes only what was opened whole; the client holds a socket, a thread and the agent.
                connection.client.close()
                raise
            _tune(connection.transport)
        self._connection = connection

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._processes.clear()

    def start(self, command: str) -> RemoteProcess:
        """Start a shell command line on the pod and return at once."""
        with _as_transport_errors():
            channel = self._connection.create_session()
            channel.exec_command(command)
        self._processes.append(RemoteProcess(channel))
        return self._processes[-1]

    def run(self, command: str, chunks: Iterable[bytes] = ()) -> Output:
        """Run a shell command line, with `chunks` as its standard input, and return what came of it."""
        process = self.start(command)
        # A command that refuses its input says why on its output.
        with contextlib.suppress(TransportError):
            for chunk in chunks:
                process.send(chunk)
            process.end_input()
        return process.wait()

    def forward(self, listener: socket.socket, port: int) -> Tunnel:
        """Carry connections to `listener` to a port on the pod's loopback.

        The tunnel's `wait` returns when the link breaks or nobody listens on that port; close it before the shell.
        """
        transport = self._connection.transport

        def open_channel(address: tuple[str, int]) -> Any:  # noqa: ANN401  paramiko's channel
            with _as_transport_errors():
                return transport.open_channel("direct-tcpip", ("127.0.0.1", port), address, timeout=CHANNEL_TIMEOUT_S)

        tunnel = Tunnel(listener, open_channel)

        def await_end() -> None:
            # A transport is a thread, which ends with the link.
            transport.join()
            tunnel.end()

        threading.Thread(target=await_end, daemon=True).start()
        return tunnel


def _make_connection(endpoint: SshEndpoint, login: SshLogin, timeout_s: float) -> Any:  # noqa: ANN401
    import fabric
    import paramiko

    connection = fabric.Connection(
        endpoint.host,
        user=login.user,
        port=endpoint.port,
        # An explicit, empty SSH configuration keeps ~/.ssh/config out: pods' addresses are reused.
        config=fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig()),
        forward_agent=login.forward_agent,
        connect_timeout=int(timeout_s),
        connect_kwargs={
            "key_filename": str(login.key_path),
            "look_for_keys": False,
            "transport_factory": _open_transport,
            "disabled_algorithms": {"pubkeys": OLD_SIGNATURES},
            "banner_timeout": timeout_s,
            "auth_timeout": timeout_s,
        },
    )
    # Fabric would trust any host key; a pod's was made before the pod and is the only one accepted.
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    name = endpoint.host if endpoint.port == 22 else f"[{endpoint.host}]:{endpoint.port}"
    connection.client.get_host_keys().add(name, HOST_KEY, _read_host_key(login.host_public_key))
    return connection


def _read_host_key(line: str) -> Any:  # noqa: ANN401  paramiko's key
    """Return the key of a pod, whose environment in the API may have been changed since podtasks wrote it."""
    import base64

    import paramiko

    kind, _, rest = line.partition(" ")
    try:
        if kind == HOST_KEY:
            return paramiko.PKey.from_type_string(kind, base64.b64decode(rest.split(" ")[0], validate=True))
    except Exception:  # paramiko raises whatever the bytes lead to
        pass
    raise HostKeyError(
        "The pod's environment names no host key that podtasks made.",
        means="Nothing was sent to the machine that answers.",
        next_step="inv terminate, and inv train makes a new pod",
    )


def _open_transport(sock: socket.socket, **options: Any) -> Any:  # noqa: ANN401  paramiko's transport
    """Return a transport that agrees to modern algorithms only, and answers no question of the server's."""
    import paramiko

    transport: Any = paramiko.Transport(sock, **options)
    security = transport.get_security_options()
    security.ciphers = keep_modern(CIPHERS, security.ciphers)
    security.digests = keep_modern(MACS, security.digests)
    security.kex = keep_modern(KEY_EXCHANGES, security.kex)
    security.key_types = (HOST_KEY,)

    def refuse(*_: object, **__: object) -> None:
        raise paramiko.AuthenticationException("the server asks for more than a key")

    # Without a password to give, paramiko would ask on this terminal whatever the server says.
    transport.auth_interactive_dumb = refuse
    return transport


def _tune(transport: Any) -> None:  # noqa: ANN401  paramiko's transport
    # Measured: without TCP_NODELAY each command costs 40 ms.
    transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_LIMIT_S * 1000)
    transport.set_keepalive(KEEP_ALIVE_S)


def _wait_readable(channel: Any, timeout_s: float) -> None:  # noqa: ANN401  paramiko's channel
    import select

    # paramiko makes a channel readable for select() on data, on standard error and at the end.
    if not select.select([channel], [], [], timeout_s)[0]:
        raise _broken(f"nothing came from the pod for {timeout_s:.0f} s")


class _as_transport_errors:
    """Turn paramiko's and the socket's failures into ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, TransportError):
            translated = _translate(error)
            if translated is not None:
                raise translated from error


def _translate(error: BaseException) -> TransportError | None:
    import paramiko

    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer) and "host key" not in str(error):
        return SshRefusedError(
            f"The machine that answered speaks outdated SSH only ({error}).",
            means="Nothing was sent to it. The pod stops itself when no run is launched within its grace time.",
            next_step="set image in invoke.yaml to one with a newer OpenSSH, then inv terminate and inv train",
        )
    # A machine with no ed25519 key is not the pod either, which was given one.
    is_other = isinstance(error, (paramiko.BadHostKeyException, paramiko.ssh_exception.IncompatiblePeer))
    if is_other or "not found in known_hosts" in str(error):
        return HostKeyError(
            "The machine that answered is not this pod: its host key is another one.",
            means="Nothing was sent to it.",
            next_step="try again in a minute; if it lasts, inv terminate and inv train make a new pod",
        )
    if isinstance(error, paramiko.PasswordRequiredException):
        return SshRefusedError(
            "Your SSH key has a passphrase, and no SSH agent offers the key.",
            means="The pod stops itself when no run is launched within its grace time.",
            next_step="ssh-add the key that SSH_KEY_PATH names, then the same command again",
        )
    # paramiko has one kind of error for "no" and for no answer; the latter says nothing of the key.
    if isinstance(error, paramiko.AuthenticationException) and not re.search("timeout|transport", str(error)):
        return SshRefusedError(
            "The pod does not accept your SSH key.",
            means="The pod stops itself when no run is launched within its grace time.",
            next_step="set SSH_KEY_PATH in .runpod.env to the key the pod was made with, or inv terminate",
        )
    if isinstance(error, (paramiko.SSHException, EOFError, OSError)):
        return _broken(str(error) or type(error).__name__)
    return None


def _broken(reason: str) -> TransportError:
    return TransportError(
        f"The SSH link to the pod broke: {reason}.",
        means="A training that was launched goes on; a pod without one stops itself within its grace time.",
        next_step="run the same command again",
    )


def read_in_chunks(stream: Any) -> Iterator[bytes]:  # noqa: ANN401  any binary file
    """Yield what a binary file holds, in pieces that suit an SSH channel."""
    while chunk := stream.read(READ_BYTES):
        yield chunk
