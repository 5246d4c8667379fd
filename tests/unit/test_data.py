"""`inv sync-data`: which way, what is asked before anything is rented or deleted, and what is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.doors.upload_journal import UploadJournal
from podtasks.flows import data, transfer_way
from podtasks.flows.data import DataSync, SyncRequest
from podtasks.flows.transfer_way import SshRoute, SshWay
from podtasks.pure.data_plan import Entry
from podtasks.pure.errors import UsageError
from podtasks.pure.settings import Settings
from podtasks.pure.transfer import LocalFile
from tests.unit.fake_volume import FakeVolume
from tests.unit.fakes import FakeClock, FakeReporter, StrictApi, make_cloud


@dataclass
class Setting:
    """A project with one folder to send, and what it was asked."""

    folder: Path
    report: FakeReporter = field(default_factory=FakeReporter)
    questions: list[str] = field(default_factory=list)
    answer: bool = True
    consents: int = 0

    def sync(self, **request: Any) -> DataSync:  # noqa: ANN401
        entry = Entry("audio", self.folder / "audio", "data/audio")
        return DataSync(
            SyncRequest([entry], **{"via": "auto", **request}),
            make_cloud(StrictApi(), self.folder),
            Settings(),
            ProjectFiles(self.folder),
            self.report,
            FakeClock(),
            self._consent,
            self._confirm,
        )

    def _consent(self) -> None:
        self.consents += 1

    def _confirm(self, question: str) -> bool:
        self.questions.append(question)
        return self.answer


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/a").write_bytes(b"1")
    return Setting(tmp_path)


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> FakeVolume:
    volume = FakeVolume({"data/audio/a": b"1", "data/audio/old": b"22", "data/other": b"3"})
    monkeypatch.setattr(data, "choose_s3", lambda *_: volume)
    return volume


def test_the_first_line_says_that_nothing_is_billed(setting: Setting, volume: FakeVolume) -> None:
    synced = setting.sync().run()
    assert setting.report.steps[0] == "by the S3 API: no pod, nothing billed"
    assert (synced.arrived[0].there_files, synced.arrived[0].there_bytes) == (1, 1)
    assert (volume.deleted, setting.questions, setting.consents) == ([], [], 0)


def test_deleting_shows_the_list_and_asks(setting: Setting, volume: FakeVolume) -> None:
    setting.sync(delete=True).run()
    assert setting.questions == ["Delete this file on the volume?"]
    assert "1 file (2 B) on the volume, not in audio:" in setting.report.steps
    assert "data/audio/old" in setting.report.notes
    assert volume.deleted == ["data/audio/old"]


def test_no_means_that_nothing_is_deleted(setting: Setting, volume: FakeVolume) -> None:
    setting.answer = False
    setting.sync(delete=True).run()
    assert volume.deleted == []
    assert setting.report.notes[-1] == "1 file more than in audio on the volume, kept"


def test_yes_deletes_without_asking(setting: Setting, volume: FakeVolume) -> None:
    setting.sync(delete=True, yes=True).run()
    assert (volume.deleted, setting.questions) == (["data/audio/old"], [])


def test_an_empty_folder_here_empties_none_there(setting: Setting, volume: FakeVolume) -> None:
    (setting.folder / "audio/a").unlink()
    setting.sync(delete=True).run()
    assert (volume.deleted, setting.questions) == ([], [])
    assert any("audio is empty here" in note for note in setting.report.notes)
    setting.sync(delete=True, yes=True).run()
    assert volume.deleted == ["data/audio/a", "data/audio/old"]


def test_a_folder_that_could_not_all_be_read_deletes_nothing(setting: Setting, volume: FakeVolume) -> None:
    (setting.folder / "audio/dangling").symlink_to("nowhere")
    synced = setting.sync(delete=True, yes=True).run()
    assert volume.deleted == []
    assert [why for _, why in synced.failures] == ["it is a link to nothing"]


@pytest.mark.usefixtures("volume")
def test_what_was_deleted_is_not_believed_to_be_there_any_more(setting: Setting) -> None:
    (setting.folder / "audio/old").write_bytes(b"22")
    setting.sync().run()
    (setting.folder / "audio/old").unlink()
    setting.sync(delete=True, yes=True).run()
    with UploadJournal(setting.folder / ".podtasks/uploads/vol1.sqlite") as journal:
        assert list(journal.read_confirmed()) == ["data/audio/a"]


def test_ctrl_c_at_a_later_question_leaves_no_belief_in_what_was_deleted_before(
    setting: Setting, volume: FakeVolume
) -> None:
    (setting.folder / "audio/old").write_bytes(b"22")
    setting.sync().run()
    (setting.folder / "audio/old").unlink()

    def delete_and_die(places: Iterable[str]) -> list[tuple[str, str]]:
        for place in places:
            del volume.files[place]
        raise KeyboardInterrupt

    volume.delete = delete_and_die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        setting.sync(delete=True, yes=True).run()
    with UploadJournal(setting.folder / ".podtasks/uploads/vol1.sqlite") as journal:
        assert list(journal.read_confirmed()) == ["data/audio/a"]


def test_what_is_changed_over_ssh_is_not_believed_to_be_there_by_s3(
    setting: Setting, carrier: FakeVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = setting.folder / ".podtasks/uploads/vol1.sqlite"
    with UploadJournal(path) as journal:
        journal.add(LocalFile(setting.folder / "audio/a", "data/audio/a", 1, 1))
    monkeypatch.setattr(data, "find_ssh_way", lambda *_: SshWay("over SSH", makes_pod=True, rents=False))
    setting.sync(via="ssh").run()
    assert carrier.sent == ["data/audio/a"]
    with UploadJournal(path) as journal:
        assert journal.read_confirmed() == {}


def test_a_preview_changes_nothing(setting: Setting, volume: FakeVolume) -> None:
    before = dict(volume.files)
    (expected,) = setting.sync(delete=True).preview()
    assert (expected.confirmed_files, [file.place for file in expected.extra or ()]) == (0, ["data/audio/old"])
    assert (volume.files, volume.sent, setting.questions) == (before, [], [])
    setting.sync().run()
    assert setting.sync().preview()[0].confirmed_files == 1


def test_ctrl_c_says_how_far_it_got(setting: Setting, volume: FakeVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object, progress: Any, **more: object) -> None:  # noqa: ANN401
        assert more
        progress.add(files=1)
        raise KeyboardInterrupt

    monkeypatch.setattr(volume, "upload", interrupt)
    with pytest.raises(KeyboardInterrupt):
        setting.sync().run()
    assert setting.report.notes == ["on the volume: 1 of 1 file; the same command goes on from there"]


@pytest.fixture
def carrier(monkeypatch: pytest.MonkeyPatch) -> FakeVolume:
    carrier = FakeVolume()

    @contextmanager
    def open_route(way: SshWay, *_: object) -> Iterator[SshRoute]:
        assert way.makes_pod, "no pod is made but the one that was told of"
        yield SshRoute(carrier, None)  # type: ignore[arg-type]

    monkeypatch.setattr(data, "choose_s3", lambda *_: None)
    monkeypatch.setattr(data, "open_ssh_route", open_route)
    return carrier


@pytest.mark.parametrize("rents", [True, False])
def test_over_ssh_the_price_is_told_and_agreed_to_before_a_pod_is_rented(
    setting: Setting, carrier: FakeVolume, monkeypatch: pytest.MonkeyPatch, rents: bool
) -> None:
    way = SshWay("over SSH to a CPU pod at $0.08/h", makes_pod=True, rents=rents)
    monkeypatch.setattr(data, "find_ssh_way", lambda *_: way)
    setting.sync(via="ssh").run()
    assert (setting.report.steps[0], setting.consents) == (way.text, int(rents))
    assert carrier.sent == ["data/audio/a"]
    (expected,) = setting.sync(via="ssh", delete=True).preview()
    assert (expected.confirmed_files, expected.extra) == (None, None), "only a pod could tell"
    assert setting.consents == int(rents)


def test_a_preview_over_ssh_lists_what_would_go_where_a_pod_runs_already(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def open_route(*_: object) -> Iterator[SshRoute]:
        yield SshRoute(FakeVolume({"data/audio/a": b"1", "data/audio/old": b"22"}), None)  # type: ignore[arg-type]

    monkeypatch.setattr(data, "choose_s3", lambda *_: None)
    monkeypatch.setattr(data, "open_ssh_route", open_route)
    monkeypatch.setattr(data, "find_ssh_way", lambda *_: SshWay("over SSH", makes_pod=False, rents=False))
    (expected,) = setting.sync(via="ssh", delete=True).preview()
    assert [file.place for file in expected.extra or ()] == ["data/audio/old"]


def test_the_s3_way_is_taken_where_there_is_one(tmp_path: Path) -> None:
    cloud = make_cloud(StrictApi(), tmp_path)
    assert transfer_way.choose_s3("auto", cloud) is None
    with pytest.raises(UsageError, match="there are no S3 keys"):
        transfer_way.choose_s3("s3", cloud)
    with pytest.raises(UsageError, match=r"did you mean ssh\?\n"):
        transfer_way.require_via("shh")
