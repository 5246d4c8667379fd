"""The run that a watcher watches, as far as it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from podtasks.flows.launched import Launched
from podtasks.pure.budget import amount
from podtasks.pure.chain import Chain, parse_chain
from podtasks.pure.pod import Pod
from podtasks.pure.restart import parse_stored_run
from podtasks.pure.run import Run
from podtasks.pure.run_costs import ended_at


@dataclass(frozen=True)
class Watched:
    """The run that is watched.

    Args:
        run: enough to follow it, None where its record does not tell.
        pod: where it runs, None where that is not known or gone.
        record: as it was last read; of a run launched here, what is known of it.
        launched: the run as it was launched here, with the connection that still waits for a follower.
    """

    run_id: str
    chain: Chain
    run: Run | None
    pod: Pod | None
    record: Mapping[str, Any]
    launched: Launched | None = None

    @property
    def pod_id(self) -> str:
        """The id of its pod, "" where that is not known."""
        return str((self.record.get("pod") or {}).get("id") or "")

    @property
    def can_be_followed(self) -> bool:
        """Whether there is a pod to follow its log on."""
        return self.run is not None and self.pod is not None and ended_at(self.record) is None


def from_launched(launched: Launched, chain: Chain, now: float) -> Watched:
    """Return a run that was launched here, or joined, at `now` (seconds since 1970), as one to watch."""
    record = record_of(launched, chain, now)
    return Watched(launched.run.run_id, chain, launched.run, launched.pod, record, launched)


def record_of(launched: Launched, chain: Chain | None, now: float) -> dict[str, Any]:
    """Return what is known here of the record of such a run."""
    run, pod = launched.run, launched.pod
    return {
        "run_id": run.run_id,
        "pod": {"id": pod.id, "usd_per_hour": pod.usd_per_hour},
        "launched_at": now,
        "when_done": run.when_done,
        "chain": None if chain is None else chain.to_json(),
    }


def from_record(record: Mapping[str, Any], bounds: Chain | None, pod: Pod | None) -> Watched | None:
    """Return the run of a record as one to watch; None where it has no chain and there are no `bounds` for one.

    Such a run's own limits hold as well.
    """
    chain = parse_chain(record.get("chain")) or _tighten(bounds, record)
    if chain is None:
        return None
    try:
        run = parse_stored_run(record)
    except ValueError:
        run = None
    return Watched(str(record.get("run_id")), chain, run, pod, record)


def _tighten(bounds: Chain | None, record: Mapping[str, Any]) -> Chain | None:
    """Return bounds that are no wider than the limits that a run was launched with."""
    if bounds is None:
        return None
    hours, usd = (amount(record, name) for name in ("max_hours", "max_cost_usd"))
    max_hours = bounds.max_hours if hours is None else min(hours, bounds.max_hours)
    max_cost_usd = min((limit for limit in (usd, bounds.max_cost_usd) if limit is not None), default=None)
    return replace(bounds, max_hours=max_hours, max_cost_usd=max_cost_usd)
