"""The container disk: what is in a pod's own / before its process 1 starts."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from podtasks.emulator.dials import ImageRule
from podtasks.emulator.environment import IMAGE_PATH, LOOPBACK

IMAGE_FILES = Path(__file__).parent / "image"
IMAGE_BIN = "opt/image/bin"
TRASH = "trash-"
_ERASE_ATTEMPTS = 5
HOST_PROGRAMS = "opt/image/host"

_DIRECTORIES = (
    *("dev", "proc", "sys", "usr", "mnt", "srv", "media", "home", "root", "root/.ssh", "opt/image/bin"),
    *("etc/ssh", "etc/ssl", "etc/profile.d", "run/sshd", "run/lock"),
    *("var/lib", "var/log", "var/cache", "var/spool", "var/mail"),
)
_COPIED_FROM_HOST = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "nsswitch.conf", "resolv.conf", "gai.conf", "host.conf"),
    *("protocols", "services", "localtime", "timezone", "os-release", "debian_version", "pip.conf", "uv"),
    *("inputrc", "terminfo", "mime.types"),
)

_PROFILE = f"""export PATH={IMAGE_PATH}
for script in /etc/profile.d/*.sh; do if [ -r "$script" ]; then . "$script"; fi; done
if [ -n "$BASH_VERSION" ] && [ -f ~/.bashrc ]; then . ~/.bashrc; fi
"""
BASHRC = """# The images' .bashrc does nothing in shells that are not interactive, like Ubuntu's.
[ -z "$PS1" ] && return
PS1='\\u@\\h:\\w\\$ '
"""


def sshd_config(port: int | None, environment: dict[str, str]) -> str:
    """Return the configuration of a pod's sshd.

    Args:
        port: where it listens; None leaves sshd its own default.
        environment: what SSH sessions get, which is little: none of the pod's own variables.
    """
    lines = [
        f"ListenAddress {LOOPBACK}",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "PrintMotd no",
        "AcceptEnv LANG LC_*",
        "Subsystem sftp internal-sftp",
        "SetEnv " + " ".join(f'"{name}={value}"' for name, value in environment.items()),
    ]
    return "\n".join(([f"Port {port}"] if port else []) + lines) + "\n"


def wipe(disk: Path) -> None:
    """Erase a container disk: out of the way at once, its files in the background."""
    if disk.exists():
        trash = Path(tempfile.mkdtemp(prefix=TRASH, dir=disk.parent))
        os.rename(disk, trash / "disk")
        erase_later(trash)


def erase_later(folder: Path) -> None:
    """Erase a directory in the background."""
    threading.Thread(target=erase, args=(folder,), daemon=True).start()


def erase(folder: Path) -> None:
    """Delete a directory with all that is in it, write-protected directories included.

    Another thread may be deleting a part of it: what is already gone is no error.
    """
    for _ in range(_ERASE_ATTEMPTS):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            if not folder.exists():
                return
        except PermissionError:
            _make_accessible(folder)


def _make_accessible(folder: Path) -> None:
    # Top down: a directory can be listed, and its own directories changed, once it has been changed itself.
    for path, names, _ in os.walk(folder):
        for name in names:
            if not os.path.islink(os.path.join(path, name)):
                os.chmod(os.path.join(path, name), 0o700)


def populate(disk: Path, *, hostname: str, ssh_port: int | None, rule: ImageRule) -> None:
    """Write the files of a pod's image into a new container disk.

    Args:
        disk: the directory that becomes the pod's /.
        hostname: for /etc/hosts and /etc/hostname.
        ssh_port: where sshd listens when something starts it; None leaves sshd its own default.
        rule: what the image lacks (dials.Dials.image_rule).
    """
    for name in _DIRECTORIES:
        (disk / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (disk / name).mkdir(mode=0o1777)
        (disk / name).chmod(0o1777)
    (disk / "root").chmod(0o700)
    (disk / "root/.ssh").chmod(0o700)
    (disk / "var/run").symlink_to("/run")
    _link_system_directories(disk)
    _write_etc(disk / "etc", hostname, ssh_port)
    (disk / "root/.bashrc").write_text(BASHRC)
    _write_programs(disk, rule)
    _write_own_folders(disk, rule)


def _link_system_directories(disk: Path) -> None:
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        host = Path("/", name)
        if host.is_symlink():
            (disk / name).symlink_to(os.readlink(host))


def _write_etc(etc: Path, hostname: str, ssh_port: int | None) -> None:
    for name in _COPIED_FROM_HOST:
        _copy(Path("/etc", name), etc / name)
    uid, gid = os.getuid(), os.getgid()
    (etc / "passwd").write_text(
        f"root:x:{uid}:{gid}:root:/root:/bin/bash\n"
        "sshd:x:74:65534:sshd:/run/sshd:/usr/sbin/nologin\n"
        "_apt:x:100:65534::/nonexistent:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    (etc / "group").write_text(f"root:x:{gid}:\ntty:x:5:\nnogroup:x:65534:\n")
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n")
    (etc / "shadow").chmod(0o600)
    (etc / "hostname").write_text(hostname + "\n")
    (etc / "hosts").write_text(f"{LOOPBACK} localhost {hostname}\n::1 localhost\n")
    (etc / "profile").write_text(_PROFILE)
    (etc / "shells").write_text("/bin/sh\n/bin/bash\n")
    (etc / "ssh/sshd_config").write_text(sshd_config(ssh_port, {"PATH": IMAGE_PATH}))
    (etc / "mtab").symlink_to("/proc/mounts")


def _write_programs(disk: Path, rule: ImageRule) -> None:
    without = rule["without"]
    if rule["start_sh"]:
        install(IMAGE_FILES / "start.sh", disk / "start.sh")
    for name in ("runpodctl", "apt-get"):
        if name not in without:
            install(IMAGE_FILES / name, disk / IMAGE_BIN / name)
    for name in ("python", "python3"):
        if name not in without:
            (disk / IMAGE_BIN / name).symlink_to(python_executable())


def program_folders(rule: ImageRule) -> list[str]:
    """Return the folders under /usr that an image has its own of, because it lacks programs in them."""
    names = ("bin", "sbin", "local/bin", "local/sbin")
    return [name for name in names if rule["without"] and os.path.isdir(f"/usr/{name}")]


def own_folder(disk: Path, name: str) -> Path:
    """Return the directory on the container disk that is mounted over a folder under /usr."""
    return disk / "opt/image/usr" / name


def _write_own_folders(disk: Path, rule: ImageRule) -> None:
    """Fill an image's own folders: links to all this machine has there, without what the image lacks."""
    for name in program_folders(rule):
        folder = own_folder(disk, name)
        folder.mkdir(parents=True)
        for program in set(os.listdir(f"/usr/{name}")) - set(rule["without"]):
            (folder / program).symlink_to(f"/{HOST_PROGRAMS}/{name}/{program}")


def python_executable() -> str:
    """Return the interpreter pods get: the one that runs the emulator, outside its virtual environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(Path(sys.base_prefix, "bin", version))


def install(source: Path, target: Path) -> None:
    """Copy a program to where it can be run."""
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    try:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, target)
    except (OSError, shutil.Error):
        # An ordinary user may not read all of /etc; the pod does without what root keeps to itself.
        return
