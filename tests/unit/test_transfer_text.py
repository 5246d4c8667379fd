"""What came of a transfer, in words; and what is refused before one begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.pure.errors import TransferError, UsageError
from podtasks.pure.transfer import Tally
from podtasks.pure.transfer_text import describe_tally, require_all_arrived
from podtasks.tasks.data import sync_data


def test_one_line_tells_what_was_copied_how_fast_and_what_was_there() -> None:
    tally = Tally(sent_files=2, sent_bytes=4000, skipped_files=1000)
    assert describe_tally("sent", tally, "there", 2.0) == "sent 2 files, 4 kB (2 kB/s); 1,000 were there already"
    assert "(0 B/s)" in describe_tally("sent", Tally(failures=[("a", "no")]), "there", 0.0)
    assert describe_tally("fetched", Tally(), "here", 0.0) == "nothing was fetched"
    one = Tally(sent_files=1, sent_bytes=5, skipped_files=1)
    assert describe_tally("fetched", one, "here", 1.0) == "fetched 1 file, 5 B (5 B/s); 1 was here already"


def test_where_nothing_was_missing_it_says_so() -> None:
    told = describe_tally("fetched", Tally(skipped_files=3), "here", 1.0)
    assert told == "nothing to fetch: all 3 files are here already"
    told = describe_tally("sent", Tally(skipped_files=1), "there", 1.0)
    assert told == "nothing to send: the one file is there already"
    failed = Tally(skipped_files=3, failures=[("a", "no")])
    assert describe_tally("sent", failed, "there", 1.0).startswith("sent 0 files")


def test_what_did_not_arrive_is_named_up_to_twenty() -> None:
    require_all_arrived([], 5)
    with pytest.raises(TransferError, match="25 failed, of 30 files") as caught:
        require_all_arrived([(f"f{number}", "no") for number in range(25)], 30)
    assert "\n  f19: no\n  and 5 more" in str(caught.value)
    assert "f20" not in str(caught.value)


def test_deletion_that_nobody_could_agree_to_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exit, match=r"nobody to ask(?s:.*)Nothing was sent or deleted") as caught:
        sync_data(Context(), delete=True)
    assert caught.value.code == UsageError.exit_code
    assert list(tmp_path.iterdir()) == []
