"""SSH keys on this machine, checked with OpenSSH's own ssh-keygen."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from podtasks.doors.key_files import ensure_login_key, make_key_pair, require_login_key, require_usable_key
from podtasks.pure.errors import SettingsError


def keygen(*words: str) -> str:
    done = subprocess.run(["ssh-keygen", *words], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode().strip()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "my key"
    keygen("-q", "-t", "ed25519", "-N", "", "-C", "me@here", "-f", str(path))
    return path


def test_new_key_pair_is_one_that_openssh_reads(tmp_path: Path) -> None:
    pair = make_key_pair("demo")
    path = tmp_path / "host_key"
    path.touch(mode=0o600)
    path.write_text(pair.private.reveal())
    assert keygen("-y", "-f", str(path)).split()[:2] == pair.public.split()[:2]
    assert pair.public.endswith(" demo")
    assert "PRIVATE" not in repr(pair)


def test_two_key_pairs_differ() -> None:
    assert make_key_pair("a").public.split()[1] != make_key_pair("a").public.split()[1]


def test_login_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = ensure_login_key(tmp_path / "state" / "local_key")
    first = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keygen("-y", "-f", str(path)).split()[1] == require_login_key(path).split()[1]
    assert ensure_login_key(path).read_bytes() == first


def test_login_key_with_a_dot_in_its_name_has_its_public_half_beside_it(tmp_path: Path) -> None:
    path = ensure_login_key(tmp_path / "local.key")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["local.key", "local.key.pub"]
    assert require_login_key(path) == (tmp_path / "local.key.pub").read_text().strip()


def test_login_key_lost_without_its_public_half_is_made_anew_as_a_pair(tmp_path: Path) -> None:
    path = ensure_login_key(tmp_path / "local_key")
    path.unlink()
    ensure_login_key(path)
    assert keygen("-y", "-f", str(path)).split()[1] == require_login_key(path).split()[1]


def test_public_half_is_read_from_beside_the_key(key: Path) -> None:
    assert require_login_key(key) == Path(f"{key}.pub").read_text().strip()


def test_public_half_that_is_missing_is_made_from_the_key(key: Path) -> None:
    expected = Path(f"{key}.pub").read_text().split()[:2]
    Path(f"{key}.pub").unlink()
    assert require_login_key(key).split() == expected


def test_home_folder_in_the_path_is_understood(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(key.parent))
    assert require_login_key(Path("~/my key")).endswith("me@here")


def refusal(path: Path) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        require_login_key(path)
    assert caught.value.means == "No pod was created."
    return caught.value


def test_key_that_is_missing_says_how_to_make_one(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none")
    assert error.what.startswith("There is no SSH key at ")
    assert "ssh-keygen -t ed25519" in error.next_step


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_key_that_others_may_read_is_refused(key: Path, mode: int) -> None:
    key.chmod(mode)
    error = refusal(key)
    assert f"(mode {mode:o})" in error.what
    assert error.next_step.startswith("chmod 600 ")


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_key_that_only_its_owner_reads_is_taken(key: Path, mode: int) -> None:
    key.chmod(mode)
    assert require_login_key(key)


def test_public_half_given_as_the_key_is_refused(key: Path) -> None:
    public = Path(f"{key}.pub")
    public.chmod(0o600)
    assert "(the file without .pub)" in refusal(public).next_step


def test_key_with_a_passphrase_and_no_public_half_says_how_to_make_it(key: Path) -> None:
    keygen("-q", "-p", "-P", "", "-N", "open sesame", "-f", str(key))
    assert require_login_key(key).endswith("me@here"), "the public half beside it is enough"
    Path(f"{key}.pub").unlink()
    error = refusal(key)
    assert error.next_step.startswith("ssh-keygen -y -f ")
    assert "sesame" not in str(error)


def usable(path: Path, *, offered: bool = False) -> list[str]:
    """Check a key, and return the public halves that the agent was asked for."""
    asked: list[str] = []

    def agent_offers(public_key: str) -> bool:
        asked.append(public_key)
        return offered

    require_usable_key(path, require_login_key(path), agent_offers)
    return asked


def unusable(path: Path) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        usable(path)
    assert caught.value.means == "No pod was created."
    return caught.value


def encrypt(key: Path, *format_words: str) -> None:
    keygen("-q", "-p", "-P", "", "-N", "open sesame", *format_words, "-f", str(key))


@pytest.mark.parametrize("format_words", [(), ("-m", "PEM"), ("-m", "PKCS8")])
def test_key_with_a_passphrase_needs_an_agent_that_offers_it(tmp_path: Path, format_words: tuple[str, ...]) -> None:
    key = tmp_path / "my key"
    keygen("-q", "-t", "ecdsa", "-N", "", "-f", str(key))
    encrypt(key, *format_words)
    error = unusable(key)
    assert "passphrase" in error.what
    assert error.next_step == f"ssh-add '{key}', then the same command again"
    assert usable(key, offered=True) == [Path(f"{key}.pub").read_text().strip()]


@pytest.mark.parametrize("format_words", [(), ("-m", "PEM")])
def test_key_without_a_passphrase_needs_no_agent(tmp_path: Path, format_words: tuple[str, ...]) -> None:
    key = tmp_path / "key"
    keygen("-q", "-t", "rsa", "-b", "2048", "-N", "", *format_words, "-f", str(key))
    assert usable(key) == []


def test_key_in_a_format_that_the_connection_cannot_read_needs_an_agent(tmp_path: Path) -> None:
    key = tmp_path / "key"
    keygen("-q", "-t", "rsa", "-b", "2048", "-N", "", "-m", "PKCS8", "-f", str(key))
    assert "PKCS#8" in unusable(key).what
    assert usable(key, offered=True)


def test_public_half_of_another_key_is_refused(key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    keygen("-q", "-t", "ed25519", "-N", "", "-f", str(other))
    Path(f"{other}.pub").replace(f"{key}.pub")
    error = unusable(key)
    assert error.what == f"{key}.pub is not the public half of {key}."
    assert error.next_step == f"ssh-keygen -y -f '{key}' > '{key}.pub'"


def test_broken_key_beside_a_public_half_is_not_usable(key: Path) -> None:
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nVERYSECRET\n-----END OPENSSH PRIVATE KEY-----\n")
    assert "VERYSECRET" not in str(unusable(key))


def test_public_half_that_is_no_text_is_refused_in_words(key: Path) -> None:
    Path(f"{key}.pub").write_bytes(b"\xff\xfe\x00")
    assert "is not the public half" in unusable(key).what


def test_broken_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nVERYSECRET\n-----END OPENSSH PRIVATE KEY-----\n")
    assert "VERYSECRET" not in str(refusal(path))
