"""The newest complete checkpoint, chosen without a pod by the pod's own check."""

from __future__ import annotations

import io
import json
import zipfile
from typing import cast

import pytest

from podtasks.doors.s3 import S3Volume
from podtasks.flows import checkpoint_choice
from podtasks.flows.checkpoint_choice import choose_by_s3
from tests.unit.fake_volume import FakeVolume

DIRECTORY = "checkpoints/run"


def make_safetensors(data_bytes: int, *, padding: int = 0) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [data_bytes], "data_offsets": [0, data_bytes]}}).encode()
    header += b" " * padding
    return len(header).to_bytes(8, "little") + header + bytes(data_bytes)


def make_checkpoint(directory: str, step: int, *, data_bytes: int = 64) -> dict[str, bytes]:
    folder = f"{directory}/checkpoint-{step}"
    return {
        f"{folder}/model.safetensors": make_safetensors(data_bytes),
        f"{folder}/trainer_state.json": json.dumps({"global_step": step}).encode(),
    }


class CountedVolume(FakeVolume):
    """A volume that counts the bytes that are read of it."""

    read_bytes = 0

    def read(self, place: str) -> bytes | None:
        data = super().read(place)
        self.read_bytes += len(data or b"")
        return data

    def read_range(self, place: str, first_byte: int, last_byte: int | None) -> bytes | None:
        data = super().read_range(place, first_byte, last_byte)
        self.read_bytes += len(data or b"")
        return data


def choose(volume: FakeVolume, pattern: str = "checkpoint-*") -> tuple[str | None, list[tuple[str, str]]]:
    choice = choose_by_s3(cast("S3Volume", volume), DIRECTORY, pattern)
    return choice.place, list(choice.skipped)


def test_the_highest_step_that_is_whole_is_chosen_and_newer_ones_are_named() -> None:
    volume = FakeVolume({**make_checkpoint(DIRECTORY, 200), **make_checkpoint(DIRECTORY, 1000)})
    assert choose(volume) == (f"{DIRECTORY}/checkpoint-1000", [])
    weights = f"{DIRECTORY}/checkpoint-1000/model.safetensors"
    volume.files[weights] = volume.files[weights][:-10]
    place, skipped = choose(volume)
    assert place == f"{DIRECTORY}/checkpoint-200"
    assert [name for name, _ in skipped] == [f"{DIRECTORY}/checkpoint-1000"]
    assert "is cut off" in skipped[0][1]


def test_a_checkpoint_without_its_state_is_cut_short_where_others_have_one() -> None:
    volume = FakeVolume({**make_checkpoint(DIRECTORY, 100), **make_checkpoint(DIRECTORY, 200)})
    del volume.files[f"{DIRECTORY}/checkpoint-200/trainer_state.json"]
    place, skipped = choose(volume)
    assert place == f"{DIRECTORY}/checkpoint-100"
    assert "trainer_state.json" in skipped[0][1]


def test_big_files_are_judged_by_their_beginning_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(4_000_000))
    volume = CountedVolume(make_checkpoint(DIRECTORY, 300, data_bytes=20_000_000))
    volume.files[f"{DIRECTORY}/checkpoint-300/optimizer.pt"] = packed.getvalue()
    assert choose(volume) == (f"{DIRECTORY}/checkpoint-300", [])
    assert volume.read_bytes < 8_000_000
    monkeypatch.setattr(checkpoint_choice, "BEGINNING_BYTES", 1000)
    long_header = make_safetensors(4_000_000, padding=50_000)
    volume.files[f"{DIRECTORY}/checkpoint-300/model.safetensors"] = long_header
    assert choose(volume) == (f"{DIRECTORY}/checkpoint-300", [])
    volume.files[f"{DIRECTORY}/checkpoint-300/model.safetensors"] = long_header[:-1]
    assert choose(volume)[0] is None


def test_checkpoints_that_are_files_are_chosen_by_step_then_by_time() -> None:
    good = make_safetensors(16)
    volume = FakeVolume({f"{DIRECTORY}/{name}.safetensors": good for name in ("step=5", "step=40", "last", "other")})
    assert choose(volume, "*.safetensors") == (f"{DIRECTORY}/step=40.safetensors", [])
    volume.files = {f"{DIRECTORY}/{name}.safetensors": good for name in ("last", "other")}
    volume.times = {f"{DIRECTORY}/last.safetensors": 2.0, f"{DIRECTORY}/other.safetensors": 1.0}
    assert choose(volume, "*.safetensors") == (f"{DIRECTORY}/last.safetensors", [])
    volume.times = {f"{DIRECTORY}/last.safetensors": 1.0, f"{DIRECTORY}/other.safetensors": 2.0}
    assert choose(volume, "*.safetensors") == (f"{DIRECTORY}/other.safetensors", [])


@pytest.mark.parametrize("pattern", ["version_*/checkpoints/*.safetensors", "**/*.safetensors"])
def test_a_pattern_may_go_through_several_folders(pattern: str) -> None:
    good = make_safetensors(16)
    names = ("version_0/checkpoints/step=5", "version_1/checkpoints/step=40", "version_1/checkpoints/step=9")
    volume = FakeVolume({f"{DIRECTORY}/{name}.safetensors": good for name in names})
    assert choose(volume, pattern) == (f"{DIRECTORY}/version_1/checkpoints/step=40.safetensors", [])
    assert len(checkpoint_choice.list_candidates(volume, DIRECTORY, pattern)) == 3


def test_there_may_be_none() -> None:
    assert choose(FakeVolume()) == (None, [])
    volume = FakeVolume({f"{DIRECTORY}/checkpoint-5/x.tmp": b"x", f"{DIRECTORY}/final_model/x": b"x"})
    place, skipped = choose(volume)
    assert place is None and [name for name, _ in skipped] == [f"{DIRECTORY}/checkpoint-5"]
