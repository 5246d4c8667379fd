"""The one account of this cloud and its network volumes."""

from __future__ import annotations

import dataclasses
import secrets
import string
import time
from dataclasses import dataclass, field
from typing import Any

_ID_ALPHABET = string.ascii_lowercase + string.digits


def new_id(length: int) -> str:
    """Return a random id in the letters RunPod uses for pods and volumes."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(length))


def new_key(kind: str = "rpa_") -> str:
    """Return a random key: an API key, or with "rps_" the secret one of the S3 API."""
    return kind + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(46))


def _new_s3_access_key() -> str:
    return "user_" + new_id(26)


def _new_s3_secret_key() -> str:
    return new_key("rps_")


@dataclass(frozen=True)
class NetworkVolume:
    """A network volume; its files lie in the state directory under volumes/<id>."""

    id: str
    name: str
    size_gb: int
    data_center: str
    created_at: float


@dataclass
class Account:
    """The account: its keys survive restarts, so a client need read server.json only once."""

    id: str
    key: str
    email: str = "you@example.com"
    public_key: str = ""
    volumes: list[NetworkVolume] = field(default_factory=list)
    s3_access_key: str = field(default_factory=_new_s3_access_key)
    s3_secret_key: str = field(default_factory=_new_s3_secret_key)

    @classmethod
    def opened_now(cls) -> Account:
        """Open an account with two network volumes: the usual one in EU-RO-1, one in US-KS-2."""
        now = time.time()
        return cls(
            id="user_" + new_id(24),
            key=new_key(),
            volumes=[
                NetworkVolume(new_id(10), "podtasks", 100, "EU-RO-1", now),
                NetworkVolume(new_id(10), "elsewhere", 50, "US-KS-2", now),
            ],
        )

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Account:
        """Read an account back from what `to_state` gave."""
        return cls(**{**state, "volumes": [NetworkVolume(**volume) for volume in state["volumes"]]})

    def to_state(self) -> dict[str, Any]:
        """Return the account as JSON values."""
        return dataclasses.asdict(self)

    def find_volume(self, volume_id: str) -> NetworkVolume | None:
        """Return the network volume with an id."""
        return next((volume for volume in self.volumes if volume.id == volume_id), None)
