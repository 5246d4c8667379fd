"""sync_code.py, run as the client runs it, against real git."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "remote" / "sync_code.py"
HOSTILE = "a b'c\"d;$(touch pwned)\nline"
BRANCH = "fix/it's;$(touch$IFS)pwned"


def git(root: Path, *words: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", *words], cwd=root, input=stdin, capture_output=True, check=True)
    return os.fsdecode(done.stdout).strip()


@dataclass
class Local:
    """The user's repository."""

    root: Path

    def commit(self, **files: str | bytes | None) -> str:
        """Commit files given as keyword arguments; `None` removes one. `__` stands for a dot."""
        for key, content in files.items():
            path = self.root / key.replace("__", ".")
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        git(self.root, "add", "-A", "-f")
        git(self.root, "commit", "-q", "--allow-empty", "-m", "Change")
        return git(self.root, "rev-parse", "HEAD")

    def pack(self, commit: str, have: tuple[str, ...] = ()) -> bytes:
        wanted = "".join(f"{line}\n" for line in [commit, *(f"^{known}" for known in have)])
        words = ["git", "pack-objects", "--revs", "--stdout", "--thin", "-q"]
        return subprocess.run(words, cwd=self.root, input=wanted.encode(), stdout=subprocess.PIPE, check=True).stdout


@dataclass
class Pod:
    """A volume with a clone on it, and the program that syncs it."""

    volume: Path
    clone: Path
    environment: dict[str, str] = field(default_factory=dict)
    stderr: str = ""

    def run(self, request: dict[str, Any], pack: bytes = b"") -> tuple[int, dict[str, Any]]:
        both = {"clone": str(self.clone), "url": None, "branch": "main", "shallow": [], "pack": bool(pack), **request}
        done = subprocess.run(
            [sys.executable, str(PROGRAM)],
            input=json.dumps(both).encode() + b"\n" + pack,
            capture_output=True,
            env={**os.environ, "PODTASKS_VOLUME": str(self.volume), **self.environment},
            check=False,
            cwd="/",
        )
        self.stderr = done.stderr.decode()
        assert done.returncode in (0, 20), self.stderr
        lines = done.stdout.decode().splitlines()
        assert len(lines) == 1, lines
        return done.returncode, json.loads(lines[0])

    def sync(self, **request: object) -> dict[str, Any]:
        pack = request.pop("pack", b"")
        assert isinstance(pack, bytes)
        code, answer = self.run({"code": "local", **request}, pack)
        assert code == 0, (answer, self.stderr)
        assert self.head() == request["commit"]
        assert git(self.clone, "symbolic-ref", "--short", "HEAD") == request.get("branch", "main")
        assert git(self.clone, "status", "--porcelain", "--untracked-files=no") == ""
        return answer

    def refusal(self, **request: object) -> str:
        pack = request.pop("pack", b"")
        assert isinstance(pack, bytes)
        code, answer = self.run({"code": "local", **request}, pack)
        assert (code, sorted({"set_aside", *answer})) == (20, ["detail", "error", "set_aside"])
        return str(answer["error"])

    def head(self) -> str:
        return git(self.clone, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def git_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n"
        '[protocol "file"]\n\tallow = always\n[diff]\n\tnoprefix = true\n'
    )
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture
def local(tmp_path: Path) -> Local:
    root = tmp_path / "local"
    git(tmp_path, "init", "-q", "local")
    made = Local(root)
    made.commit(train__py="print('one')\n", data__bin=bytes(range(256)))
    return made


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    volume = tmp_path / "volume"
    volume.mkdir()
    return Pod(volume, volume / "clone")


@pytest.fixture
def synced(pod: Pod, local: Local) -> str:
    """The commit that the pod's clone is at."""
    commit = git(local.root, "rev-parse", "HEAD")
    pod.sync(commit=commit, pack=local.pack(commit))
    return commit


def test_first_sync_makes_the_clone_on_the_branch(pod: Pod, local: Local) -> None:
    commit = git(local.root, "rev-parse", "HEAD")
    answer = pod.sync(commit=commit, pack=local.pack(commit))
    assert answer == {
        "commit": commit,
        "cloned": True,
        "changed": True,
        "patch": None,
        "kept_ref": None,
        "overwritten": [],
    }
    assert (pod.clone / "train.py").read_text() == "print('one')\n"


