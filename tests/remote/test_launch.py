"""launch.py: links, archived checkpoints, the record, the tmux session, and every refusal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod, as_object, wait_until

WAITING = "import time; print('begun'); time.sleep(1000)"


def refuse(pod: FakePod, request: dict[str, Any]) -> dict[str, Any]:
    """Launch with the prepare lease held; return the refusal."""
    client, token = pod.prepare()
    code, answer = pod.run_program("launch.py", {**request, "token": token})
    client.close()
    assert code == 20, answer
    return answer


def test_the_answer_names_what_was_launched(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch(WAITING)
    run_dir = pod.volume / "runs" / "digits-20261123-120000-3f2a1b9"
    assert answer == {
        "run_id": run_dir.name,
        "run_dir": str(run_dir),
        "log": str(pod.volume / "logs" / "current.log"),
        "log_start": 0,
        "session": "train",
        "archived": None,
        "linked": [],
        "notes": [],
    }
    assert pod.tmux("has-session", "-t", "=train").returncode == 0
    assert pod.status()["lease"]["run_id"] == run_dir.name
    assert pod.status()["lease"]["who"] == "a tester"
    pod.wait_for_log(b"begun\n")
    assert "token" not in pod.record(str(run_dir))


# Refusals


def test_a_token_that_holds_nothing_is_refused_before_anything_is_touched(pod: FakePod) -> None:
    pod.start_guard()
    request = pod.request("pass", links={"out": "out"}, token="stale")
    code, answer = pod.run_program("launch.py", request)
    assert (code, answer["error"]) == (20, "This launch does not hold the pod.")
    assert not (pod.clone / "out").exists()
    assert not (pod.volume / "runs").exists()


def test_a_running_session_is_refused_by_name_and_goes_on(pod: FakePod) -> None:
    pod.start_guard()
    pod.launch(WAITING, run_id="first")
    pod.wait_for_log(b"begun\n")
    before = (pod.directory / "supervisor.pid").read_text()
    code, answer = pod.run_program("launch.py", pod.request("pass", run_id="second", token="any"))
    assert code == 20
    assert "run first of a tester" in answer["detail"]
    assert answer["holder"]["run_id"] == "first"
    assert (pod.directory / "supervisor.pid").read_text() == before
    assert not (pod.volume / "runs" / "second").exists()


def test_a_live_supervisor_the_guard_does_not_know_is_refused_too(pod: FakePod) -> None:
    pod.start_guard()
    program = pod.root / "supervise.py"
    program.write_text("import time; time.sleep(1000)\n")
    supervisor = pod.start([sys.executable, str(program)])
    (pod.directory / "supervisor.pid").write_text(f"{supervisor.pid}\n")
    answer = refuse(pod, pod.request("pass", run_id="second"))
    assert str(supervisor.pid) in answer["detail"]


def test_without_a_guard_nothing_is_launched(pod: FakePod) -> None:
    code, answer = pod.run_program("launch.py", pod.request("pass", token="any"))
    assert (code, answer["error"]) == (20, "The pod has no guard.")


def test_a_supervisor_that_dies_at_once_is_told_with_what_it_said(pod: FakePod) -> None:
    kit = pod.copy_kit()
    (kit / "supervise.py").write_text("raise SystemExit('no luck today')\n")
    pod.start_guard()
    answer = refuse(pod, pod.request("pass"))
    assert (answer["error"], answer["detail"]) == ("The tmux session ended at once.", "no luck today")
    run_dir = str(pod.volume / "runs" / "digits-20261123-120000-3f2a1b9")
    assert "not launched" in pod.record(run_dir)["reason"]
    assert pod.status()["grace_left_s"] > 0


def test_a_tmux_that_fails_is_told_with_what_it_said(pod: FakePod) -> None:
    pod.add_program("tmux", 'case "$*" in *new-session*) echo "no terminals left" >&2;; esac; exit 1')
    pod.start_guard()
    assert refuse(pod, pod.request("pass"))["detail"] == "no terminals left"


@pytest.mark.parametrize("run_id", ["../escape", "a/b", "", ".."])
def test_a_run_id_that_is_no_plain_name_is_refused(pod: FakePod, run_id: str) -> None:
    pod.start_guard()
    refuse(pod, pod.request("pass", run_id=run_id))


def test_a_run_id_is_used_once(pod: FakePod) -> None:
    pod.start_guard()
    pod.wait_for_end(pod.launch("pass", when_done="keep")["run_dir"])
    wait_until(lambda: pod.status()["lease"] is None, "the lease")
    assert "is there already" in refuse(pod, pod.request("pass"))["detail"]


def kill_the_guard_during_the_launch(pod: FakePod, after: str) -> None:
    """Have launch.py kill the guard once `after` is true of what it has begun."""
    guard = pod.start_guard()
    kit = pod.copy_kit()
    begun = "    pane_pid = train_session.start(run_dir, errors)\n"
    killed = f"    while not ({after}): time.sleep(0.01)\n    os.kill({guard.pid}, 9)\n"
    program = (kit / "launch.py").read_text()
    assert begun in program
    (kit / "launch.py").write_text(program.replace(begun, begun + killed))


def test_a_guard_that_dies_when_it_has_given_the_lease_costs_the_run_neither_its_record_nor_its_secrets(
    pod: FakePod,
) -> None:
    kill_the_guard_during_the_launch(pod, "holds_lease(record['run_id'])")
    client, token = pod.prepare()
    request = pod.request("import os; print(os.environ['TOKEN'][::-1])", secrets={"TOKEN": "abc"}, token=token)
    launching = pod.start_program("launch.py", request)
    pod.processes[0].wait(30)
    pod.start_guard()
    out, _ = launching.communicate(timeout=30)
    client.close()
    answer = as_object(out)
    assert launching.returncode == 0, answer
    assert pod.wait_for_end(answer["run_dir"])["reason"] == "finished"
    assert b"cba\n" in pod.log()


def test_a_guard_that_dies_before_it_has_given_the_lease_is_told_of_when_the_supervisor_has_ended(pod: FakePod) -> None:
    kill_the_guard_during_the_launch(pod, "True")
    answer = refuse(pod, pod.request("pass", secrets={"TOKEN": "abc"}))
    assert answer["error"] == "The tmux session ended at once."
    assert not list(pod.directory.glob("secrets-*"))
    assert pod.tmux("has-session", "-t", "=train").returncode != 0


# Leftovers


def test_a_session_without_a_supervisor_is_removed(pod: FakePod) -> None:
    pod.start_guard()
    assert pod.tmux("new-session", "-d", "-s", "train", "sleep 1000").returncode == 0
    (pod.directory / "supervisor.pid").write_text("999999999\n")
    answer = pod.launch("print('hello')")
    assert pod.wait_for_end(answer["run_dir"])["exit_code"] == 0


def test_sessions_of_other_names_are_left_alone(pod: FakePod) -> None:
    pod.start_guard()
    assert pod.tmux("new-session", "-d", "-s", "training", "sleep 1000").returncode == 0
    pod.launch("print('hello')")
    assert pod.tmux("has-session", "-t", "=training").returncode == 0


def test_an_earlier_run_without_an_end_is_recorded_as_lost(pod: FakePod) -> None:
    pod.start_guard()
    first = pod.launch(WAITING, run_id="first")
    pod.wait_for_log(b"begun\n")
    # The pod goes away: everything on it is killed at once and its disk is wiped.
    pod.kill_the_rest()
    for process in pod.processes:
        process.wait()
    for name in ("guard.sock", "lease.json", "supervisor.pid"):
        (pod.directory / name).unlink()
    log = pod.log()
    pod.start_guard()
    second = pod.launch("print('hello')", run_id="second")
    record = pod.record(first["run_dir"])
    assert (record["reason"], record["exit_code"], record["log_end"]) == ("pod lost", None, len(log))
    assert (Path(first["run_dir"]) / "output.log").read_bytes() == log
    assert second["log_start"] == len(log)


# Hostile names


@pytest.mark.parametrize("name", ["a;", "a b;c", "$(touch x)", "'\"", "-x", "#{pid}", "new\nline"])
def test_hostile_folders_reach_the_training_as_they_are(pod: FakePod, name: str) -> None:
    pod.volume = pod.root / name
    pod.clone = pod.volume / name
    pod.clone.mkdir(parents=True)
    pod.environ["PODTASKS_VOLUME"] = str(pod.volume)
    pod.start_guard()
    answer = pod.launch(f"import os; print(os.getcwd() == {str(pod.clone)!r})", config=name)
    assert pod.wait_for_end(answer["run_dir"])["exit_code"] == 0
    assert pod.log().endswith(b"True\nEXIT_CODE=0\n")


# Links


def test_links_lead_from_the_clone_to_the_volume_and_are_hidden_from_git(pod: FakePod) -> None:
    pod.make_clone()
    pod.start_guard()
    links = {"checkpoints": "checkpoints", "data/audio 0": "data/audio 0", "log*": "logs of [all]"}
    answer = pod.launch("pass", links=links, when_done="keep")
    assert answer["linked"] == sorted(links)
    for name, folder in links.items():
        assert (pod.clone / name).is_symlink()
        assert (pod.clone / name).resolve() == pod.volume / folder
        (pod.clone / name / "file").write_text("x")
        assert (pod.volume / folder / "file").exists()
    (pod.clone / "logs2").mkdir()
    (pod.clone / "logs2" / "f").write_text("")
    status = subprocess.run(
        ["git", "-C", str(pod.clone), "status", "--porcelain"], capture_output=True, text=True, check=True
    )
    assert status.stdout == "?? logs2/\n?? train.py\n"


def test_links_that_are_there_are_kept_and_excluded_once(pod: FakePod) -> None:
    pod.make_clone()
    pod.start_guard()
    for run_id in ("first", "second"):
        answer = pod.launch("pass", links={"out": "out"}, when_done="keep", run_id=run_id)
        pod.wait_for_end(answer["run_dir"])
        wait_until(lambda: pod.status()["lease"] is None, "the lease")
    assert (answer["linked"], answer["notes"]) == ([], [])
    assert (pod.clone / ".git" / "info" / "exclude").read_text().splitlines().count("/out") == 1


def test_a_real_folder_in_the_clone_is_left_and_noted(pod: FakePod) -> None:
    pod.start_guard()
    (pod.clone / "data").mkdir()
    (pod.clone / "data" / "precious").write_text("x")
    elsewhere = pod.root / "elsewhere"
    (pod.clone / "other").symlink_to(elsewhere)
    answer = pod.launch("pass", links={"data": "data", "other": "other"})
    assert answer["linked"] == []
    assert [note.split(" is ")[0] for note in answer["notes"][:2]] == [
        str(pod.clone / "data"),
        str(pod.clone / "other"),
    ]
    assert (pod.clone / "data" / "precious").read_text() == "x"
    assert os.readlink(pod.clone / "other") == str(elsewhere)
    assert not (pod.volume / "data").exists()


@pytest.mark.parametrize(("name", "folder"), [("../x", "x"), ("/x", "x"), ("x", "../x"), (".", "x"), ("a\nb", "x")])
def test_links_that_lead_out_are_refused(pod: FakePod, name: str, folder: str) -> None:
    pod.start_guard()
    assert refuse(pod, pod.request("pass", links={name: folder}))["error"] == "A link is not possible."


# Force restart


def checkpoints(directory: Path) -> None:
    """Make checkpoints, whole and partial, and things that are none."""
    for name in ("checkpoint-200", "checkpoint-1000", "tmp-checkpoint-1200", "final_model"):
        (directory / name).mkdir(parents=True)
        (directory / name / "model.bin").write_text(name)
    (directory / "trainer_state.json").write_text("{}")


def archived(answer: dict[str, Any]) -> list[str]:
    """Return the names of what was set aside."""
    return sorted(path.name for path in Path(answer["archived"]).iterdir())


def test_force_restart_sets_checkpoints_aside_whole(pod: FakePod) -> None:
    pod.start_guard()
    output = pod.volume / "out [x]"
    checkpoints(output)
    answer = pod.launch("pass", force_restart=True, output_dir=str(output))
    assert archived(answer) == ["checkpoint-1000", "checkpoint-200", "tmp-checkpoint-1200"]
    assert answer["archived"].startswith(f"{output}.archive-20")
    assert (Path(answer["archived"]) / "checkpoint-200" / "model.bin").read_text() == "checkpoint-200"
    assert sorted(path.name for path in output.iterdir()) == ["final_model", "trainer_state.json"]


def test_a_checkpoint_to_resume_from_is_taken_from_the_archive_it_was_moved_to(pod: FakePod) -> None:
    pod.start_guard()
    checkpoints(pod.volume / "checkpoints")
    wanted = str(pod.clone / "checkpoints" / "checkpoint-200")
    script = "import sys; print(open(sys.argv[2].split('=')[1] + '/model.bin').read(), *sys.argv)"
    answer = pod.launch(
        script,
        force_restart=True,
        output_dir=str(pod.clone / "checkpoints"),
        links={"checkpoints": "checkpoints"},
        checkpoint={"path": wanted, "step": 200},
        command=[sys.executable, "train.py", f"{wanted}0", f"--from={wanted}", f"{wanted}/model.bin"],
    )
    record = pod.wait_for_end(answer["run_dir"])
    moved = f"{answer['archived']}/checkpoint-200"
    assert record["exit_code"] == 0, pod.log()
    assert (record["checkpoint"], record["archived"]) == ({"path": moved, "step": 200}, answer["archived"])
    lines = pod.log().decode().splitlines()
    assert lines[3] == f"RESUMING FROM: {moved}"
    assert lines[-3] == f"NOTE: checkpoints were set aside in {answer['archived']}"
    assert lines[-2] == f"checkpoint-200 train.py {wanted}0 --from={moved} {moved}/model.bin"
    assert "FORCE RESTART" not in pod.log().decode()


def test_a_checkpoint_that_stays_where_it_is_is_resumed_from_there(pod: FakePod) -> None:
    pod.start_guard()
    output = pod.volume / "out"
    checkpoints(output)
    wanted = str(output / "final_model")
    command = [sys.executable, "train.py", wanted]
    checkpoint = {"path": wanted, "step": None}
    answer = pod.launch("pass", force_restart=True, output_dir=str(output), checkpoint=checkpoint, command=command)
    record = pod.wait_for_end(answer["run_dir"])
    assert (record["checkpoint"], record["command"]) == (checkpoint, command)


def test_the_archive_of_a_linked_output_folder_is_on_the_volume(pod: FakePod) -> None:
    pod.start_guard()
    checkpoints(pod.volume / "checkpoints")
    links = {"checkpoints": "checkpoints"}
    output = str(pod.clone / "checkpoints")
    answer = pod.launch("pass", force_restart=True, output_dir=output, links=links)
    assert Path(answer["archived"]).parent == pod.volume


def test_an_output_folder_that_is_a_file_system_of_its_own_keeps_its_archive_inside(pod: FakePod) -> None:
    pod.start_guard()
    client, token = pod.prepare()
    output = pod.volume / "out"
    script = f"import glob; print(*glob.glob('*/*', root_dir={str(output)!r}))"
    request = {**pod.request(script, force_restart=True, output_dir=str(output)), "token": token}
    # Only what is launched here sees this file system.
    make_and_launch = 'mkdir "$0/checkpoint-1" && exec "$@"'
    words = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", str(output), "sh", "-c", make_and_launch, str(output)]
    process = pod.start([*words, sys.executable, str(pod.kit / "launch.py")])
    out, err = process.communicate(json.dumps(request).encode() + b"\n", timeout=60)
    answer = json.loads(out)
    client.close()
    assert Path(answer["archived"]).parent == output, err
    assert "file system of its own" in answer["notes"][0]
    pod.wait_for_end(answer["run_dir"])
    assert f"\n{Path(answer['archived']).name}/checkpoint-1\n" in pod.log().decode()


@pytest.mark.parametrize("made", [False, True])
def test_with_nothing_to_set_aside_there_is_no_archive(pod: FakePod, made: bool) -> None:
    pod.start_guard()
    output = pod.volume / "out"
    if made:
        (output / "final_model").mkdir(parents=True)
    answer = pod.launch("pass", force_restart=True, output_dir=str(output))
    assert answer["archived"] is None
    assert "no checkpoints to set aside" in answer["notes"][0]
    assert list(pod.volume.glob("out.archive*")) == []


def test_going_back_sets_newer_checkpoints_aside_and_keeps_the_rest(pod: FakePod) -> None:
    pod.start_guard()
    output = pod.volume / "out"
    for step in (100, 200, 300, 1000):
        (output / f"checkpoint-{step}").mkdir(parents=True)
    wanted = {"path": str(output / "checkpoint-200"), "step": 200}
    answer = pod.launch("pass", output_dir=str(output), checkpoint=wanted, resume_from="out/checkpoint-200")
    record = pod.wait_for_end(answer["run_dir"])
    assert sorted(path.name for path in output.iterdir()) == ["checkpoint-100", "checkpoint-200"]
    assert sorted(os.listdir(answer["archived"])) == ["checkpoint-1000", "checkpoint-300"]
    assert record["checkpoint"] == wanted


def test_without_force_restart_checkpoints_stay(pod: FakePod) -> None:
    pod.start_guard()
    output = pod.volume / "out"
    checkpoints(output)
    assert pod.launch("pass", output_dir=str(output))["archived"] is None
    assert (output / "checkpoint-200").is_dir()


def test_patterns_with_folders_are_followed(pod: FakePod) -> None:
    pod.start_guard()
    output = pod.volume / "out"
    (output / "version_0" / "checkpoints").mkdir(parents=True)
    (output / "version_0" / "checkpoints" / "step=5.ckpt").write_text("x")
    answer = pod.launch(
        "pass", force_restart=True, output_dir=str(output), checkpoint_pattern="version_*/checkpoints/step=*.ckpt"
    )
    assert (Path(answer["archived"]) / "version_0" / "checkpoints" / "step=5.ckpt").read_text() == "x"


def test_a_checkpoint_folder_of_its_own_is_the_one_set_aside(pod: FakePod) -> None:
    pod.start_guard()
    checkpoints(pod.clone / "out" / "main")
    answer = pod.launch("pass", force_restart=True, output_dir="out", checkpoint_dir="out/main")
    assert Path(answer["archived"]).parent == pod.clone / "out"
    assert archived(answer) == ["checkpoint-1000", "checkpoint-200", "tmp-checkpoint-1200"]


def test_what_lies_inside_a_checkpoint_goes_along_with_it(pod: FakePod) -> None:
    pod.start_guard()
    output = pod.volume / "out"
    (output / "a" / "checkpoint-1" / "checkpoint-of-a-part").mkdir(parents=True)
    answer = pod.launch("pass", force_restart=True, output_dir=str(output), checkpoint_pattern="**/checkpoint-*")
    assert (Path(answer["archived"]) / "a" / "checkpoint-1" / "checkpoint-of-a-part").is_dir()


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*"])
def test_a_pattern_that_leads_out_moves_nothing(pod: FakePod, pattern: str) -> None:
    pod.start_guard()
    checkpoints(pod.volume / "out")
    request = pod.request("pass", force_restart=True, output_dir=str(pod.volume / "out"), checkpoint_pattern=pattern)
    assert "leads out" in refuse(pod, request)["error"]
    assert (pod.volume / "out" / "checkpoint-200").is_dir()


# A launch that follows another run


def files_of(pod: FakePod) -> dict[str, bytes]:
    """Return everything on the volume."""
    return {str(path): path.read_bytes() for path in pod.volume.rglob("*") if path.is_file()}


def finish_a_run(pod: FakePod, run_id: str) -> None:
    """Have a run on the volume that has ended; the pod is kept."""
    answer = pod.launch("pass", run_id=run_id, when_done="keep")
    pod.wait_for_end(answer["run_dir"])
    wait_until(lambda: pod.status()["lease"] is None, "the lease")


def test_a_launch_that_another_one_overtook_is_refused_before_anything_is_touched(pod: FakePod) -> None:
    pod.start_guard()
    finish_a_run(pod, "r-1")
    finish_a_run(pod, "r-2")
    before = files_of(pod)
    request = pod.request("pass", run_id="r-3", after_run="r-1", links={"out": "out"}, notify="true")
    (pod.clone / "train.py").write_bytes(before[str(pod.clone / "train.py")])
    answer = refuse(pod, request)
    assert (answer["error"], answer["overtaken"]) == ("Another launch came before this one.", "r-2")
    assert answer["detail"] == "the newest run on the volume is r-2, not r-1"
    assert files_of(pod) == before
    assert not (pod.clone / "out").exists()
    assert not (pod.directory / "notify.json").exists()


def test_a_launch_after_the_newest_run_is_one_and_after_none_is_overtaken_by_nobody(pod: FakePod) -> None:
    pod.start_guard()
    assert refuse(pod, pod.request("pass", after_run="r-1"))["overtaken"] is None
    finish_a_run(pod, "r-1")
    assert pod.launch("pass", run_id="r-2", after_run="r-1")["run_id"] == "r-2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_cost_usd", value) for value in (float("nan"), float("inf"), -0.01, "many", True, [1], 10**400)),
        *((name, -1) for name in ("max_hours", "keep_failed_s", "stall_minutes", "stop_grace_s")),
    ],
)
def test_a_limit_that_is_no_number_is_refused_before_anything_is_touched(
    pod: FakePod, name: str, value: object
) -> None:
    pod.start_guard()
    answer = refuse(pod, pod.request("pass", **{name: value}))
    assert answer["error"] == "A limit of this launch is no number."
    assert answer["detail"].startswith(f"{name} is ")
    assert len(answer["detail"]) < 200
    assert not (pod.volume / "runs").exists()


def test_a_limit_in_money_without_a_price_is_said_to_have_no_effect(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch("pass", max_cost_usd=1, pod={"id": "p", "gpu": None, "usd_per_hour": 0})
    assert answer["notes"] == ["max_cost_usd has no effect: the price of this pod is not known"]
