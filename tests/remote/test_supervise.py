"""The whole chain on the pod: launch, supervise, guard, stop."""

from __future__ import annotations

from tests.remote.fake_pod import API_KEY, FakePod


def test_a_training_that_succeeds_has_header_output_footer_and_stops_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch("print('hello')")
    record = pod.wait_for_end(answer["run_dir"])
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert record["exit_code"] == 0
    assert record["reason"] == "finished"
    lines = pod.log().decode().splitlines()
    assert lines[0] == ""
    assert lines[2:] == [
        "CONFIG: configs/digits.yaml", "STARTING FRESH", "RUN: digits-20261123-120000-3f2a1b9",
        "POD: pod123 (NVIDIA GeForce RTX 4090, $0.69/h)",
        "COMMIT: 3f2a1b9c0d8e7f6a5b4c3d2e1f0a9b8c7d6e5f40 (main)", "hello", "EXIT_CODE=0",
    ]
    assert API_KEY not in (pod.directory / "guard.log").read_text()
