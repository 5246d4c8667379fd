"""The rules of the log stream (podtasks/flows/follow.py) that the other end-to-end tests do not show.

Rule 1 and 4: test_broken_link_is_made_anew_with_no_line_lost_or_repeated. Rule 3: the first trainings.
Rule 6: test_ctrl_c_ends_the_view_only_and_says_how_to_come_back. Rule 7: test_logs_and_status_….
"""

from __future__ import annotations

import subprocess
import sys

from tests.end_to_end.project import ROOT, TIMEOUT_S, TrainingProject

ODD = b"\rone\rtwo\r\n\x00\xff\xfe caf\xe9 \x1b[31mred\x1b[0m no newline at the end"


def test_rule_2_bytes_are_passed_on_as_they_are(project: TrainingProject) -> None:
    script = f"import sys\nsys.stdout.buffer.write({ODD!r} + b'x' * 300_000)\n"
    (project.path / "scripts/train.py").write_text(script)
    project.commit("odd bytes")

    done = subprocess.run(
        [sys.executable, "-m", "invoke", "train", "--config", "configs/run.yaml"],
        cwd=project.path,
        env=project.environment(PYTHONPATH=str(ROOT)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert ODD + b"x" * 300_000 + b"\nEXIT_CODE=0\n" in done.stdout
    assert done.stdout == (project.volume / "logs/current.log").read_bytes()


def test_rule_5_pod_that_is_gone_ends_the_stream_and_says_where_the_log_is(project: TrainingProject) -> None:
    project.hold_at(4)
    command = project.start("train", "--config", "configs/run.yaml")
    project.wait_for(lambda: "step 4" in project.said(), "the log to be shown")

    project.ask(f"pods/{project.running_pods()[0]}/kill", {})

    assert command.wait(timeout=TIMEOUT_S) == 126, project.said()
    assert "/workspace/logs/current.log" in project.said()
    assert "the same inv train command goes on" in project.said()


def test_rule_8_only_the_log_goes_to_standard_output(project: TrainingProject) -> None:
    done = project.train()

    assert done.stdout.splitlines()[1].startswith("======")
    assert done.stdout.endswith("EXIT_CODE=0\n")
    assert "Plan" in done.stderr
    assert "step 3" not in done.stderr
