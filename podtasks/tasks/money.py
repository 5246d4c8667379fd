"""`inv gpus` and `inv cost`: what there is to rent, and what was spent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from invoke.context import Context

from podtasks.doors.console import write_result
from podtasks.pure.errors import UsageError
from podtasks.tasks.entry import Project, open_project, task
from podtasks.tasks.results import CLOUD_HELP, JSON_HELP, parse_count, write_json, write_text

if TYPE_CHECKING:
    from podtasks.pure.costs import Costs
    from podtasks.pure.gpu_market import GpuType, Market

MOST_DAYS = 366


@task(
    help={
        **CLOUD_HELP,
        **JSON_HELP,
        "count": "how many GPUs the pod has (default: the setting gpu_count)",
        "all": "list also types that nobody rents out now",
    }
)
def gpus(c: Context, count: str = "", all: bool = False, json: bool = False, cloud: str = "") -> None:
    """List GPU types with memory, price and stock, and the one that would be rented."""
    from podtasks.flows.cloud import open_cloud
    from podtasks.flows.gpus import read_market
    from podtasks.pure.gpu_market import describe_market

    project = open_project(c, {"cloud": cloud})
    gpu_count = parse_count("count", count, example=2, least=1) if count else project.settings.gpu_count
    if not json:
        project.introduce_cloud(in_brief=True)
    account = open_cloud(
        project.settings, project.identity, project.files, project.console, project.clock, to_launch=False
    )
    market = read_market(account, project.settings, gpu_count)
    shown = [gpu for gpu in market.types if all or gpu.secure_usd_per_hour or gpu.community_usd_per_hour]
    if json:
        write_json(describe_market(market, shown))
    else:
        _show_gpus(project, market, shown)


def _show_gpus(project: Project, market: Market, shown: list[GpuType]) -> None:
    from podtasks.doors.tables import Column, write_table
    from podtasks.pure.gpu_market import build_rows, explain_choice

    where = market.data_center or "any data center"
    kind = "secure" if market.secure else "community"
    project.console.tell(f"prices in US dollars an hour; stock of {market.gpu_count} in {where} ({kind} cloud)")
    columns = [
        Column("GPU type"),
        Column("memory", "right", may_drop=True),
        Column("secure", "right"),
        Column("community", "right", may_drop=True),
        Column(f"pod of {market.gpu_count}", "right", may_drop=True),
        Column("stock"),
        Column("remark", may_shrink=True),
    ]
    rows = build_rows(market, shown)
    if market.gpu_count == 1:
        columns, rows = [*columns[:4], *columns[5:]], [[*row[:4], *row[5:]] for row in rows]
    chosen = market.chosen
    write_table(columns, rows, marked=shown.index(chosen) if chosen in shown else None)
    project.console.tell(explain_choice(market))


@task(help={**CLOUD_HELP, **JSON_HELP, "days": "how many UTC days, today included (7)"})
def cost(c: Context, days: str = "7", json: bool = False, cloud: str = "") -> None:
    """Show what runs, days and storage cost."""
    from podtasks.flows.costs import read_costs
    from podtasks.flows.runs import read_history
    from podtasks.pure.costs import describe_costs

    project = open_project(c, {"cloud": cloud})
    wanted = parse_count("days", days, example=30, least=1)
    if wanted > MOST_DAYS:
        raise UsageError(f"--days {days} is more than {MOST_DAYS}.", next_step=f"--days {MOST_DAYS}")
    account = project.open_existing_cloud()
    history = read_history(account, project.settings.project, project.files, project.console, None)
    costs, why = read_costs(account, history, project.console, days=wanted, now=time.time())
    if json:
        write_json(describe_costs(costs, why))
    else:
        _show_costs(project, costs, why)


def _show_costs(project: Project, costs: Costs, why: str) -> None:
    from podtasks.doors.tables import Column, write_bars, write_table
    from podtasks.flows.cloud import is_local
    from podtasks.pure.amounts import format_cents
    from podtasks.pure.cost_text import (
        build_cost_rows,
        build_day_rows,
        build_part_rows,
        describe_storage,
        explain_costs,
        shown_days,
    )

    for line in explain_costs(costs, why, time.time(), is_local=is_local(project.settings, project.identity)):
        project.console.tell(line)
    if costs.runs:
        columns = [Column("run"), Column("start", may_drop=True), Column("$/h", "right", may_drop=True)]
        write_table([*columns, Column("cost", "right")], build_cost_rows(costs))
        write_result("")
    names = ("GPU", "CPU", "disk", "storage")
    write_table(
        [Column("UTC day"), *(Column(name, "right", may_drop=True) for name in names), Column("total", "right")],
        build_day_rows(costs),
    )
    write_result("")
    days = shown_days(costs)
    write_bars([(day.day.isoformat(), day.total_usd, format_cents(day.total_usd)) for day in days])
    write_result("")
    write_table([Column("what for", may_shrink=True), Column("cost", "right")], build_part_rows(costs))
    if costs.storage is not None:
        write_text(f"\n{describe_storage(costs)}")
