"""`inv train` from nothing to a trained model, as a user types it, on the local cloud."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.end_to_end.git_daemon import GitDaemon
from tests.end_to_end.project import TIMEOUT_S, TrainingProject, command_line


def test_first_train_goes_from_nothing_to_a_stopped_pod(project: TrainingProject) -> None:
    done = project.train()

    assert done.code == 0, done.stderr
    assert done.stderr.splitlines()[0].startswith("podtasks: local cloud, because there is no RUNPOD_API_KEY")
    assert ".runpod.env" in done.stderr.splitlines()[0]
    assert re.findall(r"^step (\d+) ", done.stdout, re.MULTILINE) == [str(n) for n in range(1, 9)]
    assert project.running_pods() == []
    assert (project.output / "checkpoint-8/trainer_state.json").is_file()
    assert (project.output / "final_model/model.safetensors").is_file()


def test_log_on_the_volume_has_header_output_and_exit_code(project: TrainingProject) -> None:
    commit = project.git("rev-parse", "HEAD")

    done = project.train()

    lines = project.log.splitlines()
    assert re.fullmatch(r"=+ \d{4}-\d\d-\d\d \d\d:\d\d:\d\d =+", lines[1])
    assert lines[2:4] == ["CONFIG: configs/run.yaml", "STARTING FRESH"]
    assert f"COMMIT: {commit} (main)" in lines
    assert lines[-1] == "EXIT_CODE=0"
    assert project.log == done.stdout
    assert "\rprogress 8" in done.stdout


def test_second_train_resumes_and_reuses_the_pod(project: TrainingProject) -> None:
    first = project.train()
    (pod,) = project.pods()

    second = project.train()

    assert (first.code, second.code) == (0, 0), second.stderr
    assert [other["id"] for other in project.pods()] == [pod["id"]]
    assert f"pod {pod['id']} resumed" in second.stderr
    assert "RESUMING FROM: /workspace/my-project/checkpoints/run/checkpoint-8" in second.stdout
    assert "training from step 8 of 8" in second.stdout
    assert "STARTING FRESH" not in second.stdout


def test_force_restart_moves_old_checkpoints_aside_and_resume_from_takes_one(project: TrainingProject) -> None:
    project.train()
    weights = project.weights()

    restarted = project.train("--force-restart")

    assert restarted.code == 0, restarted.stderr
    assert "FORCE RESTART: checkpoints ignored" in restarted.stdout
    assert "training from step 0 of 8" in restarted.stdout
    (archive,) = project.output.parent.glob("run.archive-*")
    assert {path.name for path in archive.iterdir()} >= {"checkpoint-2", "checkpoint-8"}
    assert archive.name in restarted.stderr
    assert project.weights() == weights

    taken = project.train("--resume-from", f"checkpoints/{archive.name}/checkpoint-4")

    assert taken.code == 0, taken.stderr
    assert "training from step 4 of 8" in taken.stdout


def test_failing_script_gives_its_exit_code_and_stops_the_pod(project: TrainingProject) -> None:
    (project.path / "configs/run.yaml").write_text("output_dir: checkpoints/run\nsteps: 8\nsave_steps: 2\nfail_at: 3\n")
    project.commit("fail at step 3")

    done = project.train()

    assert done.code == 7
    assert "EXIT_CODE=7" in project.log
    assert "Traceback" not in done.stderr
    assert project.running_pods() == []
    assert "on RunPod it would have cost " in done.stderr
    status, runs = json.loads(project.inv("status", "--json").stdout), project.inv("runs").stdout.splitlines()
    assert (status["run"]["exit_code"], status["run"]["state"]) == (7, "ended")
    assert status["run"]["failure"]["title"] in done.stdout, "the log says why, as the status does"
    row = re.split(" {2,}", runs[1])
    assert (row[1], row[5]) == ("7", status["run"]["failure"]["title"])


def test_no_follow_returns_while_training_goes_on(project: TrainingProject) -> None:
    project.hold_at(3)

    done = project.train("--no-follow")
    project.wait_for_step(3)

    assert done.code == 0, done.stderr
    assert "step" not in done.stdout
    assert len(project.running_pods()) == 1
    project.release()
    project.wait_for(lambda: not project.running_pods(), "the pod to stop itself")
    assert project.log.endswith("EXIT_CODE=0\n")


def test_second_train_during_a_run_follows_it(project: TrainingProject) -> None:
    project.hold_at(5)
    project.train("--no-follow")
    project.wait_for_step(5)

    follower = project.start("train", "--config", "configs/run.yaml")
    project.wait_for(lambda: "step 5" in project.said(), "the follower to show step 5")
    project.release()

    assert follower.wait(timeout=TIMEOUT_S) == 0, project.said()
    assert "following it" in project.said()
    assert project.log.count("STARTING FRESH") == 1
    assert len(project.pods()) == 1


def test_other_configuration_is_refused_while_a_run_lasts(project: TrainingProject) -> None:
    (project.path / "configs/other.yaml").write_text("output_dir: checkpoints/other\nsteps: 2\nsave_steps: 1\n")
    project.commit("another")
    project.hold_at(2)
    project.train("--no-follow")
    project.wait_for_step(2)

    done = project.inv("train", "--config", "configs/other.yaml")

    assert done.code == 125
    assert "is training on this pod" in done.stderr
    assert "inv logs" in done.stderr
    assert len(project.running_pods()) == 1


def test_dry_run_prints_the_plan_and_makes_no_pod(project: TrainingProject) -> None:
    done = project.train("--dry-run", "--gpu", "NVIDIA A100 80GB PCIe", "--gpu", "NVIDIA GeForce RTX 4090")

    assert done.code == 0, done.stderr
    assert "Plan" in done.stderr
    assert "RTX 4090" in done.stderr
    assert project.pods() == []


def test_script_gets_args_and_environment_intact(project: TrainingProject) -> None:
    hostile = "it's \"$HOME\" `x`; $(touch /tmp/pwned) \\ é\nsecond line"
    project.set(env=json.dumps({"HOSTILE": hostile}))
    (project.path / "scripts/train.py").write_text(
        "import json, os, sys\nprint('GOT ' + json.dumps([os.environ['HOSTILE'], sys.argv[1:]]), flush=True)\n"
    )
    project.commit("print what arrives")

    done = project.train("--args", "--debug 'two words' '$(id)'")

    assert done.code == 0, done.stderr
    (got,) = re.findall(r"^GOT (.*)$", done.stdout, re.MULTILINE)
    assert json.loads(got) == [hostile, ["--config", "configs/run.yaml", "--debug", "two words", "$(id)"]]


def test_origin_clones_what_was_pushed(project: TrainingProject, git_daemon: GitDaemon) -> None:
    url = git_daemon.serve(project.path)
    project.set(repository=url)
    commit = project.commit("train from the origin")
    project.git("push", "-q", str(git_daemon.folder / "origin.git"), "main")

    done = project.train()

    assert done.code == 0, done.stderr
    assert f"COMMIT: {commit} (main)" in done.stdout
    assert f"fetched from {url}" in done.stderr


def test_unknown_resume_from_is_refused_and_the_pod_stopped_at_once(project: TrainingProject) -> None:
    done = project.train("--resume-from", "checkpoints/nowhere")

    assert done.code == 101
    assert "checkpoints/nowhere" in done.stderr
    assert "The pod was stopped" in done.stderr
    assert project.running_pods() == []


def test_no_secret_reaches_a_log_an_argument_list_or_the_volume(project: TrainingProject) -> None:
    project.hold_at(3)
    project.train("--no-follow")
    project.wait_for_step(3)
    account_key = project.server()["key"]
    (pod,) = project.pods()
    (init,) = [pid for pid in project.pod_processes("boot.sh") if pid == project.pod_pid(pod["id"])]
    environ = dict(line.split("=", 1) for line in Path(f"/proc/{init}/environ").read_text().split("\0") if "=" in line)

    everything = [path for path in Path("/proc").glob("[0-9]*/cmdline")]
    everything += [path for path in project.volume.rglob("*") if path.is_file()]
    everything += list((project.path / ".podtasks/cloud").rglob("*.log"))
    everything += list((project.path / ".podtasks/runs").rglob("*"))
    texts = {path: read_quietly(path) for path in everything}
    said = project.inv("status").stdout + project.inv("logs", "--no-follow").stdout + project.inv("settings").stdout

    assert "PODTASKS_HOST_KEY" not in environ
    for secret in (account_key, environ["RUNPOD_API_KEY"], "PRIVATE KEY"):
        assert secret not in said
        assert [path for path, text in texts.items() if secret in text] == []


def read_quietly(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_snapshot_takes_uncommitted_work_along(project: TrainingProject) -> None:
    head = project.git("rev-parse", "HEAD")
    (project.path / "configs/new one.yaml").write_text("output_dir: checkpoints/run\nsteps: 2\nsave_steps: 1\n")

    refused = project.inv("train", "--config", "configs/new one.yaml")
    taken = project.inv("train", "--config", "configs/new one.yaml", "--code", "snapshot")

    assert refused.code == 104
    assert "--code snapshot" in refused.stderr
    assert taken.code == 0, taken.stderr
    assert "CONFIG: configs/new one.yaml" in taken.stdout
    assert project.git("rev-parse", "HEAD") == head
    assert project.git("status", "--porcelain") == '?? "configs/new one.yaml"'


def test_logs_and_status_with_and_without_a_running_pod(project: TrainingProject) -> None:
    project.hold_at(4)
    project.train("--no-follow")
    project.wait_for_step(4)

    calls = len(project.ask("calls"))
    status = project.inv("status")
    assert len(project.ask("calls")) == calls + 1
    told = json.loads(project.inv("status", "--json", "--lines", "1").stdout)
    (running,) = json.loads(project.inv("runs", "--json").stdout)["runs"]
    last = project.inv("logs", "--no-follow", "--lines", "1")
    live = project.start("logs")
    project.wait_for(lambda: "step 4" in project.said(), "the log to be shown")
    project.release()
    assert live.wait(timeout=TIMEOUT_S) == 0
    shown = (project.path / ".home/out").read_bytes().decode()
    project.wait_for(lambda: not project.running_pods(), "the pod to stop itself")
    copy = project.inv("logs")

    assert "RUNNING" in status.stdout
    assert "training" in status.stdout
    assert "step 4 of 8 (50%)" in status.stdout
    assert (told["pod"]["is_billed"], told["run"]["state"], told["log"]["last_lines"][0][:6]) == (
        True,
        "training",
        "step 4",
    )
    assert (running["run_id"], running["state"], running["is_fresh"]) == (told["run"]["run_id"], "running", True)
    assert "step 4" in last.stdout
    assert shown == project.log
    assert copy.stdout == shown
    assert "no pod is running" in copy.stderr


def test_run_that_nobody_watched_can_be_read_afterwards(project: TrainingProject) -> None:
    project.train("--no-follow")
    project.wait_for(lambda: "EXIT_CODE" in project.log and not project.running_pods(), "the run to end")

    status = project.inv("status")
    logs = project.inv("logs")

    assert "finished, exit code 0" in status.stdout
    assert logs.stdout == project.log
    (run,) = json.loads(project.inv("runs", "--json").stdout)["runs"]
    assert (run["state"], run["exit_code"], run["config"]) == ("ended", 0, "configs/run.yaml")
    by_pod = project.inv("logs", "--run", run["run_id"], "--lines", "1", "--via", "ssh", "--start")
    assert by_pod.stdout == "EXIT_CODE=0\n", by_pod.stderr
    assert project.running_pods() == []
    unknown = project.inv("logs", "--run", run["run_id"][:-3])
    assert (unknown.code, unknown.stdout) == (101, "")
    assert f"did you mean {run['run_id']}?" in unknown.stderr
    cost = json.loads(project.inv("cost", "--days", "2", "--json").stdout)
    assert (cost["source"], cost["runs"][0]["cost_usd"]) == ("bills", pytest.approx(run["cost_usd"]))
    assert sum(part["usd"] for part in cost["parts"]) == pytest.approx(cost["total_usd"])
    gpus = json.loads(project.inv("gpus", "--json").stdout)
    assert gpus["chosen"] == "NVIDIA GeForce RTX 4090"
    refused = project.inv("logs", "--lines", "abc")
    assert refused.code == 101
    assert "--lines abc" in refused.stderr


def test_looking_does_not_start_a_local_cloud(project: TrainingProject) -> None:
    for task in ("status", "stop", "runs", "cost"):
        done = project.inv(task)
        assert done.code == 0
        assert "the local cloud does not run" in done.stderr
    assert not (project.path / ".podtasks/cloud/server.json").exists()


def test_local_cloud_goes_up_and_down_with_its_pods(project: TrainingProject) -> None:
    assert project.inv("cloud", "up").code == 0
    assert project.inv("start").code == 0
    (pod,) = project.running_pods()
    (process,) = project.pod_processes("start.sh")
    status = project.inv("cloud", "status")
    assert f"pid     {project.server()['pid']}" in status.stdout
    assert f"pod     {pod} RUNNING" in status.stdout
    assert project.inv("cloud", "down").code == 0
    project.wait_for(lambda: not command_line(process), "the pod's processes to end")
    assert "does not run" in project.inv("cloud", "status").stdout


def test_image_without_start_script_works_the_same(project: TrainingProject) -> None:
    project.start_cloud()
    project.ask("dials", {"images": [{"pattern": "example/bare*", "start_sh": False, "without": []}]})
    project.set(image="example/bare:1")
    project.commit("another image")

    done = project.train()

    assert done.code == 0, done.stderr
    assert project.log.endswith("EXIT_CODE=0\n")
    assert project.running_pods() == []


def test_machine_that_cannot_sandbox_trains_in_plain_processes(project: TrainingProject) -> None:
    project.start_cloud("--sandbox", "processes")

    done = project.train()

    assert done.code == 0, done.stderr
    assert "trained" in done.stdout
    assert project.volume in Path(done.stderr.split("outputs are on its volume: ")[1].splitlines()[0]).parents
    assert project.running_pods() == []


def test_terminate_deletes_the_pod_and_the_next_train_goes_on(project: TrainingProject) -> None:
    project.train()

    asked = project.inv("terminate")
    kept = len(project.pods())
    deleted = project.inv("terminate", "--yes")

    assert (asked.code, kept) == (101, 1)
    assert "nobody to ask" in asked.stderr
    assert deleted.code == 0, deleted.stderr
    project.wait_for(lambda: not project.pods(), "the pod to drop out of the list")
    done = project.train()
    assert done.code == 0, done.stderr
    assert "training from step 8 of 8" in done.stdout
