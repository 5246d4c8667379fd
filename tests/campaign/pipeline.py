"""The training pipeline of the campaign: deterministic, some seconds long, and with a journal of its own.

It is copied into each world's repository as scripts/train.py, and knows nothing of podtasks. Its weights are a chain
of hashes, so that a lost or repeated step shows in the last one. Each line that it prints carries the process's mark
and a number. The journal is a file made by the world, written in place, so that a full volume does not silence it: it
says which lines this process was about to print, and which of them the log had taken.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import struct
import sys
import time

STEPS = 12
SAVE_STEPS = 3
STEP_S = 0.2
REGION_BYTES = 8192
REGIONS = 64
ABOUT, TAKEN = "about", "taken"


class Journal:
    """What one training process has printed; each process has a region of the file."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_RDWR)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        regions = range(0, os.fstat(self.file).st_size, REGION_BYTES)
        self.place = next(place for place in regions if os.pread(self.file, 1, place) == b"\0")
        self.mark = f"{os.getpid():x}-{os.urandom(3).hex()}"
        self.write("begun")
        fcntl.flock(self.file, fcntl.LOCK_UN)

    def write(self, word: str, number: int = 0) -> None:
        """Write one record."""
        data = f"{self.mark} {word} {number}\n".encode()
        os.pwrite(self.file, data, self.place)
        self.place += len(data)


class Voice:
    """Prints lines, each once, and keeps the journal of it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.number = 0

    def say(self, text: str) -> None:
        """Print a line; whatever the log does not take ends the training, as an error of print() would."""
        self.number += 1
        self.journal.write(ABOUT, self.number)
        rest = f"<{self.journal.mark} {self.number}> {text}\n".encode()
        while rest:
            rest = rest[os.write(1, rest) :]
        self.journal.write(TAKEN, self.number)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--resume")
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    require_token(config)
    voice = Voice(Journal(os.environ["CAMPAIGN_JOURNAL"]))
    step, weights = load(arguments.resume) if arguments.resume else (0, first_weights())
    voice.say(f"training from step {step} of {config['steps']}")
    while step < int(config["steps"]):
        time.sleep(float(config["step_s"]))
        step += 1
        weights = next_weights(weights, step)
        os.write(2, f"\rprogress {step}".encode() + b"\n" * (step % 4 == 0))
        voice.say(f"step {step} {weights[:8]}")
        if step % int(config["save_steps"]) == 0:
            save(os.path.join(config["output_dir"], f"checkpoint-{step}"), step, weights)
    save(os.path.join(config["output_dir"], "final_model"), step, weights)
    voice.say("trained")
    return 0


def require_token(config: dict[str, str]) -> None:
    """End the training unless it has been given the secret that it was promised."""
    if hashlib.sha256(os.environ.get("HF_TOKEN", "").encode()).hexdigest() != config["token_sha256"]:
        raise SystemExit("HF_TOKEN is not what it should be")


def first_weights() -> str:
    return hashlib.sha256(b"start").hexdigest()


def next_weights(weights: str, step: int) -> str:
    return hashlib.sha256(f"{weights}{step}".encode()).hexdigest()


def read_config(path: str) -> dict[str, str]:
    with open(path, encoding="utf-8") as file:
        return dict(line.strip().split(": ", 1) for line in file if ": " in line)


def load(folder: str) -> tuple[int, str]:
    with open(os.path.join(folder, "trainer_state.json"), encoding="utf-8") as file:
        step = json.load(file)["global_step"]
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        return step, file.read().hex()


def encode(weights: str) -> bytes:
    """Return the weights file's content."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes.fromhex(weights)


def save(folder: str, step: int, weights: str) -> None:
    """Write a checkpoint in place, file by file, as trainers do: a kill in the middle leaves it cut short."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(encode(weights))
    time.sleep(0.01)
    with open(os.path.join(folder, "trainer_state.json"), "w", encoding="utf-8") as file:
        json.dump({"global_step": step}, file)


if __name__ == "__main__":
    sys.exit(main())
