"""Train the digits network: `python scripts/train.py --config FILE [--resume DIRECTORY] [--debug]`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# One thread makes matrix products, and so the weights, the same on every run. The libraries read these
# variables when they are loaded.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train a small network on handwritten digits.")
    parser.add_argument("--config", type=Path, required=True, help="YAML file with a section 'training:'")
    parser.add_argument("--resume", type=Path, metavar="DIRECTORY", help="checkpoint to go on from")
    parser.add_argument("--debug", action="store_true", help="40 steps only, into directories of their own")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train, then write the final model and the predictions. Return the exit code."""
    options = parse_arguments(arguments)
    from digits.config import ConfigurationError, load_config

    try:
        config = load_config(options.config)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    if options.resume and not options.resume.is_dir():
        print(f"no such checkpoint: {options.resume}", file=sys.stderr)
        return 2
    config = config.for_debugging() if options.debug else config
    print("loading scikit-learn and the digits ...", flush=True)
    from digits.data import load_digits
    from digits.results import write_final_model, write_predictions
    from digits.trainer import Trainer

    trainer = Trainer(config, *load_digits(config.test_fraction, config.seed))
    if options.resume:
        trainer.resume(options.resume)
    start = f"resuming {options.resume} at" if options.resume else "starting at"
    print(f"{len(trainer.train_digits)} digits to learn, {len(trainer.test_digits)} held back for the test")
    print(f"{start} step {trainer.global_step} of {trainer.total_steps}", flush=True)
    trainer.train()
    print(f"final model: {write_final_model(trainer)}")
    print(f"predictions: {write_predictions(trainer)}")
    print(f"test accuracy: {trainer.evaluate()['eval_accuracy']:.2%}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
