"""The text of `inv status`, from its document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from podtasks.pure.amounts import format_bytes, format_cents, format_count, format_duration
from podtasks.pure.moments import format_clock, format_date_time, parse_change_date, zone_name
from podtasks.pure.reasons import describe_reason

# Colours and the like, which a log may hold.
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")


def render_status(status: Mapping[str, Any]) -> str:
    """Given the document of pure/status_report.py, return the lines for people."""
    rows = list(_rows(status))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {text}" for name, text in rows]
    shown = (status["log"] or {}).get("last_lines") or []
    return "\n".join([*lines, *(f"  | {ESCAPES.sub('', line)}" for line in shown)])


def _rows(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "cloud", status["cloud"]
    pod, run = status["pod"], status["run"]
    yield from _pod_rows(status, pod) if pod else [("pod", _describe_no_pod(status))]
    if run:
        yield from _run_rows(status, run)
    yield from _rest_rows(status)
    for helper in status["helper_pods"]:
        yield "helper", f"CPU pod {helper['id']} copies files, ${helper['usd_per_hour']:.2f}/h; it ends by itself"


def _describe_no_pod(status: Mapping[str, Any]) -> str:
    if status["is_up"]:
        return "none; inv train makes one"
    return "none runs: the local cloud does not run; inv train starts it again, with the pods it kept"


def _pod_rows(status: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "pod", f"{pod['id']} {pod['state']}{_change(pod, status['time'])}"
    yield "price", f"${pod['usd_per_hour']:.2f}/h{_spent(pod)}"
    yield from (("gpu", text) for text in _gpus(status["gpus"], pod))
    if pod["silence"]:
        yield "ssh", f"no answer: {pod['silence']}"
    if status["grace_left_s"] is not None:
        yield "guard", f"stops the pod in {format_duration(status['grace_left_s'])} unless a run is launched"
    if status["kept_for"]:
        yield "kept", _describe_keeping(status)


def _describe_keeping(status: Mapping[str, Any]) -> str:
    left_s, now = status["kept_left_s"], status["time"]
    why = "for a look at the failure" if status["kept_for"] == "failure" else "by when_done"
    end = now + left_s
    when = f"{format_clock(end, now)} {zone_name(end)}"
    return f"{why}; it is billed, and stops itself in {format_duration(left_s)}, at {when}; inv stop does it now"


def _change(pod: Mapping[str, Any], now: float) -> str:
    if pod["is_billed"] or not pod["status_change"]:
        return ""
    changed = parse_change_date(pod["status_change"])
    if changed is None:
        return f" ({pod['status_change']})"
    return f" ({pod['status_change'].split(':')[0]}, {format_clock(changed, now)} {zone_name(changed)})"


def _spent(pod: Mapping[str, Any]) -> str:
    if not pod["is_billed"]:
        return " when it runs; not billed now"
    if pod["up_s"] is None:
        return ""
    return f", {format_cents(pod['spent_usd'])} in the {format_duration(pod['up_s'])} since it started"


def _gpus(gpus: list[Mapping[str, Any]], pod: Mapping[str, Any]) -> Iterator[str]:
    if not gpus:
        yield f"{pod['gpu_count']} x {pod['gpu'] or 'unknown'}"
    for gpu in gpus:
        number = f"{gpu.get('index')}: " if len(gpus) > 1 else ""
        parts = [f"{number}{gpu.get('name') or pod['gpu']}"]
        if gpu.get("util_percent") is not None:
            parts.append(f"{gpu['util_percent']:.0f} % busy")
        if gpu.get("memory_used_mb") is not None and gpu.get("memory_total_mb"):
            # nvidia-smi counts in MiB.
            parts.append(f"{gpu['memory_used_mb'] / 1024:.1f} of {gpu['memory_total_mb'] / 1024:.0f} GiB memory used")
        yield ", ".join(parts)


def _run_rows(status: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    is_last = run["source"] != "pod"
    config = f" ({run['config']})" if run["config"] else ""
    where = f", from {run['source']}" if is_last and run["source"] else ""
    yield "last run" if is_last else "run", f"{run['run_id']}{config}{where}"
    if run["commit"]:
        yield "code", f"{run['branch']} at {str(run['commit'])[:10]}"
    yield "state", _describe_state(run, status["time"])
    if run["stalled_at"]:
        silent = format_duration(max(0.0, status["time"] - run["stalled_at"]))
        yield "stalled", f"no sign of work (log, GPU); noticed {silent} ago"
    if run["chain"]:
        yield "restart", _describe_chain(run["chain"])
    yield from _failure_rows(run["failure"])
    if status["progress"]:
        yield from _progress_rows(status["progress"], status["time"])


def _describe_state(run: Mapping[str, Any], now: float) -> str:
    cost = "" if run["cost_usd"] is None else f", {format_cents(run['cost_usd'])}"
    lasted = "" if run["lasted_s"] is None else f" {format_duration(run['lasted_s'])}{cost}"
    if run["state"] == "unknown":
        return f"over; {describe_reason(run['reason']) or 'its end was not recorded'}"
    if run["state"] != "ended":
        return f"{run['state']}{' for' + lasted if lasted else ''}"
    code = "unknown" if run["exit_code"] is None else run["exit_code"]
    when = f" {format_clock(run['ended_at'], now)} {zone_name(run['ended_at'])}" if run["ended_at"] else ""
    after = f", after{lasted}" if lasted else ""
    return f"{describe_reason(run['reason']) or 'ended'}, exit code {code}{when and ',' + when}{after}"


def _describe_chain(chain: Mapping[str, Any]) -> str:
    before = f"; {format_cents(chain['used_usd'])} before this run" if chain["restarts"] else ""
    return f"{chain['restarts']} of {chain['max_restarts']} (--until-done){before}"


def _failure_rows(failure: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if not failure:
        return
    yield "why", str(failure.get("title"))
    yield from (("", f"| {ESCAPES.sub('', str(line))}") for line in failure.get("lines") or [])
    yield from (("try", str(advice)) for advice in failure.get("advice") or [])


def _progress_rows(progress: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    parts = []
    if progress["step"] is not None:
        parts.append(_of("step", progress["step"], progress["max_steps"]))
    if progress["epoch"] is not None:
        parts.append(_of("epoch", progress["epoch"], progress["epochs"]))
    if progress["steps_per_s"]:
        parts.append(_rate(progress["steps_per_s"]))
    if parts:
        yield "progress", ", ".join(parts)
    if progress["left_s"]:
        done = f"{format_clock(progress['done_at'], now)} {zone_name(progress['done_at'])}"
        late = "; the limit comes first" if progress["done_before_limit"] is False else ""
        yield "forecast", (
            f"{format_duration(progress['left_s'])} and {format_cents(progress['left_usd'] or 0.0)} to the end, "
            f"at {done}{late}"
        )


def _of(word: str, value: float, most: float | None) -> str:
    told = f"{word} {_number(value)}"
    if not most:
        return told
    share = f" ({value / most:.0%})" if word == "step" else ""
    return f"{told} of {_number(most)}{share}"


def _number(value: float) -> str:
    return format_count(int(value)) if value == int(value) else f"{value:.2f}"


def _rate(steps_per_s: float) -> str:
    if steps_per_s >= 100:
        return f"{format_count(round(steps_per_s))} steps/s"
    return f"{steps_per_s:.3g} steps/s" if steps_per_s >= 0.1 else f"{1 / steps_per_s:.3g} s a step"


def _rest_rows(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if status["log"]:
        yield "log", f"last line {format_duration(status['log']['silent_s'])} ago"
    disk = status["disk"]
    if disk and disk.get("used_bytes") is not None:
        yield "volume", _describe_disk(disk, status["time"])
    limits = list(_limits(status))
    if limits and not status["kept_for"]:
        yield "limit", " and ".join(limits)


def _limits(status: Mapping[str, Any]) -> Iterator[str]:
    if status["hours_left"] is not None:
        yield f"{format_duration(status['hours_left'] * 3600)} left of the hours allowed"
    if status["usd_left"] is not None:
        yield f"{format_cents(status['usd_left'])} left of the money allowed"


def _describe_disk(disk: Mapping[str, Any], now: float) -> str:
    about = "" if disk.get("is_exact") else "about "
    total = f" of {format_bytes(disk['total_bytes'])}" if disk.get("total_bytes") else ""
    measured = disk.get("measured_at")
    old = f", measured {format_date_time(measured)}" if measured and now - measured > 600 else ""
    return f"{about}{format_bytes(disk['used_bytes'])} used{total}{old}"
