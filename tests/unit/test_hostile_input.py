"""Names and texts that come from the API, from git and from the pod: what they may not do here."""

from __future__ import annotations

import ast
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from podtasks.doors import tables
from podtasks.doors.console import Console, printable, write_result
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import run_copies
from podtasks.flows.fetch_parts import plan_parts
from podtasks.pure.errors import ApiError, RemoteCommandError
from podtasks.pure.run import parse_run
from podtasks.pure.secret import Secret
from podtasks.pure.transfer import VolumeFile
from podtasks.tasks.entry import _error_text
from podtasks.tasks.results import write_json, write_text

PACKAGE = Path(__file__).parents[2] / "podtasks"
# Title of the window, colours, a link, cursor, C1, bidirectional letters, bell, a lone surrogate.
HOSTILE = "\x1b]0;owned\x07 \x1b[31mred\x1b[0m \x1b]8;;http://x\x1b\\ \x9b2J \u202eevil \r\x08 \x7f \udc80 \u2028"
STEERING = ("\x1b", "\x07", "\x9b", "\u202e", "\r", "\x08", "\x7f", "\udc80", "\u2028")
# What may write to standard output or standard error by itself; all else goes through doors/console.
WRITERS = {
    "__init__.py",  # a constant, before anything is imported
    "doors/console.py",
    "doors/progress.py",  # numbers and constant titles
    "tasks/completion.py",  # candidates, to the shell
    "tasks/help_text.py",  # the tasks' own help
    "pure/settings_reference.py",  # docs/settings.md
}


def tell(text: str) -> None:
    Console().tell(text)


