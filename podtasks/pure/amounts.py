"""Amounts as people read them: bytes, counts, durations, dollars."""

from __future__ import annotations

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def format_bytes(size_bytes: float) -> str:
    """Return a number of bytes with three digits and a decimal unit, as RunPod counts: 0 B, 1.21 GB."""
    size, unit = float(size_bytes), 0
    while abs(size) >= 999.5 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 or abs(size) >= 99.95 else f"{size:.3g} {UNITS[unit]}"


def format_count(count: int) -> str:
    """Return a whole number with thin groups: 20,000."""
    return f"{count:,}"


def format_files(count: int) -> str:
    """Return a number of files: 1 file, 20,000 files."""
    return f"{format_count(count)} {'file' if count == 1 else 'files'}"


def format_duration(seconds: float) -> str:
    """Return seconds as people say them: 45 s, 12 min, 3 h 20 min, 4 d 3 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def format_minutes(minutes: float) -> str:
    """Return a time that a setting gives in minutes, such as "1 minute" or "0.5 minutes"."""
    return "1 minute" if minutes == 1 else f"{minutes:g} minutes"


def format_usd(usd: float) -> str:
    """Return US dollars: $12.30, and small amounts with the digits that matter: $0.0042."""
    sign, amount = "-" if usd < 0 else "", abs(usd)
    if 0 < amount < 0.095:
        return f"{sign}${amount:.4f}" if amount >= 0.00005 else "$0.0000"
    return f"{sign}${amount:,.2f}"


def format_about(usd: float) -> str:
    """Return US dollars that are not known to the cent, within a sentence: about $12.30, less than $0.01."""
    return "less than $0.01" if 0 <= usd < 0.005 else f"about {format_cents(usd)}"


def format_cents(usd: float) -> str:
    """Return US dollars to the cent, for columns of a table: $12.30, <$0.01, -$0.20."""
    if 0 < abs(usd) < 0.005:
        return "<$0.01" if usd > 0 else ">-$0.01"
    return f"{'-' if usd < 0 else ''}${abs(usd):,.2f}"
