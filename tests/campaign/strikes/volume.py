"""Strikes at the network volume and the files on it, and at locks that nobody holds any more."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.campaign.strike import Effect, Missed, Strike
from tests.campaign.strikes.targets import (
    checkpoints,
    clone,
    control,
    is_running,
    kill,
    lure,
    processes,
    require_command,
    require_processes,
    running_pod,
    send,
    volume,
)

if TYPE_CHECKING:
    from tests.campaign.world import World

_PAGE_BYTES = 4096
_PATIENCE_S = 20.0
_STRANGER = 12345
# Linux: ioctl_iflags(2).
_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10
_LOCK_HOLDER = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.flock(f,2); print(1,flush=True); sys.stdin.read()"


def fill(world: World, source: random.Random) -> Effect:
    """The volume is full for a while: no checkpoint, no record and no new page of the log can be written."""
    seconds, left = source.uniform(0.3, 4.0), source.choice((0, 0, _PAGE_BYTES, 3 * _PAGE_BYTES))
    volume(world)
    world.fill_volume(leave_bytes=left)
    return Effect(f"the volume is full but for {left} bytes", undo=world.free_volume, undo_after_s=seconds)


def fill_at_log(world: World, source: random.Random) -> Effect:
    """The volume becomes full in the middle of the log's next lines.

    A file's last page has room even on a full disk. So the log gets a line of its own first, whose end leaves only
    some bytes of that page, drawn from 0 to 150. The training stands still meanwhile.
    """
    seconds, left = source.uniform(0.3, 4.0), source.randrange(150)
    log = volume(world) / "logs/current.log"
    # No line of ours may come behind the run's last one: nobody would show it.
    writers = send(require_processes(world, "scripts/train.py"), signal.SIGSTOP)
    if not writers:
        raise Missed("the training has just ended")
    try:
        world.fill_volume()
        left = _pad(log, left)
    finally:
        send(writers, signal.SIGCONT)
    return Effect(f"the volume is full, {left} bytes on in the log", undo=world.free_volume, undo_after_s=seconds)


def _pad(path: Path, left: int) -> int:
    """Make a file's last page have only so many bytes left, if it has more; return how many it has."""
    with open(path, "ab", buffering=0) as file:
        room = -os.fstat(file.fileno()).st_size % _PAGE_BYTES
        if room < left + 2:
            return room
        file.write(b"\n" + b"#" * (room - left - 2) + b"\n")
    return left


def cut_checkpoint(world: World, source: random.Random) -> Effect:
    """A file of the newest checkpoint, or of one of the others, ends after any number of its bytes.

    Mostly the training is killed with it, as whatever cuts a save short does; else it may write that file again.
    """
    found = checkpoints(world)
    if source.random() < 0.7 and send(processes(world, "scripts/train.py"), signal.SIGKILL):
        world.note("the training is killed")
        found = checkpoints(world)
    folder = found[0] if source.random() < 0.7 else source.choice(found)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.stat().st_size)
    if not files:
        raise Missed("the checkpoint has no file yet")
    path = source.choice(files)
    size = path.stat().st_size
    length = source.randrange(size)
    os.truncate(path, length)
    return Effect(f"{folder.name}/{path.name} cut at byte {length} of {size}")


def unreadable(world: World, source: random.Random) -> Effect:
    """Something on the volume cannot be read, not even by root: see `_SPOIL`.

    A checkpoint newer than all, or the record of a run that never was, which nobody rewrites; these stay. Or, but
    for a FIFO, which would hang the training itself when it writes there, a file of a real checkpoint until undone.
    """
    name = source.choice(sorted(_SPOIL))
    place = source.choice((*sorted(_NOT_REWRITTEN), REAL))
    seconds = source.uniform(0.5, 5.0)
    file_name = source.choice(("model.safetensors", "trainer_state.json"))
    if place == REAL and name != "fifo":
        return spoil_for_a_while(checkpoints(world)[0] / file_name, name, seconds)
    return spoil(volume(world), _NOT_REWRITTEN.get(place, _NOT_REWRITTEN["run record"]), name)


def spoil(root: Path, place: str, name: str) -> Effect:
    """Put something that cannot be read at a place of the volume where nothing is."""
    path = root / place
    if os.path.lexists(path):
        raise Missed(f"{place} is there already")
    path.parent.mkdir(parents=True, exist_ok=True)
    _SPOIL[name](path)
    return Effect(f"{place} is a {name}")


def spoil_for_a_while(path: Path, name: str, seconds: float) -> Effect:
    """Put something that cannot be read in a file's place, until that is undone."""
    aside = path.with_name(f".{path.name}.aside")
    try:
        path.rename(aside)
    except OSError as error:
        raise Missed("the checkpoint is not there yet") from error
    _SPOIL[name](path)

    def undo() -> None:
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            aside.rename(path)

    return Effect(f"{path.parent.name}/{path.name} is a {name}, for {seconds:.1f} s", undo=undo, undo_after_s=seconds)


def _link_to_nothing(path: Path) -> None:
    path.symlink_to(f"/nowhere/{path.name}")