def test_hostile_clone_path_and_branch_work(pod: Pod, local: Local, tmp_path: Path) -> None:
    pod.clone = pod.volume / HOSTILE
    commit = git(local.root, "rev-parse", "HEAD")
    pod.sync(commit=commit, branch=BRANCH, pack=local.pack(commit))
    (pod.clone / "train.py").write_text("edited\n")
    answer = pod.sync(commit=commit, branch=BRANCH)
    assert Path(answer["patch"]).read_text().count("+edited") == 1
    assert not list(tmp_path.rglob("pwned"))


def test_thin_pack_brings_the_next_commit(pod: Pod, local: Local, synced: str) -> None:
    commit = local.commit(train__py="print('two')\n")
    answer = pod.sync(commit=commit, pack=local.pack(commit, (synced,)))
    assert (answer["cloned"], answer["changed"], answer["patch"], answer["kept_ref"]) == (False, True, None, None)
    assert (pod.clone / "train.py").read_text() == "print('two')\n"


def test_unchanged_commit_is_left_alone_with_two_git_calls(pod: Pod, synced: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pod.environment["GIT_TRACE"] = str(trace)
    assert pod.sync(commit=synced)["changed"] is False
    assert trace.read_text().count("trace: built-in") == 2


def test_edits_are_saved_as_a_patch_that_applies(pod: Pod, local: Local, synced: str) -> None:
    (pod.clone / "train.py").write_text("print('edited')\n")
    (pod.clone / "data.bin").write_bytes(bytes(range(255, -1, -1)))
    (pod.clone / "staged new.py").write_text("staged\n")
    git(pod.clone, "add", "staged new.py", "train.py")
    answer = pod.sync(commit=synced)
    assert Path(answer["patch"]).parent == pod.volume / "runs/saved"
    assert answer["changed"] is False
    assert "edits found" in pod.stderr
    assert (pod.clone / "train.py").read_text() == "print('one')\n"
    git(local.root, "apply", answer["patch"])
    assert (local.root / "train.py").read_text() == "print('edited')\n"
    assert (local.root / "data.bin").read_bytes() == bytes(range(255, -1, -1))
    assert (local.root / "staged new.py").read_text() == "staged\n"


def test_what_was_staged_and_then_changed_again_is_saved_too(pod: Pod, synced: str) -> None:
    (pod.clone / "train.py").write_text("staged version\n")
    git(pod.clone, "add", "train.py")
    (pod.clone / "train.py").write_text("print('one')\n")  # as committed: only the index knows the edit
    answer = pod.sync(commit=synced)
    assert "+staged version" in Path(answer["patch"]).read_text()


def test_two_syncs_in_one_second_save_two_patches(pod: Pod, synced: str) -> None:
    patches = set()
    for text in ("first", "second"):
        (pod.clone / "train.py").write_text(text)
        patches.add(pod.sync(commit=synced)["patch"])
    assert len(patches) == 2


def test_untracked_files_in_the_way_are_put_aside_and_others_stay(pod: Pod, local: Local, synced: str) -> None:
    (pod.clone / ".git/info").mkdir(exist_ok=True)
    (pod.clone / ".git/info/exclude").write_text("ignored.txt\n")
    for name in ("new.py", "ignored.txt", "unrelated.txt"):
        (pod.clone / name).write_text("mine\n")
    (pod.clone / "same.py").write_text("same\n")
    (pod.clone / "folder").write_text("a file where a folder comes\n")
    (pod.clone / "file").mkdir()
    (pod.clone / "file" / "inside").write_text("a folder where a file comes\n")
    commit = local.commit(
        **{"new__py": "2\n", "ignored__txt": "2\n", "same__py": "same\n", "folder/x": "2\n", "file": "2\n"}
    )
    answer = pod.sync(commit=commit, pack=local.pack(commit, (synced,)))
    assert sorted(answer["overwritten"]) == ["file", "folder", "ignored.txt", "new.py"]
    (saved,) = (pod.volume / "runs/saved").iterdir()
    assert (saved / "new.py").read_text() == "mine\n"
    assert (saved / "file/inside").read_text() == "a folder where a file comes\n"
    assert (pod.clone / "unrelated.txt").read_text() == "mine\n"


def test_commit_made_on_the_pod_is_kept(pod: Pod, local: Local, synced: str) -> None:
    (pod.clone / "train.py").write_text("made on the pod\n")
    git(pod.clone, "commit", "-q", "-am", "On the pod")
    made = pod.head()
    commit = local.commit(train__py="print('two')\n")
    answer = pod.sync(commit=commit, pack=local.pack(commit, (synced,)))
    assert answer["kept_ref"] == f"refs/podtasks/kept/{made}"
    assert git(pod.clone, "rev-parse", answer["kept_ref"]) == made


def test_commit_on_a_detached_head_is_kept(pod: Pod, synced: str) -> None:
    git(pod.clone, "checkout", "-q", "--detach")
    git(pod.clone, "commit", "-q", "--allow-empty", "-m", "Detached")
    made = pod.head()
    assert pod.sync(commit=synced)["kept_ref"] == f"refs/podtasks/kept/{made}"


def test_snapshot_that_we_sent_is_not_reported_as_made_on_the_pod(pod: Pod, local: Local, synced: str) -> None:
    for text in ("snapshot one", "snapshot two"):
        git(local.root, "reset", "-q", "--hard", synced)
        commit = local.commit(train__py=text)
        assert pod.sync(commit=commit, pack=local.pack(commit, (synced,)))["kept_ref"] is None


def test_branch_can_change_to_a_name_below_the_old_one(pod: Pod, synced: str) -> None:
    pod.sync(commit=synced, branch="feature")
    pod.sync(commit=synced, branch="feature/x")
    pod.sync(commit=synced, branch="feature")
    assert git(pod.clone, "rev-parse", "main") == synced


def test_other_branches_stay_where_they_are(pod: Pod, synced: str) -> None:
    git(pod.clone, "checkout", "-q", "-b", "mine")
    git(pod.clone, "commit", "-q", "--allow-empty", "-m", "Mine")
    made = pod.head()
    assert pod.sync(commit=synced)["kept_ref"] is None
    assert git(pod.clone, "rev-parse", "mine") == made


def test_unfinished_merge_with_conflicts_is_saved_and_ended(pod: Pod, synced: str) -> None:
    git(pod.clone, "checkout", "-q", "-b", "side")
    (pod.clone / "train.py").write_text("side\n")
    git(pod.clone, "commit", "-q", "-am", "Side")
    git(pod.clone, "checkout", "-q", "main")
    (pod.clone / "train.py").write_text("main\n")
    git(pod.clone, "commit", "-q", "-am", "Main")
    subprocess.run(["git", "merge", "side"], cwd=pod.clone, capture_output=True, check=False)
    pod.sync(commit=synced)
    saved = [path.read_text() for path in (pod.volume / "runs/saved").rglob("train.py")]
    assert any("<<<<<<<" in text for text in saved)
    assert not (pod.clone / ".git/MERGE_HEAD").exists()


def test_link_from_the_volume_over_a_tracked_folder_is_no_edit(pod: Pod, local: Local, synced: str) -> None:
    commit = local.commit(**{"checkpoints/__gitkeep": ""})
    pod.sync(commit=commit, pack=local.pack(commit, (synced,)))
    outside = pod.volume / "checkpoints"
    outside.mkdir()
    (outside / "weights").write_text("weights")
    (outside / ".gitkeep").write_text("theirs")
    (pod.clone / "checkpoints/.gitkeep").unlink()
    (pod.clone / "checkpoints").rmdir()
    (pod.clone / "checkpoints").symlink_to(outside)
    code, answer = pod.run({"code": "local", "commit": commit})
    assert (code, answer["patch"], answer["changed"]) == (0, None, False)
    assert (pod.clone / "checkpoints").is_symlink()
    second = local.commit(**{"checkpoints/__gitkeep": "changed", "train__py": "2"})
    answer = pod.sync(commit=second, pack=local.pack(second, (commit,)))
    assert (answer["patch"], answer["overwritten"]) == (None, [])
    assert (outside / "weights").read_text() == "weights"
    assert (outside / ".gitkeep").read_text() == "theirs"


def test_locks_and_half_packs_of_dead_processes_are_removed(pod: Pod, local: Local, synced: str) -> None:
    leftovers = ["index.lock", "HEAD.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x", "shallow.lock"]
    for name in leftovers:
        (pod.clone / ".git" / name).write_text("")
    commit = local.commit(train__py="2")
    pod.sync(commit=commit, pack=local.pack(commit, (synced,)))
    assert not any((pod.clone / ".git" / name).exists() for name in leftovers)
    assert "left by a git that is gone" in pod.stderr


def test_lock_of_a_living_git_is_respected(pod: Pod, synced: str) -> None:
    lock = pod.clone / ".git/index.lock"
    with subprocess.Popen(["git", "cat-file", "--batch"], cwd=pod.clone, stdin=subprocess.PIPE) as process:
        lock.write_text("")
        pod.environment["PODTASKS_GIT_WAIT_S"] = "0.2"
        error = pod.refusal(commit=synced)
        assert f"process {process.pid}" in error and "cat-file --batch" in error
        assert lock.exists()
        process.kill()
    pod.sync(commit=synced)


@pytest.mark.parametrize("broken", ["HEAD", "config", "index", "objects", "refs", "refs/heads/main"])
def test_half_made_clone_is_mended(pod: Pod, local: Local, synced: str, broken: str) -> None:
    path = pod.clone / ".git" / broken
    if path.is_dir():
        subprocess.run(["rm", "-r", str(path)], check=True)
    else:
        path.write_bytes(b"")
    code, answer = pod.run({"code": "local", "commit": synced}, local.pack(synced))
    if code == 20:
        assert Path(answer["set_aside"]).is_dir()
    pod.sync(commit=synced, pack=local.pack(synced))
    assert (pod.clone / "train.py").read_text() == "print('one')\n"


def test_branch_that_a_crash_left_empty_is_put_back_and_edits_are_saved(pod: Pod, local: Local, synced: str) -> None:
    (pod.clone / ".git/refs/heads/main").write_bytes(b"")
    [mark] = (pod.clone / ".git/refs/podtasks/synced").iterdir()
    (pod.clone / "train.py").write_text("print('edited')\n")
    answer = pod.sync(commit=synced)
    assert "refs/heads/main of the clone is broken" in pod.stderr
    assert "print('edited')" in Path(answer["patch"]).read_text() and answer["overwritten"] == []

    mark.write_bytes(b"")
    (pod.clone / ".git/refs/heads/main").write_bytes(b"")
    commit = local.commit(train__py="print('two')\n")
    pod.sync(commit=commit, pack=local.pack(commit))
    assert mark.read_text().strip() == commit


def test_damaged_objects_are_set_aside_and_the_next_sync_is_whole(pod: Pod, local: Local, synced: str) -> None:
    for pack in (pod.clone / ".git/objects/pack").glob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"")
    (pod.clone / "notes.txt").write_text("mine")
    (pod.clone / "data.bin").write_text("edited")
    commit = local.commit(train__py="2")
    assert "The pod's clone was damaged" in pod.refusal(commit=commit, pack=local.pack(commit, (synced,)))
    pod.sync(commit=commit, pack=local.pack(commit))
    assert list((pod.volume / "runs/saved").glob("*-git/HEAD"))
    assert (pod.clone / "notes.txt").read_text() == "mine"
    assert [path.read_text() for path in (pod.volume / "runs/saved").rglob("data.bin")] == ["edited"]


