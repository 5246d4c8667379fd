"""What may be deleted from the volume, and what is told of it."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.pure.cleaning import CleaningPlan, Item, Wishes, plan_cleaning
from podtasks.pure.errors import UsageError
from podtasks.pure.pod import NetworkVolume
from podtasks.pure.storage import (
    Amount,
    Inventory,
    OutputDirectory,
    Search,
    StoredArchive,
    StoredCheckpoint,
    StoredLog,
    parse_inventory,
)
from podtasks.pure.storage_text import (
    Outcome,
    count_things,
    describe_kept,
    describe_total,
    inventory_json,
    list_rows,
    outcome_json,
)
from podtasks.tasks.storage import storage

OUT = "checkpoints/digits"
SEARCH = Search(("checkpoints",), (OUT,), "checkpoint-*", ".cache/huggingface")
CUT = "has no trainer_state.json: its save was cut short"
EVERYTHING = Wishes(old_checkpoints=True, archives=True, hf_cache=True, logs=True)


def checkpoint(step: int, why: str | None = None, keep: str | None = None) -> StoredCheckpoint:
    """Return a checkpoint of the directory."""
    return StoredCheckpoint(f"{OUT}/checkpoint-{step}", step, why, keep)


def make_inventory(*checkpoints: StoredCheckpoint, archives: tuple[StoredArchive, ...] = ()) -> Inventory:
    """Return a volume with one output directory; each checkpoint and archive has 2 files and 100 bytes."""
    is_complete = any(each.why is None for each in checkpoints)
    directory = OutputDirectory(OUT, checkpoints, is_complete, archives)
    places = [each.place for each in checkpoints] + [each.place for each in archives]
    tree = {place: Amount(2, 100) for place in places}
    return Inventory(Amount(40, 4000), 1.0, tree, (directory,), logs=(), leftovers=())


def planned(inventory: Inventory, wishes: Wishes = EVERYTHING) -> list[str]:
    """Return the last parts of the places that would go."""
    return [item.place.rsplit("/", 1)[-1] for item in plan_cleaning(inventory, wishes, SEARCH).items]


@pytest.mark.parametrize(
    ("checkpoints", "keep", "goes"),
    [
        ((), 1, []),
        ((checkpoint(3),), 1, []),
        ((checkpoint(3), checkpoint(2), checkpoint(1)), 1, ["checkpoint-2", "checkpoint-1"]),
        ((checkpoint(3), checkpoint(2), checkpoint(1)), 2, ["checkpoint-1"]),
        ((checkpoint(3), checkpoint(2), checkpoint(1)), 9, []),
        ((checkpoint(3, CUT), checkpoint(2), checkpoint(1)), 1, ["checkpoint-1"]),
        ((checkpoint(3), checkpoint(2, CUT), checkpoint(1)), 2, ["checkpoint-2"]),
        ((checkpoint(3, CUT), checkpoint(2, CUT)), 1, []),
        ((checkpoint(3), checkpoint(2, keep="it is the best one so far"), checkpoint(1)), 1, ["checkpoint-1"]),
    ],
)
def test_old_checkpoints_go_and_the_newest_complete_one_stays(
    checkpoints: tuple[StoredCheckpoint, ...], keep: int, goes: list[str]
) -> None:
    assert planned(make_inventory(*checkpoints), Wishes(old_checkpoints=True, keep=keep)) == goes


def test_newest_complete_checkpoint_is_in_no_plan_whatever_else_there_is() -> None:
    states = (None, CUT)
    for whys in itertools.product(states, repeat=4):
        checkpoints = [checkpoint(4 - n, why) for n, why in enumerate(whys)]
        newest = next((each.place for each in checkpoints if each.why is None), None)
        for keep in (1, 2, 3):
            wishes = replace(EVERYTHING, keep=keep)
            places = {item.place for item in plan_cleaning(make_inventory(*checkpoints), wishes, SEARCH).items}
            assert newest not in places
            assert newest or not places, "without a complete one nothing goes"


def test_what_stays_is_told_with_the_reason() -> None:
    inventory = make_inventory(checkpoint(4, CUT), checkpoint(3), checkpoint(2), checkpoint(1, keep="it is a link"))
    plan = plan_cleaning(inventory, Wishes(old_checkpoints=True, keep=2), SEARCH)
    assert dict(plan.kept) == {
        f"{OUT}/checkpoint-4": f"no newer one is complete; it {CUT}",
        f"{OUT}/checkpoint-3": "the newest complete one",
        f"{OUT}/checkpoint-2": "among the newest 2",
        f"{OUT}/checkpoint-1": "it is a link",
    }


ARCHIVES = tuple(StoredArchive(f"{OUT}.archive-2026112{day}-000000", is_complete=day != 3) for day in (1, 2, 3))


def test_archives_go_but_not_the_one_with_the_only_complete_checkpoint() -> None:
    assert planned(make_inventory(checkpoint(1), archives=ARCHIVES), Wishes(archives=True)) == [
        archive.place.rsplit("/", 1)[-1] for archive in ARCHIVES
    ]
    without = make_inventory(checkpoint(1, CUT), archives=ARCHIVES)
    assert planned(without, Wishes(archives=True)) == [
        "digits.archive-20261121-000000",
        "digits.archive-20261123-000000",
    ]
    used = (replace(ARCHIVES[0], is_in_use=True),)
    assert planned(make_inventory(checkpoint(1), archives=used), Wishes(archives=True)) == []


def test_cache_goes_unless_a_run_goes_on_and_the_token_never() -> None:
    tree = {f".cache/huggingface/{name}": Amount(1, 7) for name in ("hub", "xet", "token", "accelerate")}
    inventory = replace(make_inventory(), tree=tree)
    assert planned(inventory, Wishes(hf_cache=True)) == ["hub", "xet"]
    assert planned(replace(inventory, live_run="digits-1"), Wishes(hf_cache=True)) == []
    elsewhere = replace(SEARCH, hf_home=None)
    assert plan_cleaning(inventory, Wishes(hf_cache=True), elsewhere).items == ()


def test_logs_of_the_newest_20_runs_stay() -> None:
    logs = [StoredLog(f"runs/{n}/output.log", 5) for n in range(25)]
    logs[22] = replace(logs[22], keep="its run goes on")
    part = StoredLog("logs/current.log.1", 9, is_part=True)
    plan = plan_cleaning(replace(make_inventory(), logs=(*logs, part)), Wishes(logs=True), SEARCH)
    assert [item.place for item in plan.items] == [
        *(f"runs/{n}/output.log" for n in (20, 21, 23, 24)),
        "logs/current.log.1",
    ]


def test_leftovers_of_a_clean_go_with_any_and_once() -> None:
    archive = ARCHIVES[0]
    inside, beside = f"{archive.place}/.deleting-checkpoint-1", f"{OUT}/.deleting-checkpoint-1"
    inventory = replace(make_inventory(checkpoint(1), archives=(archive,)), leftovers=(inside, beside))
    places = [item.place for item in plan_cleaning(inventory, Wishes(archives=True), SEARCH).items]
    assert places == [archive.place, beside]


def test_interrupted_uploads_go_with_any_and_are_called_so() -> None:
    inventory = replace(make_inventory(checkpoint(1)), leftovers=("data/.rsync-partial",))
    (item,) = plan_cleaning(inventory, Wishes(logs=True), SEARCH).items
    assert (item.kind, item.place, item.why) == ("leftover", "data/.rsync-partial", "interrupted uploads")


def test_nothing_is_planned_for_no_wish() -> None:
    inventory = make_inventory(checkpoint(2), checkpoint(1), archives=ARCHIVES)
    assert planned(inventory, Wishes()) == []


ANSWER: dict[str, Any] = {
    "used_bytes": 5000,
    "files": 12,
    "measured_at": 7.5,
    "tree": {"checkpoints": [6, 600], OUT: [6, 600], f"{OUT}/checkpoint-2": [2, 200], f"{OUT}/final_model": [1, 9],
             "demo": [3, 4000], ".cache": [1, 50], ".cache/uv": [1, 50]},
    "directories": [
        {
            "path": OUT,
            "checkpoints": [{"path": f"{OUT}/checkpoint-2", "step": 2, "why": None, "keep": None}],
            "is_complete": True,
            "archives": [],
        }
    ],
    "logs": [{"path": "runs/a/output.log", "size_bytes": 3, "keep": None, "is_part": False}],
    "leftovers": [],
    "live": "digits-1",
    "is_preparing": False,
    "unreadable": ["data: Permission denied"],
}  # fmt: skip


def test_listing_shows_the_largest_first_and_what_each_folder_is() -> None:
    rows = [(row.place, row.amount.files, row.note) for row in list_rows(parse_inventory(ANSWER), SEARCH, "demo")]
    assert rows == [
        ("demo/", 3, "the clone"),
        ("checkpoints/", 6, "checkpoints"),
        (f"{OUT}/", 6, "output directory"),
        (f"{OUT}/checkpoint-2/", 2, "newest complete"),
        (f"{OUT}/final_model/", 1, "final model"),
        (".cache/", 1, "caches"),
        (".cache/uv/", 1, "package cache"),
        ("(files at the top)", 2, ""),
    ]


@pytest.mark.parametrize(("size_gb", "usd"), [(100, "$7.00"), (1000, "$70.00"), (2000, "$120.00")])
def test_price_is_of_the_size_and_not_of_the_use(size_gb: int, usd: str) -> None:
    inventory = parse_inventory(ANSWER)
    lines = describe_total(inventory, NetworkVolume("vol1", "data", size_gb, "EU-RO-1"))
    assert lines == [
        f"total: 5 kB in 12 files, under 1% of {size_gb} GB",
        f"network volume vol1 in EU-RO-1: {usd} a month, billed by its size, not by what lies on it",
    ]
    assert describe_total(inventory, None) == ["total: 5 kB in 12 files"]


def test_json_of_the_listing_has_what_the_documentation_says() -> None:
    inventory = parse_inventory(ANSWER)
    told = inventory_json(inventory, NetworkVolume("vol1", "data", 100, "EU-RO-1"), [])
    assert told["volume"] == {"id": "vol1", "size_gb": 100, "data_center": "EU-RO-1", "usd_per_month": 7.0}
    assert (told["used_bytes"], told["files"], told["live_run"]) == (5000, 12, "digits-1")
    assert told["output_directories"][0]["checkpoints"] == [
        {"path": f"{OUT}/checkpoint-2", "step": 2, "is_complete": True, "why": None, "size_bytes": 200}
    ]
    assert told["unreadable"] == ["data: Permission denied"]


def test_json_of_a_clean_counts_only_what_is_gone() -> None:
    plan = plan_cleaning(make_inventory(checkpoint(3), checkpoint(2), checkpoint(1)), EVERYTHING, SEARCH)
    assert all(isinstance(item, Item) for item in plan.items)
    two, one = f"{OUT}/checkpoint-2", f"{OUT}/checkpoint-1"
    told = outcome_json(plan, Outcome((two,), (), ((one, "Operation not permitted"),)), 3900)
    assert told["freed_bytes"] == 100 and told["used_bytes"] == 3900
    assert told["deleted"] == [two]
    assert told["failed"] == [{"path": one, "why": "Operation not permitted"}]
    assert told["plan"][0] == {
        "kind": "checkpoint",
        "path": two,
        "files": 2,
        "size_bytes": 100,
        "why": "older than step 3, which is complete",
    }


@pytest.mark.parametrize(
    ("words", "flags", "says"),
    [
        (["wipe"], {}, "does not know 'wipe'"),
        (["list", "clean"], {}, "does not know 'list clean'"),
        ([], {"old_checkpoints": "x"}, "--old-checkpoints belongs to inv storage clean"),
        (["list"], {"logs": "x", "archives": "x"}, "--archives, --logs belongs"),
        ([], {"yes": "x"}, "--yes or --dry-run belongs"),
        ([], {"keep": "2"}, "--keep belongs"),
        (["clean"], {"keep": "0"}, "--keep 0 is not a whole number of at least 1"),
        (["clean"], {"keep": "-1"}, "--keep -1 is not"),
        (["clean"], {"keep": "two"}, "--keep two is not"),
        (["clean"], {"keep": "\u0662"}, "is not a whole number"),
        (["clean"], {"via": "ftp"}, "--via ftp"),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(words: list[str], flags: dict[str, str], says: str) -> None:
    with pytest.raises(Exit, match=re.escape(says)) as caught:
        storage(Context(), action=words, **flags)
    assert caught.value.code == UsageError.exit_code


def test_what_stays_for_the_same_reason_is_told_once_for_each_directory() -> None:
    odd = "it does not look like a checkpoint"
    kept = [(f"checkpoints/{name}/checkpoint-{n}", odd) for name in ("a", "b") for n in range(1, 32)]
    assert list(describe_kept(CleaningPlan((), (*kept, ("checkpoints/a/checkpoint-99", "it is a link"))))) == [
        f"31 in checkpoints/a stay: {odd}",
        f"31 in checkpoints/b stay: {odd}",
        "stays: checkpoints/a/checkpoint-99: it is a link",
    ]


def test_one_thing_is_no_things() -> None:
    assert (count_things(1), count_things(2000)) == ("1 thing", "2,000 things")
