"""TensorBoard as seen from here: questions, places, messages, and the view that outlives its link."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.doors import local_port
from podtasks.doors.browser import open_page
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.board import RECONNECT_LIMIT_S, BoardView, build_source, find_config
from podtasks.flows.local_board import find_fetched
from podtasks.pure.board import Board, BoardSource, choose_shared, describe_board, local_places, parse_board, parse_port
from podtasks.pure.errors import ConfigError, PodtasksError, RemoteCommandError, TransportError, UsageError
from podtasks.pure.pod import SshEndpoint
from podtasks.pure.settings import Settings
from podtasks.pure.training_config import TrainingConfig
from podtasks.tasks.board import tensorboard
from tests.unit.fake_pod import BROKEN, OTHER_MACHINE, FakePod, FakeShell, again, refusal
from tests.unit.fakes import STOPPED, FakeReporter, World, make_pod

CONFIG = TrainingConfig("configs/run.yaml", "checkpoints/run", "logs/run")
LINKS = {"logs": "logs", "checkpoints": "saved/checkpoints"}
SETTINGS = Settings(project="demo", links=LINKS)
ANSWER = {"port": 41234, "folder": "/workspace/logs/run", "has_event_files": True, "was_running": False, "run_id": "r"}


# What is asked and said


@pytest.mark.parametrize(("text", "port"), [("", None), ("1", 1), ("6006", 6006), ("65535", 65535)])
def test_port_is_a_number_or_left_open(text: str, port: int | None) -> None:
    assert parse_port(text) == port


@pytest.mark.parametrize("text", ["0", "65536", "-1", "6006x", "\u0666\u0660", "six", " 80", "1e3"])
def test_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no port"):
        parse_port(text)


def test_request_names_what_the_configuration_says() -> None:
    source = BoardSource("/workspace/demo", "python", CONFIG, is_named=True)
    assert source.build_request() == {
        "clone": "/workspace/demo",
        "python": "python",
        "logging_dir": "logs/run",
        "output_dir": "checkpoints/run",
        "is_named": True,
    }
    empty = BoardSource("/workspace/demo", "python", None, is_named=False).build_request()
    assert (empty["logging_dir"], empty["output_dir"]) == (None, None)


def test_source_is_on_the_mount_path_that_the_cloud_knows_better(world: World) -> None:
    cloud = world.cloud()
    assert build_source(SETTINGS, cloud, None, is_named=False).clone == "/workspace/demo"
    moved = replace(cloud, mount_path="/tmp/volume")
    assert build_source(SETTINGS, moved, None, is_named=False).clone == "/tmp/volume/demo"


def test_description_says_whether_it_ran_and_whether_there_is_anything_to_see() -> None:
    board = parse_board(ANSWER)
    assert describe_board(board) == ["TensorBoard runs on the pod in tmux session tb, reading /workspace/logs/run"]
    said = describe_board(Board(1, "/x", has_event_files=False, was_running=True))
    assert "runs already" in said[0]
    assert "no event file is there yet" in said[1]


@pytest.mark.parametrize(
    ("logging_dir", "output_dir", "expected"),
    [
        ("logs/run", "checkpoints/run", ["logs/run", "saved/checkpoints/run/runs", "saved/checkpoints/run"]),
        (None, "out", ["demo/out/runs", "demo/out"]),
        ("/workspace/tb", "/workspace/logs/x", ["tb", "logs/x/runs", "logs/x"]),
        ("logs", "logsx", ["logs", "demo/logsx/runs", "demo/logsx"]),
    ],
)
def test_places_in_a_copy_of_the_volume(logging_dir: str | None, output_dir: str, expected: list[str]) -> None:
    config = TrainingConfig("c.yaml", output_dir, logging_dir)
    assert local_places("demo", "/workspace", LINKS, config) == expected


@pytest.mark.parametrize(
    ("places", "shared"), [([], "."), (["logs"], "logs"), (["logs", "checkpoints"], "."), (["a/b", "a/c"], "a")]
)
def test_shared_folder(places: list[str], shared: str) -> None:
    assert choose_shared(places) == shared


# The configuration


def make_files(root: Path, *names: str) -> ProjectFiles:
    (root / "configs").mkdir(exist_ok=True)
    for name in names:
        (root / "configs" / name).write_text("output_dir: checkpoints/run\nlogging_dir: logs/run\n")
    return ProjectFiles(root)


def test_configuration_is_the_named_one_or_the_only_one(tmp_path: Path) -> None:
    files = make_files(tmp_path, "run.yaml")
    assert find_config("", SETTINGS, files) == CONFIG
    make_files(tmp_path, "other.yaml")
    assert find_config("", SETTINGS, files) is None
    assert find_config("configs/run.yaml", SETTINGS, files) == CONFIG
    with pytest.raises(ConfigError):
        find_config("configs/none.yaml", SETTINGS, files)


def test_bad_configuration_that_nobody_named_is_no_error(tmp_path: Path) -> None:
    files = make_files(tmp_path, "run.yaml")
    (tmp_path / "configs/run.yaml").write_text("steps: [")
    assert find_config("", SETTINGS, files) is None


# The view of the pod's TensorBoard


class FakeTunnel:
    """A tunnel that ends as soon as somebody waits for it, in the way that was declared."""

    def __init__(self, end: BaseException | None) -> None:
        self.end = end
        self.is_open = True

    def wait(self) -> None:
        if self.end is not None:
            raise again(self.end)

    def close(self) -> None:
        self.is_open = False


class Scene:
    """A pod with TensorBoard; what becomes of each tunnel is declared in `ends`."""

    def __init__(self, world: World, pod: FakePod, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.pod = pod
        self.ends: list[BaseException | None] = []
        self.page = True
        self.ports: list[int] = []
        self.tunnels: list[FakeTunnel] = []
        self.urls: list[str] = []
        self.listener = cast(local_port.Listener, object())
        self.url = "http://127.0.0.1:6007/"
        monkeypatch.setattr(FakeShell, "forward", self.forward, raising=False)
        monkeypatch.setattr(local_port, "port_of", {self.listener: 6007}.__getitem__)
        monkeypatch.setattr(local_port, "answers_http", self.answers)

    def answers(self, port: int, timeout_s: float) -> bool:
        assert port == 6007 and timeout_s > 0
        return self.page

    def forward(self, listener: local_port.Listener, port: int) -> FakeTunnel:
        assert listener is self.listener
        self.ports.append(port)
        self.tunnels.append(FakeTunnel(self.ends.pop(0)))
        return self.tunnels[-1]

    def show(self) -> None:
        source = BoardSource("/workspace/demo", "python", CONFIG, is_named=False)
        view = BoardView(
            self.world.cloud(),
            make_pod(),
            source,
            self.listener,
            on_ready=self.urls.append,
            ready_timeout_s=60,
            report=self.world.report,
            clock=self.world.clock,
        )
        view.show()


@pytest.fixture
def scene(world: World, pod: FakePod, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(world, pod, monkeypatch)
    yield made
    assert pod.open_shells() == 0, "a connection was left open"
    assert not any(tunnel.is_open for tunnel in made.tunnels), "a tunnel was left open"


def test_ctrl_c_closes_tunnel_and_link_and_nothing_on_the_pod(scene: Scene) -> None:
    scene.world.api.on("find_pod pod1", make_pod())
    scene.pod.on("tensorboard.py", ANSWER)
    scene.ends = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        scene.show()
    assert scene.urls == [scene.url]
    assert scene.ports == [41234]
    assert scene.pod.programs() == ["tensorboard.py"]
    assert scene.world.api.orders() == []


def test_broken_link_is_made_anew_at_the_pods_new_port_and_the_same_local_one(scene: Scene) -> None:
    moved = make_pod(ssh=SshEndpoint("203.0.113.8", 40099))
    scene.world.api.on("find_pod pod1", make_pod(), moved, moved, moved, STOPPED)
    scene.pod.on("tensorboard.py", ANSWER, {**ANSWER, "port": 50000})
    scene.pod.connects = [None, BROKEN, OTHER_MACHINE, None]
    scene.ends = [None, None]
    scene.show()
    assert scene.ports == [41234, 50000]
    assert scene.pod.reached[-1] == moved.ssh
    assert scene.urls == [scene.url], "the address is printed once"
    assert f"the tunnel is back: {scene.url}" in scene.world.report.steps
    assert len([note for note in scene.world.report.notes if "Reconnecting" in note]) == 1


@pytest.mark.parametrize(("reading", "told"), [(STOPPED, "has stopped"), (None, "is no longer there")])
def test_pod_that_is_gone_ends_the_view_and_says_how_to_see_it_here(scene: Scene, reading: Any, told: str) -> None:  # noqa: ANN401
    scene.world.api.on("find_pod pod1", make_pod(), reading)
    scene.pod.on("tensorboard.py", ANSWER)
    scene.ends = [None]
    scene.show()
    assert told in scene.world.report.steps[-1]
    assert "inv fetch logs" in scene.world.report.steps[-1]
    assert not any("Reconnecting" in note for note in scene.world.report.notes)


def test_pod_out_of_reach_for_too_long_is_an_error(scene: Scene) -> None:
    scene.world.api.on("find_pod pod1", make_pod())
    scene.pod.on("tensorboard.py", ANSWER)
    scene.pod.connects = [None, *[BROKEN] * 200]
    scene.ends = [None]
    began = scene.world.clock.now()
    with pytest.raises(TransportError, match="has not answered on SSH for 300 s"):
        scene.show()
    assert scene.world.clock.now() - began == pytest.approx(RECONNECT_LIMIT_S, abs=10)


def test_tensorboard_that_does_not_start_is_an_error_with_its_words(scene: Scene) -> None:
    scene.world.api.on("find_pod pod1", make_pod())
    scene.pod.on("tensorboard.py", refusal("TensorBoard does not start.", detail="ImportError: x"))
    with pytest.raises(RemoteCommandError, match="ImportError: x") as caught:
        scene.show()
    assert caught.value.means == "A training on the pod is not touched."
    assert scene.urls == []


def test_program_that_ends_with_its_pod_is_no_error(scene: Scene) -> None:
    scene.world.api.on("find_pod pod1", make_pod(), STOPPED)
    scene.pod.on("tensorboard.py", refusal("TensorBoard does not start."))
    scene.show()
    assert "has stopped" in scene.world.report.steps[-1]


def test_page_that_never_answers_is_an_error_that_does_not_go_on_trying(scene: Scene) -> None:
    scene.world.api.on("find_pod pod1", make_pod())
    scene.pod.on("tensorboard.py", ANSWER)
    scene.page = False
    scene.ends = [None]
    with pytest.raises(TransportError, match="not through the tunnel"):
        scene.show()
    assert scene.urls == []


# What was fetched


def put_event_file(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "events.out.tfevents.1").touch()


@pytest.mark.parametrize(
    ("there", "config", "expected"),
    [
        (["logs/run", "logs/other"], CONFIG, "logs/run"),
        (["saved/checkpoints/run/runs/a"], CONFIG, "saved/checkpoints/run/runs"),
        (["logs/run-debug"], CONFIG, "logs"),
        (["logs/a", "checkpoints/b/runs"], None, "."),
        (["checkpoints/b/runs"], None, "checkpoints"),
        (["demo/lightning_logs/version_0"], None, "."),
    ],
)
def test_fetched_folder(tmp_path: Path, there: list[str], config: TrainingConfig | None, expected: str) -> None:
    for folder in there:
        put_event_file(tmp_path / "fetched" / folder)
    found = find_fetched(SETTINGS, ProjectFiles(tmp_path), config, FakeReporter(), is_named=False)
    assert found == tmp_path / "fetched" / expected


def test_nothing_fetched_is_an_error_that_says_how_to_fetch(tmp_path: Path) -> None:
    (tmp_path / "fetched/logs").mkdir(parents=True)
    (tmp_path / "fetched/logs/current.log").touch()
    with pytest.raises(PodtasksError, match=r"inv fetch logs brings it here \(with S3 keys that needs no pod\)"):
        find_fetched(SETTINGS, ProjectFiles(tmp_path), CONFIG, FakeReporter(), is_named=True)


def test_named_configuration_without_fetched_files_is_said(tmp_path: Path) -> None:
    put_event_file(tmp_path / "fetched/logs/other")
    report = FakeReporter()
    find_fetched(SETTINGS, ProjectFiles(tmp_path), CONFIG, report, is_named=True)
    assert "no event file of configs/run.yaml was fetched" in report.notes[0]


def test_browser_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "http://127.0.0.1:1/"
    monkeypatch.setattr(webbrowser, "open", {page: True}.__getitem__)
    assert open_page(page)
    monkeypatch.setattr(webbrowser, "open", {page: False}.__getitem__)
    assert not open_page(page)


def test_no_port_is_taken_where_there_is_nothing_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def claim(*_: object) -> None:
        raise AssertionError("a port was claimed")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    monkeypatch.setattr("podtasks.flows.board.claim_port", claim)
    with pytest.raises(Exit, match="no event file to show"):
        tensorboard(Context())
