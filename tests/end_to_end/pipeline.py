"""The training pipeline of the end-to-end tests: deterministic, quick, and held at a step by a file.

It is copied into each test's repository as scripts/train.py, and knows nothing of podtasks. Its weights are
a chain of hashes, so that a lost or repeated step shows in the last one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import struct
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--resume")
    parser.add_argument("--say", default="")
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    step, weights = load(arguments.resume) if arguments.resume else (0, hashlib.sha256(b"start").hexdigest())
    print(f"training from step {step} of {config['steps']} {arguments.say}", flush=True)
    while step < int(config["steps"]):
        step += 1
        weights = hashlib.sha256(f"{weights}{step}".encode()).hexdigest()
        sys.stderr.write(f"\rprogress {step}")
        print(f"\nstep {step} {weights[:8]}", flush=True)
        if step % int(config["save_steps"]) == 0:
            save(os.path.join(config["output_dir"], f"checkpoint-{step}"), step, weights)
        if step == int(config.get("fail_at", -1)):
            return 7
        hold(config["output_dir"], step)
    save(os.path.join(config["output_dir"], "final_model"), step, weights)
    print("trained", flush=True)
    return 0


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


def save(folder: str, step: int, weights: str) -> None:
    partial = f"{os.path.dirname(folder)}/tmp-{os.path.basename(folder)}"
    os.makedirs(partial, exist_ok=True)
    header = json.dumps({"w": {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]}}).encode()
    with open(os.path.join(partial, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + bytes.fromhex(weights))
    with open(os.path.join(partial, "trainer_state.json"), "w", encoding="utf-8") as file:
        json.dump({"global_step": step}, file)
    if os.path.isdir(folder):
        os.rename(folder, f"{folder}.old-{time.time_ns()}")
    os.rename(partial, folder)


def hold(output_dir: str, step: int) -> None:
    """Wait while the file hold-STEP is in the output directory: the test decides when to go on."""
    while os.path.exists(os.path.join(output_dir, f"hold-{step}")):
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
