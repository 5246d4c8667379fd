"""SSH keys: reading the user's, making a pod's host key and the local cloud's login key."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from podtasks.pure.errors import SettingsError
from podtasks.pure.secret import Secret


@dataclass(frozen=True)
class KeyPair:
    """A new key: the private half as an OpenSSH PEM text, the public half as an OpenSSH line."""

    private: Secret
    public: str


def make_key_pair(comment: str) -> KeyPair:
    """Return a new ed25519 key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(Secret(private.decode()), f"{public.decode()} {comment}")


def ensure_login_key(path: Path) -> Path:
    """Make a login key at `path`, with its public half beside it, unless there is one; return `path`."""
    if not path.exists():
        pair = make_key_pair("podtasks-local-cloud")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name + ".pub").write_text(pair.public + "\n")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(pair.private.reveal())
    return path


def require_login_key(path: Path) -> str:
    """Return the public half of the user's key at `path`.

    Raises SettingsError when the key is missing, is not a private key, or others may read it.
    """
    expanded = path.expanduser()
    if not expanded.is_file():
        raise _key_error(f"There is no SSH key at {path}.", "make one with: ssh-keygen -t ed25519")
    mode = stat.S_IMODE(expanded.stat().st_mode)
    if mode & 0o077:
        raise _key_error(f"The SSH key {path} can be read by others (mode {mode:o}).", f"chmod 600 {path}")
    text = expanded.read_bytes()
    if b"PRIVATE KEY-----" not in text:
        raise _key_error(
            f"{path} is not a private SSH key.",
            "set SSH_KEY_PATH to the private half (the file without .pub)",
        )
    return _public_half(expanded, path)


def _public_half(expanded: Path, shown: Path) -> str:
    public = expanded.with_name(expanded.name + ".pub")
    if public.is_file():
        return public.read_text().strip()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_private_key(expanded.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _key_error(
            f"The public half of {shown} is not beside it and cannot be made from it: {error}.",
            f"ssh-keygen -y -f {shown} > {shown}.pub",
        ) from error
    openssh = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return key.public_key().public_bytes(*openssh).decode()


def _key_error(what: str, next_step: str) -> SettingsError:
    return SettingsError(what, means="No pod was created.", next_step=next_step)
