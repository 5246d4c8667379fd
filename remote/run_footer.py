"""The last lines of a run in the log."""

from __future__ import annotations

from typing import Any

OWN_ENDS = ("finished", "failed")


def render(record: dict[str, Any]) -> bytes:
    """Return the footer: what went wrong and what to try, what ended the run, its exit code."""
    return "".join(f"{line}\n" for line in [*_why(record.get("failure") or {}), *_end(record)]).encode(
        "utf-8", "surrogateescape"
    )


def render_end(record: dict[str, Any]) -> bytes:
    """Return the footer without what went wrong, for a volume that hardly takes a line more."""
    return "".join(f"{line}\n" for line in _end(record)).encode("utf-8", "surrogateescape")


def one_line(text: str) -> str:
    """Return `text` with its control characters escaped, so that it stays one line of the log."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1] for c in text)


def _why(failure: dict[str, Any]) -> list[str]:
    """Return the lines that tell what went wrong; none for a success."""
    if not failure:
        return []
    shown = [f"  | {line}" for line in failure["lines"]]
    return [one_line(line) for line in [f"WHY: {failure['title']}", *shown, *(f"TRY: {t}" for t in failure["advice"])]]


def _end(record: dict[str, Any]) -> list[str]:
    reason = one_line(str(record["reason"]))
    return [*([] if reason in OWN_ENDS else [f"ENDED: {reason}"]), f"EXIT_CODE={record['exit_code']}"]
