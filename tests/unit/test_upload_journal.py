"""The memory of uploads: what survives, and what is forgotten."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from podtasks.doors.upload_journal import UploadJournal
from podtasks.pure.transfer import LocalFile


def file(place: str, size_bytes: int = 1, modified_ns: int = 2) -> LocalFile:
    return LocalFile(Path("x"), place, size_bytes, modified_ns)


def test_what_was_added_is_known_the_next_time_and_what_was_forgotten_is_not(tmp_path: Path) -> None:
    path = tmp_path / "uploads/vol1.sqlite"
    with UploadJournal(path) as journal:
        journal.add(file("a"))
        journal.add(file("b", 10**12, 1_700_000_000_123_456_789))
        journal.add(file("two\nlines 'ü'"))
        journal.forget(["a"])
        journal.begin("data")
    with UploadJournal(path) as journal:
        assert journal.read_confirmed() == {"b": (10**12, 1_700_000_000_123_456_789), "two\nlines 'ü'": (1, 2)}
        assert journal.has_begun("data")
        journal.finish("data")
        assert not journal.has_begun("data")


def test_a_killed_command_leaves_what_was_written(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from podtasks.doors.upload_journal import FLUSH_FILES, UploadJournal\n"
        "from podtasks.pure.transfer import LocalFile\n"
        "journal = UploadJournal(Path(sys.argv[1]))\n"
        "for n in range(FLUSH_FILES * 2 + 1): journal.add(LocalFile(Path('x'), str(n), 1, 1))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "vol1.sqlite"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with UploadJournal(path) as journal:
        assert len(journal.read_confirmed()) >= 400


def test_a_broken_journal_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "vol1.sqlite"
    path.write_bytes(b"no database" * 1000)
    with UploadJournal(path) as journal:
        assert journal.read_confirmed() == {}
        journal.add(file("a"))
    with UploadJournal(path) as journal:
        assert journal.read_confirmed() == {"a": (1, 2)}
