"""The knobs of the cloud: how long things take, what is in stock, which image has what."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
from dataclasses import dataclass, field
from typing import Any, TypedDict

from podtasks.emulator.errors import InputError

STOCK_LEVELS = ("None", "Low", "Medium", "High")
_FREE_GPUS = {"None": 0, "Low": 2, "Medium": 8, "High": 64}


class ImageRule(TypedDict):
    """What is special about the images whose names fit a pattern."""

    pattern: str
    start_sh: bool
    without: list[str]


_FOREIGN_IMAGES: list[ImageRule] = [
    {"pattern": pattern, "start_sh": False, "without": ["tmux", "rsync", "uv"]}
    for pattern in ("ubuntu:*", "debian:*", "python:*", "nvidia/cuda:*")
]


@dataclass
class Dials:
    """How this cloud behaves; a control route changes any of it at any time.

    Args:
        ports_s: seconds after a start until the API shows runtime and ports.
        ssh_s: seconds after a start until the container really runs.
        stale_port_s: seconds after a resume in which the API still shows the old ports.
        stale_runtime_s: seconds after a stop in which the API still shows a runtime.
        stop_grace_s: seconds between SIGTERM and SIGKILL of a stop.
        preempt_grace_s: the same of a preemption.
        terminated_visible_s: seconds a terminated pod stays listed as EXITED once its container is gone.
        relay: pods that start from now on have a relay in front of their sshd, which the route
            /_cloud/pods/{id}/network disturbs.
        resume_fails: every resume answers that the host has no free GPU.
        allow_stop_with_network_volume: False brings back RunPod's rule until 2026-05-07.
        balance_usd: the account's balance before anything was spent.
        gpu_util_percent: how busy all GPUs are, and how full their memory.
        enforce_volume_size: writes over the S3 API fail when a network volume would hold more than its size.
        s3_batch_delete_redirects: a batch delete is answered 307 instead of 501.
        s3_flexible_checksums: x-amz-trailer and the like are accepted.
        s3_list_10000_s: seconds that listing 10,000 keys over the S3 API takes.
        s3_repeat_token_after: listings of more keys than this get the same continuation token again; 0: never.
        stock: per GPU type or CPU flavour, or also per data centre, a stock level or a number of GPUs or
            CPU instances.
            What is not named is "High".
        images: rules tried in order, the first whose pattern fits the image's name counts: `start_sh`
            says whether the image has /start.sh, `without` names programs it lacks.
    """

    ports_s: float = 0.0
    ssh_s: float = 0.0
    stale_port_s: float = 0.0
    stale_runtime_s: float = 2.0
    stop_grace_s: float = 10.0
    preempt_grace_s: float = 5.0
    terminated_visible_s: float = 0.0
    relay: bool = False
    resume_fails: bool = False
    allow_stop_with_network_volume: bool = True
    balance_usd: float = 100.0
    gpu_util_percent: float = 0.0
    enforce_volume_size: bool = False
    s3_batch_delete_redirects: bool = True
    s3_flexible_checksums: bool = False
    s3_list_10000_s: float = 0.0
    s3_repeat_token_after: float = 0.0
    stock: dict[str, Any] = field(default_factory=dict)
    images: list[ImageRule] = field(default_factory=lambda: copy.deepcopy(_FOREIGN_IMAGES))

    def changed(self, changes: dict[str, Any]) -> Dials:
        """Return dials with some turned.

        Raises:
            InputError: a dial is unknown or its value has the wrong type; nothing is changed then.
        """
        known = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise InputError(f"no dial {name!r}; there are: {', '.join(sorted(known))}")
            known[name] = _checked(name, value, known[name])
        return Dials(**known)

    def amount(self, type_id: str, data_center: str) -> int:
        """Return how many GPUs of a type, or instances of a CPU flavour, a data centre has, rented ones included."""
        stock = self.stock.get(type_id, "High")
        if isinstance(stock, dict):
            stock = stock.get(data_center, "High")
        return _FREE_GPUS[stock] if isinstance(stock, str) else int(stock)

    def image_rule(self, image: str) -> ImageRule:
        """Return what is special about an image; nothing, for an image with everything."""
        fitting = (rule for rule in self.images if fnmatch.fnmatchcase(image, rule["pattern"]))
        return next(fitting, ImageRule(pattern="*", start_sh=True, without=[]))


def stock_level(free: int) -> str:
    """Return RunPod's word for a number of free GPUs."""
    if free <= 0:
        return "None"
    return "Low" if free < 4 else "Medium" if free < 16 else "High"


def _checked(name: str, value: Any, old: Any) -> Any:  # noqa: ANN401 (JSON values)
    if name == "stock":
        return _checked_stock(value)
    if name == "images":
        return _checked_images(value)
    if isinstance(old, bool):
        fits = isinstance(value, bool)
    else:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
        fits = fits and (name != "gpu_util_percent" or value <= 100)
    if not fits:
        raise InputError(f"dial {name} cannot be {value!r}")
    return value if isinstance(old, bool) else float(value)


def _checked_stock(value: Any) -> dict[str, Any]:  # noqa: ANN401
    def is_amount(amount: object) -> bool:
        return amount in STOCK_LEVELS if isinstance(amount, str) else isinstance(amount, int) and amount >= 0

    if isinstance(value, dict):
        amounts: list[object] = []
        for amount in value.values():
            amounts.extend(amount.values() if isinstance(amount, dict) else [amount])
        if all(is_amount(amount) for amount in amounts):
            return value
    raise InputError(f"dial stock maps GPU types to {'/'.join(STOCK_LEVELS)} or a number, not {value!r}")


def _checked_images(value: Any) -> list[ImageRule]:  # noqa: ANN401
    if not isinstance(value, list):
        raise InputError("dial images is a list of rules")
    rules: list[ImageRule] = []
    for rule in value:
        if not isinstance(rule, dict) or not isinstance(rule.get("pattern"), str):
            raise InputError(f"an image rule needs a pattern: {rule!r}")
        if set(rule) - {"pattern", "start_sh", "without"}:
            raise InputError(f"an image rule has pattern, start_sh and without: {rule!r}")
        rules.append(
            ImageRule(
                pattern=rule["pattern"],
                start_sh=bool(rule.get("start_sh", True)),
                without=list(rule.get("without", [])),
            )
        )
    return rules
