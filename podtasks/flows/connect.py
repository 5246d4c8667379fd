"""A verified SSH connection to a pod that may still be booting, or whose port is still the old one."""

from __future__ import annotations

from podtasks.doors import ssh
from podtasks.doors.clock import Clock, growing_pauses
from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.flows.readiness import wait_for_ssh
from podtasks.flows.stopping import stop_quietly
from podtasks.pure.errors import SshRefusedError, TransportError
from podtasks.pure.pod import Pod

# A stale port leads to nobody, or to somebody else's machine, until RunPod publishes the new one.
CONNECT_PATIENCE_S = 60.0


def build_login(cloud: Cloud, pod: Pod, *, forward_agent: bool = False) -> ssh.SshLogin:
    """Return how to log in to this pod, and which host key it must show."""
    return ssh.SshLogin(cloud.key_path, pod.host_public_key, cloud.ssh_user, forward_agent)


def connect(
    cloud: Cloud,
    pod: Pod,
    report: Reporter,
    clock: Clock,
    *,
    timeout_s: float,
    may_stop: bool,
    forward_agent: bool = False,
) -> tuple[Pod, ssh.PodShell]:
    """Wait until the pod answers and return its newest reading with an open connection.

    Raises PodTimeoutError (the pod is stopped first if `may_stop`), PodFailedError, SshRefusedError for a key that it
    does not accept, HostKeyError or TransportError when another machine goes on answering.
    """
    deadline = clock.now() + CONNECT_PATIENCE_S + timeout_s
    patience_ends: float | None = None
    pauses = growing_pauses(0.2, 1.5, 3.0)
    while True:
        pod, endpoint = wait_for_ssh(
            cloud, pod, report, clock, timeout_s=max(1.0, min(timeout_s, deadline - clock.now())), may_stop=may_stop
        )
        shell = ssh.PodShell(endpoint, build_login(cloud, pod, forward_agent=forward_agent))
        try:
            shell.connect()
        except TransportError as error:
            patience_ends = patience_ends or clock.now() + CONNECT_PATIENCE_S
            if isinstance(error, SshRefusedError) or clock.now() >= patience_ends:
                error.is_final = True
                if may_stop:
                    error.means = f"No training was started. {stop_quietly(cloud, pod, report)}"
                raise
            clock.sleep(next(pauses))
        else:
            return pod, shell


def open_shell(cloud: Cloud, pod: Pod) -> ssh.PodShell:
    """Return an open connection to a pod that should answer by now. Raises TransportError, HostKeyError."""
    if pod.ssh is None:
        raise TransportError(f"pod {pod.id} publishes no SSH port yet.", next_step="try again in a minute")
    shell = ssh.PodShell(pod.ssh, build_login(cloud, pod), connect_timeout_s=10)
    shell.connect()
    return shell