def _link_in_a_circle(path: Path) -> None:
    path.symlink_to(path.name)


REAL = "real checkpoint"
_NOT_REWRITTEN = {
    "newest checkpoint": "checkpoints/run/checkpoint-99998",
    "file of the newest checkpoint": "checkpoints/run/checkpoint-99999/model.safetensors",
    "run record": "runs/campaign-19990101-000000-spoilt/run.json",
}
# Pods' root has CAP_DAC_OVERRIDE: modes stop it from nothing, these do.
_SPOIL: dict[str, Callable[[Path], None]] = {
    "directory": Path.mkdir,
    "link to nothing": _link_to_nothing,
    "link in a circle": _link_in_a_circle,
    "fifo": os.mkfifo,
}


def change_permission(world: World, source: random.Random) -> Effect:
    """A file or folder on the volume can be changed no more, or belongs to somebody else, for a while.

    Immutable (chattr +i, which pods may not undo) where this machine allows that: the log, the output directory, the
    runs' folder. Else, and half the time, the clone belongs to somebody else, which git minds; modes go to 000 as
    well, which an ordinary user minds.
    """
    seconds = source.uniform(0.5, 4.0)
    root = volume(world)
    place = source.choice(("logs/current.log", "checkpoints/run", "runs"))
    if source.random() < 0.5 and _set_immutable(root / place, True):
        undo = _once(lambda: _set_immutable(root / place, False))
        return Effect(f"{place} is immutable, for {seconds:.1f} s", undo=undo, undo_after_s=seconds)
    return _give_away(clone(world), seconds)


def _give_away(folder: Path, seconds: float) -> Effect:
    paths = [folder, *folder.rglob("*")]
    before = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            told = path.lstat()
            before.append((path, told.st_uid, told.st_gid))
            if os.getuid() == 0:
                os.lchown(path, _STRANGER, _STRANGER)
    mode = folder.stat().st_mode
    folder.chmod(0)

    def give_back() -> None:
        with contextlib.suppress(FileNotFoundError):
            folder.chmod(mode)
        for path, uid, gid in before:
            with contextlib.suppress(FileNotFoundError):
                os.lchown(path, uid, gid)

    return Effect(f"{folder.name} is somebody else's, for {seconds:.1f} s", undo=_once(give_back), undo_after_s=seconds)


