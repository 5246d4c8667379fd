"""Holds: clients that keep the pod's grace time from running out while they use it, say to copy files."""

from __future__ import annotations

from typing import Any

import guard_state
from guard_end import grace_action, grace_s, seconds
from guard_limits import Limits
from guard_loop import Connection

LONGEST_HOLD_S = 24 * 3600.0


class Holds(Limits):
    """Open connections with the role "hold".

    While there is one, the deadline "hold" stands in the place of "grace". A hold blocks no launch, keeps no pod
    whose run has ended, and is not remembered over a restart of the guard.
    """

    def op_hold(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Keep the grace time from running out until this connection closes."""
        if self.stopping is not None:
            return {"ok": False, "stopping": self.stopping["reason"]}
        connection.role, connection.who = "hold", str(request.get("who") or "")
        if "grace" in self.deadlines or "hold" in self.deadlines:
            self.deadlines.pop("grace", None)
            self.set_deadline("hold", seconds("PODTASKS_HOLD_S", LONGEST_HOLD_S))
            guard_state.end_grace(self.directory)
            self.save()
        return {"ok": True}

    def on_hang_up(self, connection: Connection) -> None:
        """Start the grace time anew when the last hold ends."""
        super().on_hang_up(connection)
        if connection.role == "hold" and "hold" in self.deadlines and not self.hold_names():
            del self.deadlines["hold"]
            self.set_deadline("grace", grace_s())
            guard_state.begin_grace(self.directory)
            self.save()

    def on_hold(self) -> None:
        """Stop the pod: nobody holds one for this long on purpose."""
        self.stop("it was held for its longest time and no run was launched", grace_action())

    def hold_names(self) -> list[str]:
        """Return who holds the pod."""
        return [connection.who for connection in self.connections.values() if connection.role == "hold"]
