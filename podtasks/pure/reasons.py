"""Why a run ended, in words: its record has the short ones of the programs on the pod."""

from __future__ import annotations

# What remote/supervise.py, guard_end.py and end_request.py write. A reason that is not here is in words already.
WORDS = {
    "user": "ended by inv stop or terminate",
    "the tmux session was ended": "ended with its tmux session",
    "interrupted in tmux": "interrupted in its tmux session",
    "SIGTERM: the pod is ending": "ended with its pod",
    "max_hours": "ended at the limit max_hours",
    "max_cost_usd": "ended at the limit max_cost_usd",
    "stalled": "ended because it had stalled",
    "environment failed": "the packages could not be installed",
    "pod lost": "lost with its pod",
    "supervisor killed": "ended because its supervisor was killed",
}
# The training itself was not begun.
UNTRAINED = ("environment failed",)


def is_for_want_of_space(reason: str) -> bool:
    """Say whether a run ended because the volume took nothing more, so that its log may not tell."""
    return "No space left" in reason or "Disk quota exceeded" in reason


def describe_reason(reason: object) -> str:
    """Return a record's reason in words, "" where it has none."""
    text = str(reason or "")
    return WORDS.get(text, text)