def _set_immutable(path: Path, wanted: bool) -> bool:
    """Set or take away the flag; return whether that was possible."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))
        flags = flags | _IMMUTABLE if wanted else flags & ~_IMMUTABLE
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", flags))
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _once(undo: Callable[[], object]) -> Callable[[], None]:
    """Return an undo that also runs when the tests are broken off: nobody could delete such a folder."""
    lock, is_done = threading.Lock(), threading.Event()

    def run() -> None:
        with lock:
            if not is_done.is_set():
                is_done.set()
                undo()
        atexit.unregister(run)

    atexit.register(run)
    return run


def break_sync(world: World, source: random.Random) -> Effect:
    """The clone is left half fetched: what fetches it is killed in the middle.

    Before that, it lies in wait. Raises Missed when the training has been launched already.
    """
    delay_s = source.choice((0.0, source.uniform(0.0, 0.15)))
    with_program = source.random() < 0.5
    require_command(world)
    if processes(world, "supervise.py"):
        raise Missed("the launch is over")

    def strike(programs: list[int], pause: Callable[[float], None]) -> None:
        pause(delay_s)
        gits = _children(programs)
        while not with_program and not gits and any(map(is_running, programs)):
            gits = _children(programs)
        kill([*(programs if with_program else []), *gits])

    kind = "volume/break_sync"
    ambush = lure(world, kind, lambda: require_processes(world, "sync_code.py"), strike, _PATIENCE_S)
    what = "git" + (" and what runs it" if with_program else "")
    what = f"a kill lies in wait for {what}, {delay_s:.2f} s after the sync's start"
    return Effect(what, undo=ambush.end, undo_after_s=_PATIENCE_S)


def _children(pids: Sequence[int]) -> list[int]:
    """Return the processes right below some, which may last for milliseconds only. Linux: proc_tid_children(5)."""
    found: list[int] = []
    for pid in pids:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found


def half_fetched(world: World, source: random.Random) -> Effect:
    """The clone has lost something, as after a fetch on a volume that went away: see `_DAMAGE`."""
    name = source.choice(sorted(_DAMAGE))
    git = clone(world) / ".git"
    return Effect(f"the clone: {_DAMAGE[name](git, source)}")


def _cut_object(git: Path, source: random.Random) -> str:
    """Cut a pack or a loose object short."""
    packs = sorted(git.glob("objects/pack/*.pack"))
    return _cut(git, packs or sorted(git.glob("objects/??/*")), source)


def _cut_index(git: Path, source: random.Random) -> str:
    """Cut the list of the files in the work tree short."""
    return _cut(git, sorted(git.glob("index")), source)


def _cut(git: Path, paths: Sequence[Path], source: random.Random) -> str:
    if not paths:
        raise Missed("the clone has nothing of that kind yet")
    path = source.choice(paths)
    size = path.stat().st_size
    length = source.randrange(max(1, size))
    path.chmod(0o644)
    os.truncate(path, length)
    return f"{path.relative_to(git)} cut at byte {length} of {size}"


def _drop_object(git: Path, source: random.Random) -> str:
    """Take a pack with its index, or a loose object, away."""
    paths = sorted(git.glob("objects/pack/*.pack")) or sorted(git.glob("objects/??/*"))
    if not paths:
        raise Missed("the clone has no objects yet")
    path = source.choice(paths)
    for part in {path, path.with_suffix(".idx"), path.with_suffix(".rev")}:
        part.unlink(missing_ok=True)
    return f"{path.relative_to(git)} is gone"


def _leave_partial_pack(git: Path, source: random.Random) -> str:
    """Leave what a fetch that was killed leaves."""
    (git / "objects/pack").mkdir(parents=True, exist_ok=True)
    path = git / f"objects/pack/tmp_pack_{source.randrange(1 << 24):06x}"
    path.write_bytes(b"PACK\0\0\0\2" + source.randbytes(source.randrange(200)))
    (git / "shallow.lock").touch()
    return f"{path.relative_to(git)} and shallow.lock left behind"


def _lose_head(git: Path, source: random.Random) -> str:
    """Leave HEAD, or the branch, empty, as a crash of the file server does."""
    names = [path for path in (git / "HEAD", *sorted(git.glob("refs/heads/*"))) if path.is_file()]
    if not names:
        raise Missed("the clone has no branch yet")
    path = source.choice(names)
    path.write_bytes(b"")
    return f"{path.relative_to(git)} is empty"


_DAMAGE: dict[str, Callable[[Path, random.Random], str]] = {
    "cut object": _cut_object,
    "cut index": _cut_index,
    "dropped object": _drop_object,
    "partial pack": _leave_partial_pack,
    "lost head": _lose_head,
}


def leave_git_lock(world: World, source: random.Random) -> Effect:
    """A lock file of git that nobody holds is in the clone."""
    git = clone(world) / ".git"
    branches = [f"refs/heads/{path.name}.lock" for path in sorted(git.glob("refs/heads/*")) if path.suffix != ".lock"]
    name = source.choice(["index.lock", "index.lock", "HEAD.lock", "config.lock", *branches])
    path = git / name
    if path.exists():
        raise Missed(f"{name} is there already")
    path.touch()
    return Effect(f"{name} left in the clone")


def leave_local_lock(world: World, source: random.Random) -> Effect:
    """Another `inv` holds the launch lock here and dies after a while; its words stay in the file."""
    seconds = source.uniform(0.2, 3.0)
    folder = world.project.path / ".podtasks"
    folder.mkdir(mode=0o700, exist_ok=True)
    words = [sys.executable, "-c", _LOCK_HOLDER, str(folder / "launch.lock")]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None

    def die() -> None:
        holder.kill()
        holder.wait()
        for pipe in (holder.stdin, holder.stdout):
            if pipe is not None:
                pipe.close()

    if not _is_readable(holder.stdout.fileno(), 1.0):
        die()
        raise Missed("an inv holds the lock itself")
    return Effect(f"launch.lock held by {holder.pid}, which dies after {seconds:.1f} s", undo=die, undo_after_s=seconds)


def _is_readable(descriptor: int, timeout_s: float) -> bool:
    import select

    return bool(select.select([descriptor], [], [], timeout_s)[0])


def leave_lease(world: World, source: random.Random) -> Effect:
    """Who prepares a launch dies, and its end does not reach the pod for a while: the lease has a dead holder."""
    seconds = source.uniform(0.5, 6.0)
    command, pod_id = require_command(world), running_pod(world)
    require_processes(world, "prepare.py")
    control(world, "POST", f"pods/{pod_id}/network", {"stall": "both", "stall_s": seconds})
    if not send([command], signal.SIGKILL):
        raise Missed("the command has just ended")
    what = f"the command {command} killed while it prepares; the pod hears of it after {seconds:.1f} s"
    return Effect(what, ends_command=True, excused_s=seconds)


def _strike(
    name: str,
    hit: Callable[[World, random.Random], Effect],
    weight: float = 1.0,
    moments: tuple[str, ...] = ("line", "step", "call", "time"),
) -> Strike:
    return Strike(f"volume/{name}", hit, moments=moments, weight=weight)


_EARLY = ("line", "call", "time")

STRIKES = (
    _strike("fill", fill),
    _strike("fill_at_log", fill_at_log, moments=("line", "step")),
    _strike("cut_checkpoint", cut_checkpoint, 1.5, moments=("line", "step", "time")),
    _strike("unreadable", unreadable),
    _strike("change_permission", change_permission),
    _strike("break_sync", break_sync, moments=_EARLY),
    _strike("half_fetched", half_fetched),
    _strike("leave_git_lock", leave_git_lock),
    _strike("leave_local_lock", leave_local_lock, moments=_EARLY),
    _strike("leave_lease", leave_lease, moments=("call", "time")),
)
