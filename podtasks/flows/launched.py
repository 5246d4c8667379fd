"""A run on its pod, as launching it or finding it gives it."""

from __future__ import annotations

from dataclasses import dataclass

from podtasks.doors import ssh
from podtasks.pure.chain import Chain
from podtasks.pure.pod import Pod
from podtasks.pure.run import Run


@dataclass(frozen=True)
class Launched:
    """A run on its pod.

    `shell` is the connection it was launched over: while it is open, a run that ends at once waits for its
    log to be followed before the pod stops. `chain` is what the run knows of those before it, where it is one that is
    to be kept going.
    """

    pod: Pod
    run: Run
    shell: ssh.PodShell | None = None
    chain: Chain | None = None

    def close(self) -> None:
        """Let go of the connection that launched it."""
        if self.shell is not None:
            self.shell.close()