@pytest.mark.parametrize(
    "said",
    [
        "error: packfile objects/pack/pack-1.pack does not match index",
        "fatal: reference is not a tree: 145005091205111ec22d6343893cb4c5b13b5e24",
        "fatal: update_ref failed: trying to write ref 'refs/podtasks/x' with nonexistent object 145005091205",
    ],
)
def test_what_git_says_of_a_damaged_clone_is_known(said: str) -> None:
    assert is_damage(said)


def test_a_branch_that_is_not_there_is_no_damage() -> None:
    assert not is_damage("fatal: couldn't find remote ref main")


def is_damage(said: str) -> bool:
    program = "import pod_clone, sys; print(pod_clone.GitFailed(('checkout',), sys.argv[1]).is_damage)"
    words = [sys.executable, "-c", program, said]
    return subprocess.run(words, cwd=PROGRAM.parent, check=True, capture_output=True, text=True).stdout == "True\n"


def test_checkout_killed_half_way_is_finished_without_false_edits(pod: Pod, local: Local, synced: str) -> None:
    commit = local.commit(train__py="two\n", data__bin=b"two", new__py="new\n" * 50, other__py="other\n")
    git(pod.clone, "index-pack", "--stdin", "--fix-thin", stdin=local.pack(commit, (synced,)))
    marker = {"commit": commit, "patch": "/saved/earlier.patch", "kept_ref": None, "overwritten": ["a"]}
    (pod.clone / ".git/podtasks-checkout.json").write_text(json.dumps(marker))
    (pod.clone / "train.py").write_text("two\n")
    (pod.clone / "data.bin").write_bytes(b"tw")  # git was killed while it wrote this
    (pod.clone / "new.py").write_text("new\n" * 20)
    (pod.clone / ".git/index.lock").write_text("")
    answer = pod.sync(commit=commit)
    assert (answer["patch"], answer["overwritten"]) == ("/saved/earlier.patch", ["a"])
    assert (pod.clone / "new.py").read_text() == "new\n" * 50
    assert not (pod.volume / "runs/saved").exists()
    assert pod.sync(commit=commit)["patch"] is None