WAYS: dict[str, Callable[[str], object]] = {
    "step": lambda text: Console().step(text),
    "note": lambda text: Console().note(text),
    "tell": tell,
    "result": write_result,
    "text": write_text,
    "table": lambda text: tables.write_table([tables.Column("name")], [[text]]),
    "bars": lambda text: tables.write_bars([(text, 1.0, text)]),
    "lines": lambda text: tables.write_lines([text]),
    "json": lambda text: write_json({"name": text, text: [text]}),
    "error": lambda text: sys.stderr.write(_error_text(ApiError(f"pod {text}", means=text, next_step=text))),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_to_the_terminal_lets_control_characters_through(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    WAYS[way](f"name {HOSTILE} end")
    shown = "".join(capsys.readouterr())
    assert "owned" in shown
    assert not [letter for letter in STEERING if letter in shown]


def test_a_question_is_shown_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    heard = Terminal()
    monkeypatch.setattr(sys, "stderr", heard)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert Console().confirm(f"Delete {HOSTILE}?", default=False)
    assert "owned" in heard.getvalue()
    assert not [letter for letter in STEERING if letter in heard.getvalue()]


def test_json_keeps_what_it_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    text = HOSTILE.replace("\x7f", "")
    write_json({"name": text})
    assert json.loads(capsys.readouterr().out) == {"name": text}


def test_letters_of_all_languages_stay() -> None:
    text = "\u00fc \u4e2d\u6587 \U0001f600 \u0627\u0644 tab\tline\nend"
    assert printable(text) == text


def test_everything_that_is_printed_goes_through_the_console() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("emulator/"):
            found |= {name for node in ast.walk(ast.parse(path.read_text())) if _writes(node)}
    assert found == WRITERS


def _writes(node: ast.AST) -> bool:
    """Return whether this is print(...), or a call of sys.stdout's or sys.stderr's write."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id == "print"
    return isinstance(node.func, ast.Attribute) and node.func.attr == "write" and "sys.std" in ast.unparse(node.func)


# Secrets that others quote


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_somebody_quotes_back_is_not_shown(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = Secret("rpa_Quoted5501Back")
    WAYS[way](f"Authorization: Bearer {key.reveal()} is not valid")
    shown = "".join(capsys.readouterr())
    assert "Quoted5501" not in shown
    assert "[secret]" in shown


def test_a_secret_of_a_few_letters_hides_no_words() -> None:
    Secret("pod")
    Secret("")
    assert printable("a pod runs") == "a pod runs"


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    Secret("begin-8831")
    Secret("begin-8831-and-more")
    assert printable("x begin-8831-and-more y") == "x [secret] y"


# Paths

IDS = ["../../evil", "/etc/x", "..", ".", "", "a/b", "x\ny", "x\x1b[31m", "n" * 300, None, 7]
RECORD = {"run_id": "r-1", "run_dir": "/w/runs/r-1", "log": "/w/l", "log_start": 0, "when_done": "stop",
          "output_dir": "/w/o"}  # fmt: skip


@pytest.mark.parametrize("run_id", IDS[:-1])
def test_a_run_whose_id_is_no_plain_name_is_refused(run_id: str | None) -> None:
    if run_id is None:
        with pytest.raises(RemoteCommandError, match="makes no sense"):
            parse_run({})
        return
    with pytest.raises(RemoteCommandError, match="makes no sense") as refused:
        parse_run({**RECORD, "run_id": run_id})
    assert printable(refused.value.what) == refused.value.what


@pytest.mark.parametrize("field", [name for name in RECORD if name != "run_id"])
def test_a_record_that_lacks_something_is_our_error(field: str) -> None:
    with pytest.raises(RemoteCommandError, match="makes no sense"):
        parse_run({name: value for name, value in RECORD.items() if name != field})


@pytest.mark.parametrize("more", [{"log_start": None}, {"log_start": "x"}, {"checkpoint": "x"}, {"checkpoint": [1]}])
def test_a_record_with_the_wrong_kind_of_thing_is_our_error(more: dict[str, object]) -> None:
    with pytest.raises(RemoteCommandError, match="makes no sense"):
        parse_run({**RECORD, **more})


@pytest.mark.parametrize("run_id", ["../../evil", "..", "a/b", "/abs", ""])
def test_no_run_gets_a_folder_outside_of_those_of_runs(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ValueError, match="cannot be a run's id"):
        ProjectFiles(tmp_path).run_folder(run_id)
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("newest", ["../../outside", "..", "/etc", "a/b"])
def test_the_volumes_note_of_its_newest_run_leads_nowhere_else(tmp_path: Path, newest: str) -> None:
    volume = tmp_path / "cloud/volume"
    (volume / "runs").mkdir(parents=True)
    outside = tmp_path / "cloud/outside"
    outside.mkdir()
    (outside / "run.json").write_text('{"run_id": "x", "exit_code": 0}')
    (outside / "output.log").write_text("private")
    (volume / "runs/newest").write_text(newest)
    assert run_copies.find(ProjectFiles(tmp_path), None, volume) is None


def test_a_link_here_does_not_lead_what_is_fetched_out_of_its_folder(tmp_path: Path) -> None:
    target, outside = tmp_path / "fetched", tmp_path / "outside"
    (target / "real").mkdir(parents=True)
    outside.mkdir()
    (target / "out").symlink_to(outside)
    (target / "up").symlink_to("..")
    (target / "in").symlink_to("real")
    places = ["out/x", "up/x", "out/a/b", "in/x", "real/x", "x", "new/x"]
    files = [VolumeFile(place, 1, 0.0) for place in places]
    [part] = plan_parts([("data", files)], target, overwrite=False)
    assert [file.place for file in part.plan.refused] == ["out/x", "up/x", "out/a/b"]
    assert [file.place for file in part.plan.wanted] == ["in/x", "real/x", "x", "new/x"]


def test_a_target_that_is_a_link_itself_is_taken(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "fetched").symlink_to("disk")
    [part] = plan_parts([("data", [VolumeFile("a/b", 1, 0.0)])], tmp_path / "fetched", overwrite=False)
    assert part.plan.refused == ()


@pytest.mark.parametrize("place", ["../x", "/etc/x", "a/../../x", "a//x", "./x", "", "a/\0"])
def test_no_name_on_the_volume_leads_out(tmp_path: Path, place: str) -> None:
    [part] = plan_parts([("data", [VolumeFile(place, 1, 0.0)])], tmp_path, overwrite=True)
    assert [file.place for file in part.plan.refused] == [place]
