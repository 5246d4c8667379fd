"""What the runs, the days and the storage of a project cost."""

from __future__ import annotations

from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.flows.runs import History
from podtasks.pure.costs import Bills, Costs, Storage, count_costs
from podtasks.pure.errors import ApiError


def read_costs(cloud: Cloud | None, history: History, report: Reporter, *, days: int, now: float) -> tuple[Costs, str]:
    """Return what the last `days` UTC days cost, and why that is an estimate where it is one.

    Without bills (a key that may not read them, no such API) the runs' records and storage prices must do.
    """
    storage = _find_storage(cloud, report)
    bills, why = (None, "the local cloud does not run") if cloud is None else _read_bills(cloud, days)
    return count_costs(history.records, history.active_run_id, bills, storage, days=days, now=now), why


def _read_bills(cloud: Cloud, days: int) -> tuple[Bills | None, str]:
    try:
        bills = Bills(tuple(cloud.rest.list_pod_billing(days)), tuple(cloud.rest.list_volume_billing(days)))
    except ApiError as error:
        return None, error.what
    return bills, ""


def _find_storage(cloud: Cloud | None, report: Reporter) -> Storage | None:
    if cloud is None or not cloud.network_volume_id:
        return None
    try:
        volumes = cloud.api.list_network_volumes()
    except ApiError as error:
        report.note(f"the network volume's size is not known: {error.what}")
        return None
    found = next((volume for volume in volumes if volume.id == cloud.network_volume_id), None)
    return None if found is None else Storage(found.id, found.size_gb)