def test_edit_made_after_a_killed_checkout_is_saved(pod: Pod, local: Local, synced: str) -> None:
    commit = local.commit(train__py="two\n")
    git(pod.clone, "index-pack", "--stdin", "--fix-thin", stdin=local.pack(commit, (synced,)))
    (pod.clone / ".git/podtasks-checkout.json").write_text(json.dumps({"commit": commit}))
    (pod.clone / "train.py").write_text("a real edit\n")
    assert "+a real edit" in Path(pod.sync(commit=commit)["patch"]).read_text()


@pytest.mark.parametrize("step", range(1, 26, 3))
def test_sync_killed_at_any_git_command_can_be_run_again(
    pod: Pod, local: Local, synced: str, step: int, tmp_path: Path
) -> None:
    """A git in front of the real one kills its parent, the program, at the given call."""
    commit = local.commit(train__py="two\n", **{"folder/new__py": "new\n"})
    pack = local.pack(commit, (synced,))
    (pod.clone / "train.py").write_text("an edit\n")
    folder, count = tmp_path / "bin", tmp_path / "count"
    folder.mkdir()
    real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
    (folder / "git").write_text(
        f'#!/bin/bash\necho >> "{count}"\n[ "$(wc -l < "{count}")" -ge {step} ] && kill -9 $PPID\nexec {real} "$@"\n'
    )
    (folder / "git").chmod(0o755)
    request = {"clone": str(pod.clone), "code": "local", "url": None, "branch": "main", "commit": commit}
    subprocess.run(
        [sys.executable, str(PROGRAM)],
        input=json.dumps({**request, "shallow": [], "pack": True}).encode() + b"\n" + pack,
        env={**os.environ, "PODTASKS_VOLUME": str(pod.volume), "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        check=False,
    )
    pod.sync(commit=commit, pack=pack)
    patches = list((pod.volume / "runs/saved").glob("*.patch"))
    assert any("+an edit" in patch.read_text() for patch in patches)
    assert (pod.clone / "folder/new.py").read_text() == "new\n"


def test_pack_that_breaks_off_is_refused_and_sent_again(pod: Pod, local: Local) -> None:
    commit = local.commit(big=os.urandom(100_000))
    pack = local.pack(commit)
    assert "broke off" in pod.refusal(commit=commit, pack=pack[: len(pack) // 2])
    pod.sync(commit=commit, pack=pack)


def test_thin_pack_whose_base_is_missing_leads_to_a_whole_one(pod: Pod, local: Local) -> None:
    base = local.commit(text="line\n" * 5000)
    commit = local.commit(text="line\n" * 5000 + "more\n")
    assert "The pod's clone was damaged" in pod.refusal(commit=commit, pack=local.pack(commit, (base,)))
    pod.sync(commit=commit, pack=local.pack(commit))


def test_commit_that_was_not_sent_is_refused(pod: Pod, synced: str) -> None:
    assert "was not sent" in pod.refusal(commit="f" * 40)
    assert pod.head() == synced


@pytest.mark.parametrize("branch", ["--upload-pack=touch pwned", "-x", "a b", "a..b", "HEAD", "", "a\nb"])
def test_hostile_branch_names_are_refused(pod: Pod, synced: str, branch: str) -> None:
    assert "not a name git allows" in pod.refusal(commit=synced, branch=branch)


def test_commit_that_is_no_full_name_is_refused(pod: Pod, synced: str) -> None:
    assert "not a full commit name" in pod.refusal(commit="--help")
    assert "not a full commit name" in pod.refusal(commit=synced[:12])


def test_file_where_the_clone_should_be_is_refused(pod: Pod) -> None:
    pod.clone.write_text("a file")
    assert "is a file" in pod.refusal(commit="f" * 40)
    assert pod.clone.read_text() == "a file"


def test_folder_without_git_becomes_the_clone_and_loses_nothing(pod: Pod, local: Local) -> None:
    git(pod.volume, "init", "-q")  # a repository above must not be taken for the clone
    pod.clone.mkdir()
    (pod.clone / "train.py").write_text("somebody's\n")
    (pod.clone / "data.bin").write_bytes(bytes(range(256)))
    commit = git(local.root, "rev-parse", "HEAD")
    answer = pod.sync(commit=commit, pack=local.pack(commit))
    assert answer["overwritten"] == ["train.py"]
    assert [path.read_text() for path in (pod.volume / "runs").rglob("train.py")] == ["somebody's\n"]
    assert git(pod.volume, "for-each-ref") == ""


def test_shallow_history_arrives_cut_off_and_can_grow(pod: Pod, local: Local, tmp_path: Path) -> None:
    first = local.commit(train__py="two\n")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{local.root}", "shallow")
    shallow = Local(tmp_path / "shallow")
    pod.sync(commit=first, pack=shallow.pack(first), shallow=[first, "not a commit"])
    assert git(pod.clone, "rev-list", "--count", "HEAD") == "1"
    second = shallow.commit(train__py="three\n")
    pod.sync(commit=second, pack=shallow.pack(second, (first,)), shallow=[first])
    assert git(pod.clone, "rev-list", "--count", "HEAD") == "2"
    git(pod.clone, "fsck", "--no-dangling")


def test_shallow_boundary_does_not_cut_history_that_is_there(pod: Pod, local: Local, synced: str) -> None:
    commit = local.commit(train__py="two\n")
    pod.sync(commit=commit, pack=local.pack(commit, (synced,)), shallow=[commit])
    assert git(pod.clone, "rev-list", "--count", "HEAD") == "2"


def test_clone_that_somebody_else_owns_is_trusted(pod: Pod, local: Local, synced: str) -> None:
    for path in [pod.clone, *pod.clone.rglob("*")]:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    commit = local.commit(train__py="two\n")
    code, answer = pod.run({"code": "local", "commit": commit}, local.pack(commit, (synced,)))
    assert (code, answer["changed"]) == (0, True)
    assert (pod.clone / "train.py").read_text() == "two\n"


@pytest.fixture
def origin(tmp_path: Path, local: Local) -> str:
    path = tmp_path / "origin's; $(repository).git"
    git(tmp_path, "init", "-q", "--bare", str(path))
    git(local.root, "remote", "add", "origin", str(path))
    git(local.root, "push", "-q", "origin", "main")
    return str(path)


def test_origin_fetches_the_branch_and_names_the_remote(pod: Pod, local: Local, origin: str) -> None:
    first = git(local.root, "rev-parse", "HEAD")
    assert pod.sync(code="origin", url=origin, commit=first)["cloned"] is True
    second = local.commit(train__py="two\n")
    git(local.root, "push", "-q", "origin", "main")
    assert pod.sync(code="origin", url=origin, commit=second)["changed"] is True
    assert git(pod.clone, "remote", "get-url", "origin") == origin
    assert git(pod.clone, "rev-parse", "origin/main") == second
    assert pod.sync(code="origin", url=origin, commit=first)["changed"] is True
    assert pod.sync(code="origin", url=origin, commit=first)["changed"] is False


def test_origin_that_was_force_pushed_is_followed(pod: Pod, local: Local, origin: str) -> None:
    first = git(local.root, "rev-parse", "HEAD")
    pod.sync(code="origin", url=origin, commit=first)
    git(local.root, "commit", "-q", "--amend", "-m", "Rewritten")
    git(local.root, "push", "-q", "--force", "origin", "main:main", "main:main2/x")
    second = git(local.root, "rev-parse", "HEAD")
    assert pod.sync(code="origin", url=origin, commit=second)["kept_ref"] is None
    git(local.root, "push", "-q", "origin", ":main2/x", "main:main2")
    pod.sync(code="origin", url=origin, commit=second, branch="main2/x")
    pod.sync(code="origin", url=origin, commit=second, branch="main2")


def test_origin_without_the_commit_is_refused(pod: Pod, local: Local, origin: str) -> None:
    unpushed = local.commit(train__py="two\n")
    error = pod.refusal(code="origin", url=origin, commit=unpushed)
    assert f"Commit {unpushed} is not on branch 'main'" in error and "--code local" in error


def test_origin_without_the_branch_is_refused(pod: Pod, origin: str) -> None:
    assert "no branch 'gone'" in pod.refusal(code="origin", url=origin, branch="gone", commit="f" * 40)


@pytest.mark.parametrize("url", ["--upload-pack=touch pwned", "ext::touch% pwned", "/nowhere/x.git", "", None])
def test_origin_at_an_impossible_address_is_refused(pod: Pod, url: str | None, tmp_path: Path) -> None:
    error = pod.refusal(code="origin", url=url, commit="f" * 40)
    assert "--code local" in error or "No repository URL" in error
    assert not list(tmp_path.rglob("pwned"))


def test_password_in_the_url_is_never_told(pod: Pod) -> None:
    error = pod.refusal(code="origin", url="http://ada:hunter2@127.0.0.1:1/x.git", commit="f" * 40)
    assert "hunter2" not in error + pod.stderr


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        ("Host key verification failed.", "ssh -T git@github.com"),
        ("git@github.com: Permission denied (publickey).", "ssh-add -l"),
        ("ssh: connect to host x port 22: Connection refused", "cannot be fetched from"),
    ],
)
def test_ssh_failures_are_explained(pod: Pod, tmp_path: Path, complaint: str, said: str) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "{complaint}" >&2\nexit 255\n')
    ssh.chmod(0o755)
    pod.environment["GIT_SSH_COMMAND"] = str(ssh)
    assert said in pod.refusal(code="origin", url="git@github.com:x/y.git", commit="f" * 40)


def test_ssh_checks_host_keys_and_never_asks(pod: Pod, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/words"\nexit 255\n')
    (folder / "ssh").chmod(0o755)
    pod.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    pod.refusal(code="origin", url="git@github.com:x/y.git", commit="f" * 40)
    words = (tmp_path / "words").read_text()
    assert "BatchMode=yes" in words and "StrictHostKeyChecking=yes" in words


def test_origin_brings_submodules_at_their_commits(pod: Pod, local: Local, origin: str, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "library")
    library = Local(tmp_path / "library")
    library.commit(value="one")
    git(local.root, "submodule", "--quiet", "add", str(library.root), "vendor/a library")
    first = local.commit()
    git(local.root, "push", "-q", "origin", "main")
    pod.sync(code="origin", url=origin, commit=first)
    assert (pod.clone / "vendor/a library/value").read_text() == "one"
    library.commit(value="two")
    git(local.root / "vendor/a library", "pull", "-q")
    second = local.commit()
    git(local.root, "push", "-q", "origin", "main")
    pod.sync(code="origin", url=origin, commit=second)
    assert (pod.clone / "vendor/a library/value").read_text() == "two"


def test_broken_off_fetch_goes_on_after_the_orphan_has_finished(pod: Pod, synced: str) -> None:
    (pod.clone / ".git/objects/pack/tmp_pack_orphan").write_text("")
    with subprocess.Popen(["git", "cat-file", "--batch"], cwd=pod.clone, stdin=subprocess.PIPE) as orphan:
        request = {"clone": str(pod.clone), "code": "local", "branch": "main", "commit": synced}
        with subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PODTASKS_VOLUME": str(pod.volume)},
        ) as sync:
            assert sync.stdin and sync.stderr and sync.stdout
            sync.stdin.write(json.dumps(request).encode() + b"\n")
            sync.stdin.close()
            assert b"waiting for git" in sync.stderr.readline()
            orphan.send_signal(signal.SIGKILL)
            orphan.wait()
            answer = json.loads(sync.stdout.read())
            assert b"tmp_pack_orphan" in sync.stderr.read()
    assert answer["changed"] is False
