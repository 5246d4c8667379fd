"""Moments as people read them: epoch seconds in the user's own time zone, and RunPod's dates."""

from __future__ import annotations

import datetime
import re

CHANGE_DATE = re.compile(r": [A-Z][a-z]{2} ([A-Z][a-z]{2} \d{2} \d{4} \d{2}:\d{2}:\d{2}) GMT([+-]\d{4})")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def to_local(moment: float) -> datetime.datetime:
    """Return a moment (seconds since 1970 UTC) in the user's time zone."""
    return datetime.datetime.fromtimestamp(moment).astimezone()


def zone_name(moment: float) -> str:
    """Return the name of the user's time zone at a moment: UTC, CET."""
    return to_local(moment).strftime("%Z")


def format_date_time(moment: float) -> str:
    """Return date and time as they sort: 2026-11-23 14:02."""
    return to_local(moment).strftime("%Y-%m-%d %H:%M")


def format_clock(moment: float, now: float) -> str:
    """Return when something near `now` is: 14:02 today, tomorrow 03:10, else with its date."""
    there, here = to_local(moment), to_local(now)
    days = (there.date() - here.date()).days
    time = there.strftime("%H:%M")
    return {0: time, 1: f"tomorrow {time}", -1: f"yesterday {time}"}.get(days, there.strftime("%Y-%m-%d %H:%M"))


def parse_change_date(text: str) -> float | None:
    """Given RunPod's lastStatusChange, "Rented by User: Mon Nov 23 2026 11:13:00 GMT+0000 (...)", return its moment.

    None where there is no such date in it. It is free text (RunPod facts, section 2).
    """
    found = CHANGE_DATE.search(text)
    if found is None or found[1][:3] not in MONTHS:
        return None
    # strptime's month names are the locale's.
    date = f"{MONTHS.index(found[1][:3]) + 1:02} {found[1][4:]} {found[2]}"
    try:
        return datetime.datetime.strptime(date, "%m %d %Y %H:%M:%S %z").timestamp()
    except ValueError:
        return None
