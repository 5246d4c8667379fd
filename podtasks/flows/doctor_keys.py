"""`inv doctor`: the SSH key that pods let in, and the agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from podtasks.doors import machine
from podtasks.doors.key_files import require_login_key, require_usable_key
from podtasks.doors.ssh import agent_offers
from podtasks.pure.doctor import Check, as_checks, fine, problem, remark
from podtasks.pure.errors import PodtasksError
from podtasks.pure.settings import Identity, Settings


def look(identity: Identity, settings: Settings, *, needed: bool) -> Iterator[Check]:
    """Yield how the login key and the SSH agent stand.

    Args:
        needed: whether pods let this key in; the local cloud has a key of its own.
    """
    path = Path(identity.ssh_key_path)
    try:
        public_key = require_login_key(path)
        require_usable_key(path, public_key, agent_offers)
    except PodtasksError as error:
        if needed:
            yield from as_checks("SSH key", error)
        else:
            yield remark("SSH key", f"{error.what.rstrip('.')}; the local cloud needs none of yours", error.next_step)
    else:
        yield fine("SSH key", f"{path}, {public_key.split()[0]}, readable by you only")
    yield _look_at_agent(settings)


def _look_at_agent(settings: Settings) -> Check:
    if settings.forward_agent and not machine.has_agent():
        return problem(
            "SSH agent",
            "forward_agent is set, but no SSH agent runs here",
            "eval $(ssh-agent) and ssh-add, or set forward_agent to false in invoke.yaml",
        )
    if settings.forward_agent:
        return fine("SSH agent", "runs, and is forwarded while the pod fetches the code")
    return fine("SSH agent", "runs" if machine.has_agent() else "none runs, and none is needed")
