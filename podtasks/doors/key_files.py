"""SSH keys: reading the user's, making a pod's host key and the local cloud's login key."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from podtasks.pure.errors import SettingsError
from podtasks.pure.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import SSHPrivateKeyTypes

_PKCS8 = b"BEGIN PRIVATE KEY"


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
    if path.exists():
        return path
    pair = make_key_pair("podtasks-local-cloud")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, whole = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(pair.private.reveal())
        # Of two at once the first one's key stays, and only its public half is written.
        with contextlib.suppress(FileExistsError):
            os.link(whole, path)
            path.with_name(path.name + ".pub").write_text(pair.public + "\n")
    finally:
        os.unlink(whole)
    return path


def require_login_key(path: Path) -> str:
    """Return the public half of the user's key at `path`.

    Raises SettingsError when the key is missing, is not a private key, or others may read it.
    """
    expanded = path.expanduser()
    if not expanded.is_file():
        raise _key_error(
            f"There is no SSH key at {path}.",
            f"make one with: ssh-keygen -t ed25519 -f {_word(path)}; or set SSH_KEY_PATH in .runpod.env",
        )
    if b"PRIVATE KEY-----" not in expanded.read_bytes():
        raise _key_error(
            f"{path} is not a private SSH key.",
            "set SSH_KEY_PATH to the private half (the file without .pub)",
        )
    mode = stat.S_IMODE(expanded.stat().st_mode)
    if mode & 0o077:
        raise _key_error(
            f"The SSH key {path} can be read by others (mode {mode:o}).", f"chmod 600 {_word(path)}"
        )
    return _public_half(expanded, path)


def require_usable_key(path: Path, public_key: str, agent_offers: Callable[[str], bool]) -> None:
    """Check that the key at `path`, alone or through an SSH agent, can log in where `public_key` is let in.

    Args:
        agent_offers: tells whether an SSH agent holds the private half of a public key line.

    Raises:
        SettingsError: `public_key` is another key's, or the key has a passphrase and no agent offers it.
    """
    text = path.expanduser().read_bytes()
    try:
        made = _public_line(text)
    except TypeError:  # what cryptography raises for a passphrase that is not given
        what, advice = f"The SSH key {path} has a passphrase", ""
    except _unreadable() as error:
        what, advice = f"The SSH key {path} cannot be read ({error})", ", or set SSH_KEY_PATH to another key"
    else:
        if made.split()[:2] != public_key.split()[:2]:
            raise _key_error(f"{path}.pub is not the public half of {path}.", _remake(path))
        if _PKCS8 not in text:
            return
        what, advice = f"The SSH key {path} is in the format PKCS#8, which paramiko cannot read", ""
    if not agent_offers(public_key):
        next_step = f"ssh-add {_word(path)}, then the same command again{advice}"
        raise _key_error(f"{what}, and no SSH agent offers it.", next_step)


def _public_half(expanded: Path, shown: Path) -> str:
    public = expanded.with_name(expanded.name + ".pub")
    if public.is_file():
        return public.read_text(errors="replace").strip()
    try:
        return _public_line(expanded.read_bytes())
    except _unreadable() as error:
        raise _key_error(
            f"The public half of {shown} is not beside it and cannot be made from it: {error}.", _remake(shown)
        ) from error


def _public_line(private_key: bytes) -> str:
    """Return the public half of a private key's text. Raises TypeError where it has a passphrase."""
    from cryptography.hazmat.primitives import serialization

    openssh = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return _load(private_key).public_key().public_bytes(*openssh).decode()


def _load(text: bytes) -> SSHPrivateKeyTypes:
    from cryptography.hazmat.primitives import serialization

    if b"BEGIN OPENSSH" in text:
        return serialization.load_ssh_private_key(text, password=None)
    return cast("SSHPrivateKeyTypes", serialization.load_pem_private_key(text, password=None))


def _unreadable() -> tuple[type[Exception], ...]:
    from cryptography.exceptions import UnsupportedAlgorithm

    return (TypeError, ValueError, UnsupportedAlgorithm)


def _remake(path: Path) -> str:
    return f"ssh-keygen -y -f {_word(path)} > {_word(f'{path}.pub')}"


def _word(path: Path | str) -> str:
    text = str(path)
    return f"~/{shlex.quote(text[2:])}" if text.startswith("~/") else shlex.quote(text)


def _key_error(what: str, next_step: str) -> SettingsError:
    return SettingsError(what, means="No pod was created.", next_step=next_step)
