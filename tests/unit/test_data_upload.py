"""Sending data by the S3 API and over SSH: what is asked, what is sent, what is believed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest

from podtasks.doors.s3 import S3Volume
from podtasks.doors.upload_journal import UploadJournal
from podtasks.flows import data_upload
from podtasks.flows.data_upload import Source, Synced, find_extra, find_present, read_sources, sync_by_s3, sync_by_ssh
from podtasks.pure.data_plan import Entry
from podtasks.pure.errors import UsageError
from podtasks.pure.transfer import LocalFile, ProgressBar, Tally
from tests.unit.fake_volume import CountingBar, FakeVolume
from tests.unit.fakes import FakeReporter

COUNT = 50


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    folder = tmp_path / "audio"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"{number:02d}").write_bytes(b"x" * (number + 1))
    return folder


@pytest.fixture
def entry(audio: Path) -> Entry:
    return Entry("audio", audio, "data/audio")


def sync(volume: FakeVolume, entry: Entry, journal_path: Path, *, check: bool = False) -> Synced:
    bar = CountingBar()
    sources = read_sources([entry])
    with UploadJournal(journal_path) as journal:
        synced = sync_by_s3(sources, cast("S3Volume", volume), journal, bar, check=check)
    arrived = synced.arrived[0]
    assert (bar.files, bar.size_bytes) == (arrived.there_files, arrived.there_bytes)
    return synced


def test_an_empty_place_gets_all_files_with_nothing_asked(entry: Entry, tmp_path: Path) -> None:
    volume = FakeVolume({"data/other/x": b"1"})
    synced = sync(volume, entry, tmp_path / "journal")
    assert (synced.tally.sent_files, synced.arrived[0].there_files, synced.failures) == (COUNT, COUNT, [])
    assert {check.split()[0] for check in volume.checks} == {"nothing"}


def test_a_rerun_asks_for_a_sample_only(entry: Entry, tmp_path: Path) -> None:
    volume = FakeVolume()
    sync(volume, entry, tmp_path / "journal")
    volume.sent, volume.asked, volume.checks = [], [], []
    synced = sync(volume, entry, tmp_path / "journal")
    assert (synced.tally.sent_files, synced.tally.skipped_files, volume.checks) == (0, COUNT, [])
    assert len(volume.asked) in (20, 21)


def test_a_sample_that_is_not_there_makes_every_file_be_asked_for(entry: Entry, tmp_path: Path) -> None:
    volume = FakeVolume()
    sync(volume, entry, tmp_path / "journal")
    newest = max(entry.path.iterdir(), key=lambda path: path.stat().st_mtime_ns).name
    del volume.files[f"data/audio/{newest}"], volume.files["data/audio/07"]
    volume.sent = []
    synced = sync(volume, entry, tmp_path / "journal")
    assert sorted(volume.sent) == sorted({f"data/audio/{newest}", "data/audio/07"})
    assert synced.arrived[0].there_files == COUNT


def test_check_asks_for_every_file_and_its_content(entry: Entry, tmp_path: Path) -> None:
    volume = FakeVolume()
    sync(volume, entry, tmp_path / "journal")
    del volume.files["data/audio/07"]
    volume.checks = []
    sync(volume, entry, tmp_path / "journal", check=True)
    assert volume.checks == [f"content data/audio/{number:02d}" for number in range(COUNT)]
    assert "data/audio/07" in volume.files


def test_a_changed_file_is_sent_though_its_size_is_the_same(entry: Entry, tmp_path: Path) -> None:
    volume = FakeVolume()
    sync(volume, entry, tmp_path / "journal")
    (entry.path / "03").write_bytes(b"yyyy")
    os.utime(entry.path / "03", (1, 1))
    volume.sent = []
    sync(volume, entry, tmp_path / "journal")
    assert volume.sent == ["data/audio/03"]
    assert volume.files["data/audio/03"] == b"yyyy"


def test_files_that_came_another_way_are_asked_for_and_not_sent(entry: Entry, tmp_path: Path) -> None:
    volume = FakeVolume({f"data/audio/{number:02d}": b"z" * (number + 1) for number in range(10)})
    synced = sync(volume, entry, tmp_path / "journal")
    assert (synced.tally.skipped_files, synced.tally.sent_files) == (10, COUNT - 10)
    assert {check.split()[0] for check in volume.checks} == {"size"}


def test_an_interrupted_first_sync_does_not_ask_for_what_it_never_sent(entry: Entry, tmp_path: Path) -> None:
    volume = FakeVolume()
    volume.broken = {"data/audio/30": "no"}
    assert sync(volume, entry, tmp_path / "journal").failures == [(str(entry.path / "30"), "no")]
    volume.broken, volume.checks = {}, []
    sync(volume, entry, tmp_path / "journal")
    assert volume.checks == ["nothing data/audio/30"]
    (entry.path / "new").write_bytes(b"n")
    volume.checks = []
    sync(volume, entry, tmp_path / "journal")
    assert volume.checks == ["size data/audio/new"]


def test_a_big_file_is_asked_for_even_at_an_empty_place(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_upload, "ALWAYS_ASKED_BYTES", 40)
    volume = FakeVolume()
    sync(volume, entry, tmp_path / "journal")
    assert [check for check in volume.checks if check.startswith("size")] == [
        f"size data/audio/{number}" for number in range(40, COUNT)
    ]


class FakeSsh(FakeVolume):
    """A carrier over SSH: no journal, no switches; `loses` are files that it says it sent and did not."""

    name = "SSH"
    loses: tuple[str, ...] = ()

    def upload(
        self,
        files: Sequence[LocalFile],
        progress: ProgressBar,
        *,
        check: str = "nothing",
        on_arrival: Callable[[LocalFile], None] = lambda _: None,
    ) -> Tally:
        tally = super().upload(files, progress, check=check, on_arrival=on_arrival)
        for file in files:
            self.times[file.place] = file.modified_ns / 1e9
        for place in self.loses:
            self.files.pop(place, None)
        return tally


def test_over_ssh_only_what_the_pod_lists_otherwise_is_sent(entry: Entry) -> None:
    carrier, bar = FakeSsh(), CountingBar()
    sources = read_sources([entry])
    assert sync_by_ssh(sources, carrier, bar, check=False).tally.sent_files == COUNT
    carrier.sent = []
    (entry.path / "03").write_bytes(b"yyyy")
    os.utime(entry.path / "03", (1, 1))
    synced = sync_by_ssh(read_sources([entry]), carrier, CountingBar(), check=False)
    assert (carrier.sent, synced.tally.skipped_files) == (["data/audio/03"], COUNT - 1)
    carrier.sent = []
    sync_by_ssh(read_sources([entry]), carrier, CountingBar(), check=True)
    assert len(carrier.sent) == COUNT


def test_what_the_pod_does_not_count_has_failed(entry: Entry) -> None:
    carrier = FakeSsh()
    carrier.loses = ("data/audio/05",)
    synced = sync_by_ssh(read_sources([entry]), carrier, CountingBar(), check=False)
    assert synced.failures == [(str(entry.path / "05"), "the pod has it not, or with another size")]
    assert (synced.arrived[0].there_files, synced.tally.sent_files) == (COUNT - 1, COUNT)


def test_what_is_extra_lies_in_the_entrys_own_place(entry: Entry) -> None:
    here = {f"data/audio/{number:02d}": b"" for number in range(COUNT)}
    beside = {"data/audio": b"", "data/audio2": b"", "data/z": b""}
    volume = FakeVolume({**here, **beside, "data/audio/old": b"", "data/audio/d/x": b""})
    (source,) = read_sources([entry])
    assert [file.place for file in find_extra(source, volume)] == ["data/audio/d/x", "data/audio/old"]


def test_nothing_is_extra_where_not_all_could_be_read_or_a_file_is_meant(entry: Entry) -> None:
    volume = FakeVolume({"data/audio/old": b"", "data/audio/00/x": b""})
    (source,) = read_sources([entry])
    source.tree.failures.append(("shut", "no"))
    assert find_extra(source, volume) == []
    single = Source(Entry("00", entry.path / "00", "data/audio/00"), read_sources([entry])[0].tree)
    assert find_extra(single, volume) == []


def test_missing_paths_are_all_named_at_once(entry: Entry, tmp_path: Path) -> None:
    gone = [Entry(name, tmp_path / name, name) for name in ("gone", "away")]
    report = FakeReporter()
    with pytest.raises(UsageError, match="Not on this machine: gone, away"):
        find_present([entry, *gone], may_miss=False, report=report)
    assert find_present([entry, *gone], may_miss=True, report=report) == [entry]
    assert report.notes == ["not on this machine, and left out: gone, away"]
    with pytest.raises(UsageError, match="none of gone, away") as caught:
        find_present(gone, may_miss=True, report=report)
    assert "podtasks.data" in caught.value.next_step
