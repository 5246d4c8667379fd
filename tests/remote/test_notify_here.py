"""The setting notify on the watcher's own machine: the pod's program, told of a loss that nobody makes good."""

from __future__ import annotations

import json
from pathlib import Path

from podtasks.doors.programs_here import notify

RECORD = {
    "run_id": "digits-1",
    "exit_code": None,
    "reason": "pod lost",
    "failure": {"kind": "given_up", "title": "Run digits-1 was lost; no restarts are left.", "lines": [], "advice": []},
}


def test_command_hears_of_the_loss_on_standard_input(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    assert notify(f"cat > '{heard}'", "failed", RECORD, 20.0) == "told"
    message = json.loads(heard.read_text())
    assert message["event"] == "failed" and message["run"]["run_id"] == "digits-1"
    assert "no restarts are left" in message["text"]


def test_command_that_fails_or_hangs_is_told_in_words_and_holds_up_nothing() -> None:
    assert "exit code 3" in notify("exit 3", "failed", RECORD, 20.0)
    assert notify("sleep 60", "failed", RECORD, 1.0) == "it took longer than 1 s"
