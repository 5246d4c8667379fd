"""How far a training says it is, in the lines of its log: progress bars, dictionaries, `step 3/10`."""

from __future__ import annotations

import re
from typing import Any, Dict

Bar = Dict[str, Any]

_NUMBER = r"\d+(?:\.\d+)?"
# tqdm's bar_format: "desc:  43%|####   | 430/1000 [00:12<00:16, 34.2it/s, loss=0.1]"; k and M with unit_scale.
_BAR = re.compile(
    rf"\d+%\|[^|]*\|\s*(?P<step>{_NUMBER}[kMG]?)/(?P<total>{_NUMBER}[kMG]?)\s*"
    r"\[(?P<elapsed>[\d:]+)<[\d:?]+(?:,\s*(?P<rate>[^,\]]+))?"
)
_RATE = re.compile(rf"^({_NUMBER})([kMG]?)(\D*?)/s$|^({_NUMBER})s/(\D+)$")
# Bars of other work: what is downloaded, prepared, tried or written, not trained.
_OTHER_WORK = re.compile(
    r"download|map|filter|token|eval|valid|test|predict|load|generat|sav|upload|fetch|cast|shard|split|sanity|extract",
    re.IGNORECASE,
)
_OTHER_UNITS = re.compile(r"\d[kMGT]?B/s|examples/s|files/s")
_STEP = re.compile(
    r"(?<![\w-])(?:global[_ ])?(?P<word>step|steps|iter|iteration)(?![\w-])['\"]?\s*[:=#]?\s*['\"]?\[?\s*"
    r"(?P<step>\d+)(?![\d.,]*\d)(?:\s*(?:/|of)\s*(?P<total>\d+))?",
    re.IGNORECASE,
)
# Words that make it a setting rather than a place: "Gradient Accumulation steps = 4", "max steps: 100".
_SETTING = re.compile(
    r"(?:max|total|num|warmup|warm-up|logging|save|eval|every|accumulation|optimization|per)[ _-]*$", re.IGNORECASE
)
_EPOCH = re.compile(
    rf"(?<![\w-])epoch['\"]?\s*[:=#]?\s*['\"]?\[?\s*(?P<epoch>{_NUMBER})(?:\s*(?:/|of)\s*(?P<total>\d+))?",
    re.IGNORECASE,
)
# transformers.Trainer announces both: "  Num Epochs = 3", "  Total optimization steps = 1,500".
_MAX_STEPS = re.compile(r"Total optimization steps = ([\d,]+)")
_EPOCHS = re.compile(r"Num Epochs = ([\d,]+)")


def parse(lines: list[str], max_steps: int | None = None) -> dict[str, Any]:
    """Given the last lines of a log, return what they say: step, max_steps, epoch, epochs, steps_per_s.

    `max_steps`, where it is known from elsewhere, tells the training's progress bar from others. {} where no
    line tells anything.
    """
    found = _read_lines(lines)
    bar = _choose_bar([bar for bar in map(_parse_bar, lines) if bar], max_steps)
    if bar is not None and (found.get("step") is None or bar["step"] >= found["step"] or "max_steps" not in found):
        found.update({name: value for name, value in bar.items() if name in _KEPT and value is not None})
    elif bar is not None and bar["max_steps"] == found.get("max_steps"):
        found["steps_per_s"] = bar["steps_per_s"]
    return found


_KEPT = ("step", "max_steps", "epoch", "epochs", "steps_per_s")


def _read_lines(lines: list[str]) -> dict[str, Any]:
    """Return what the lines that are no progress bars say, the last one of each kind."""
    found: dict[str, Any] = {}
    for line in lines:
        if "%|" in line and _BAR.search(line):
            continue
        step, epoch = _find_step(line), _EPOCH.search(line)
        if step is not None:
            found.update(step)
        if epoch is not None:
            found["epoch"] = float(epoch["epoch"])
            if epoch["total"]:
                found["epochs"] = int(epoch["total"])
        for name, announced in (("max_steps", _MAX_STEPS.search(line)), ("epochs", _EPOCHS.search(line))):
            if announced:
                found[name] = int(announced[1].replace(",", ""))
    return found


def _find_step(line: str) -> dict[str, int] | None:
    """Return the step a line tells, and of how many."""
    for match in _STEP.finditer(line):
        if _SETTING.search(line, 0, match.start()) or (match["word"].lower() == "steps" and not match["total"]):
            continue
        return {"step": int(match["step"]), **({"max_steps": int(match["total"])} if match["total"] else {})}
    return None


def _parse_bar(line: str) -> Bar | None:
    """Return what a line shows as a progress bar, None when it is none or one of other work."""
    match = _BAR.search(line) if "%|" in line else None
    if match is None or _OTHER_WORK.search(line, 0, match.start()) or _OTHER_UNITS.search(match["rate"] or ""):
        return None
    bar: Bar = {
        "name": line[: match.start()].strip(" :"),
        "step": _scaled(match["step"]),
        "max_steps": _scaled(match["total"]),
        "elapsed_s": _seconds(match["elapsed"]),
        "steps_per_s": _rate(match["rate"]),
    }
    return _over_epochs(bar)


def _over_epochs(bar: Bar) -> Bar:
    """Return a bar of one epoch ("Epoch 3: ", of Lightning, counts from 0; "Epoch 3/10: " from 1) as one of all."""
    epoch = _EPOCH.match(bar["name"])
    if epoch is None or bar["max_steps"] <= 0:
        return bar
    done = int(float(epoch["epoch"])) - (1 if epoch["total"] else 0)
    per_epoch, epochs = bar["max_steps"], int(epoch["total"]) if epoch["total"] else None
    bar.update(
        epoch=done + bar["step"] / per_epoch,
        epochs=epochs,
        step=max(0, done) * per_epoch + bar["step"],
        max_steps=None if epochs is None else epochs * per_epoch,
    )
    return bar


def _choose_bar(bars: list[Bar], max_steps: int | None) -> Bar | None:
    """Return the last state of the training's bar: the one of the known length, else the one that runs longest."""
    known = [bar for bar in bars if max_steps is not None and bar["max_steps"] == max_steps]
    if known or not bars:
        return known[-1] if known else None
    of_epochs = [bar for bar in bars if bar.get("epoch") is not None]
    if of_epochs:
        return of_epochs[-1]
    last = {(bar["name"], bar["max_steps"]): bar for bar in bars}
    return max(last.values(), key=lambda bar: (int(bar["elapsed_s"]), int(bar["max_steps"])))


def _scaled(text: str) -> int:
    """Return tqdm's number: `430`, or `1.2k` where it scales."""
    factor = {"k": 1000, "M": 1000**2, "G": 1000**3}.get(text[-1])
    return int(float(text)) if factor is None else round(float(text[:-1]) * factor)


def _seconds(text: str) -> int:
    """Return the seconds in `01:02:03`."""
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part or 0)
    return seconds


def _rate(text: str | None) -> float | None:
    """Return the steps per second of `34.2it/s` or `1.5s/it`, None for `?it/s`."""
    match = _RATE.match((text or "").strip())
    if match is None:
        return None
    if match[4] is not None:
        return 1 / float(match[4]) if float(match[4]) else None
    return float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[match[2]] or None
