"""TensorBoard on the pod, shown on a port of this machine until the user or the pod ends it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from podtasks.doors import local_port, ssh
from podtasks.doors.clock import Clock, WaitTimeoutError, growing_pauses, wait_until
from podtasks.doors.console import Reporter
from podtasks.doors.local_port import Listener, PortTakenError
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import connect, open_shell
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.preflight import read_config
from podtasks.pure.board import DEFAULT_PORT, BoardSource, describe_board, parse_board
from podtasks.pure.errors import (
    ApiUnreachableError,
    ConfigError,
    RemoteCommandError,
    SshRefusedError,
    TransportError,
    UsageError,
)
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.settings import Settings
from podtasks.pure.training_config import TrainingConfig

PAGE_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 10.0
RECONNECT_LIMIT_S = 300.0
HOW_TO_SEE_IT_HERE = "inv fetch logs brings its event files here from the volume, and inv tensorboard then shows them"


def find_config(name: str, settings: Settings, files: ProjectFiles) -> TrainingConfig | None:
    """Return the configuration that the user named, else the only one there is; None where that is open.

    Raises ConfigError for a named one that cannot be read.
    """
    if name:
        return read_config(name, settings, files)
    names = files.config_names()
    with contextlib.suppress(ConfigError):
        return read_config(names[0], settings, files) if len(names) == 1 else None
    return None


def build_source(settings: Settings, cloud: Cloud, config: TrainingConfig | None, *, is_named: bool) -> BoardSource:
    """Return where this project's event files may be on the pod."""
    if cloud.mount_path:
        settings = settings.model_copy(update={"mount_path": cloud.mount_path})
    return BoardSource(settings.clone_path, settings.python, config, is_named)


def claim_port(wanted: int | None, report: Reporter) -> Listener:
    """Return a listener on the wanted port, or on TensorBoard's own or the next free one where none is wanted.

    Raises UsageError when the wanted port is taken.
    """
    port = wanted or DEFAULT_PORT
    try:
        return local_port.claim(port)
    except PortTakenError:
        owner = local_port.find_owner(port)
    if wanted:
        raise UsageError(
            f"Port {port} of this machine is taken by {owner}.",
            next_step="give another port, or leave --port out to get the next free one",
        )
    listener = local_port.claim_from(port + 1)
    report.note(f"port {port} of this machine is taken by {owner}; using {local_port.port_of(listener)}")
    return listener


class BoardView:
    """TensorBoard of one pod, seen through a tunnel.

    Args:
        listener: takes the browser's connections; it stays the same when the link is made anew.
        on_ready: called once, with the page's address, as soon as the page answers.
        ready_timeout_s: how long the pod may take until it answers on SSH.
    """

    def __init__(
        self,
        cloud: Cloud,
        pod: Pod,
        source: BoardSource,
        listener: Listener,
        *,
        on_ready: Callable[[str], None],
        ready_timeout_s: float,
        report: Reporter,
        clock: Clock,
    ) -> None:
        self._cloud = cloud
        self._pod = pod
        self._source = source
        self._listener = listener
        self._port = local_port.port_of(listener)
        self._on_ready = on_ready
        self._ready_timeout_s = ready_timeout_s
        self._report = report
        self._clock = clock
        self.is_ready = False

    def show(self) -> None:
        """Show the page until the pod has stopped. The user's Ctrl+C ends the view and nothing else.

        Raises RemoteCommandError when TensorBoard does not start, TransportError when a pod that runs stays
        out of reach.
        """
        self._pod, shell = connect(
            self._cloud, self._pod, self._report, self._clock, timeout_s=self._ready_timeout_s, may_stop=False
        )
        next_shell: ssh.PodShell | None = shell
        while next_shell is not None:
            next_shell = self._show_over(next_shell)

    def _show_over(self, shell: ssh.PodShell) -> ssh.PodShell | None:
        """Show the page over a connection until it breaks; return the next one, None when the pod has stopped."""
        try:
            with contextlib.closing(shell):
                self._serve(shell)
        except TransportError as error:
            if error.is_final:
                raise
            return self._reconnect(error.what)
        except RemoteCommandError as error:
            # A pod that is being stopped ends its programs first.
            if self._read_pod():
                error.means = "A training on the pod is not touched."
                error.next_step = "run the same command again; inv status says how the pod is"
                raise
            return None
        return self._reconnect("The tunnel to the pod broke.")

    def _serve(self, shell: ssh.PodShell) -> None:
        board = parse_board(PodPrograms(shell, self._pod).run("tensorboard.py", self._source.build_request()))
        said, *notes = describe_board(board)
        self._report.step(said)
        for note in notes:
            self._report.note(note)
        with contextlib.closing(shell.forward(self._listener, board.port)) as tunnel:
            self._wait_for_page()
            self._tell_ready()
            tunnel.wait()

    def _wait_for_page(self) -> None:
        try:
            wait_until(
                lambda: local_port.answers_http(self._port, PROBE_TIMEOUT_S),
                lambda answers: answers,
                timeout_s=PAGE_TIMEOUT_S,
                pauses=growing_pauses(0.05, 1.5, 1.0),
                clock=self._clock,
            )
        except WaitTimeoutError as error:
            raise self._no_page() from error

    def _no_page(self) -> TransportError:
        error = TransportError(
            "TensorBoard answers on the pod, but not through the tunnel: the pod's SSH server may not forward ports.",
            means="Its training is not touched.",
            next_step="set AllowTcpForwarding in the image's sshd_config, or look at the log: inv logs",
        )
        # A link that broke meanwhile is another matter.
        error.is_final = not self.is_ready
        return error

    def _tell_ready(self) -> None:
        url = f"http://{local_port.LOOPBACK}:{self._port}/"
        if self.is_ready:
            self._report.step(f"the tunnel is back: {url}")
            return
        self.is_ready = True
        self._on_ready(url)

    def _reconnect(self, why: str) -> ssh.PodShell | None:
        """Return a new connection to the pod, None when it has stopped. Raises TransportError after too long."""
        deadline = self._clock.now() + RECONNECT_LIMIT_S
        pauses = growing_pauses(0.2, 1.6, 5.0)
        is_told = False
        while self._clock.now() <= deadline:
            if not self._read_pod():
                return None
            if not is_told:
                self._report.note(f"{why} Reconnecting, to the same port of this machine.")
                is_told = True
            try:
                return open_shell(self._cloud, self._pod)
            except SshRefusedError:
                raise
            except TransportError:
                # Also another machine's key: the port may still be the old one.
                self._clock.sleep(next(pauses))
        raise self._lost_link()

    def _read_pod(self) -> bool:
        """Read the pod anew, since its port may have changed; say whether it runs, and tell when it does not."""
        try:
            pod = self._cloud.api.find_pod(self._pod.id)
        except ApiUnreachableError:
            # A machine that is offline hears nothing from the API either; that says nothing of the pod.
            return True
        if pod is not None and pod.status is PodStatus.RUNNING:
            self._pod = pod
            return True
        state = f"has stopped ({pod.status_change})" if pod else "is no longer there"
        self._report.step(f"pod {self._pod.id} {state}, and TensorBoard with it: {HOW_TO_SEE_IT_HERE}")
        return False

    def _lost_link(self) -> TransportError:
        return TransportError(
            f"Pod {self._pod.id} runs, but has not answered on SSH for {RECONNECT_LIMIT_S:.0f} s.",
            means="It is billed, and stops itself when its run ends.",
            next_step="inv tensorboard tries again; inv stop --now stops the pod",
        )
