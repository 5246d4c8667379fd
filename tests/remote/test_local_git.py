"""The local repository's door, against real git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from podtasks.doors import git_questions, git_snapshot, local_git
from podtasks.pure.errors import CodeError

HOSTILE = "a b'c\"d;$(touch pwned)\nline"


def git(root: Path, *words: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", *words], cwd=root, input=stdin, capture_output=True, check=True)
    return os.fsdecode(done.stdout).strip()


def commit_all(root: Path, message: str = "Change") -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def git_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n"
        '[protocol "file"]\n\tallow = always\n[status]\n\tshowUntrackedFiles = no\n'
        "[diff]\n\tnoprefix = true\n[log]\n\tshowSignature = true\n"
    )
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / HOSTILE
    root.mkdir()
    git(root, "init", "-q")
    (root / "train.py").write_text("print('one')\n")
    commit_all(root, "First; $(echo no)")
    return root


@pytest.fixture
def origin(tmp_path: Path, repository: Path) -> Path:
    path = tmp_path / "origin's; repository.git"
    git(tmp_path, "init", "-q", "--bare", str(path))
    git(repository, "remote", "add", "origin", str(path))
    git(repository, "push", "-q", "-u", "origin", "main")
    return path


def advance_origin(tmp_path: Path, origin: Path) -> str:
    other = tmp_path / "colleague"
    git(tmp_path, "clone", "-q", "-b", "main", str(origin), str(other))
    (other / "more.py").write_text("2\n")
    commit = commit_all(other, "Colleague's")
    git(other, "push", "-q", "origin", "main")
    return commit


def test_root_is_found_from_a_folder_inside(repository: Path) -> None:
    (repository / "configs").mkdir()
    assert local_git.find_root(repository / "configs") == repository


def test_root_is_found_inside_a_git_hook(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert local_git.find_root(repository) == repository


def test_no_repository_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CodeError, match="not in a git repository") as error:
        local_git.find_root(tmp_path)
    assert "git init" in error.value.next_step


def test_bare_repository_is_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    with pytest.raises(CodeError, match="bare"):
        local_git.find_root(tmp_path / "bare.git")


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodeError, match="no directory"):
        local_git.find_root(tmp_path / "gone")


def test_no_commit_yet_says_how_to_make_one(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "empty")
    with pytest.raises(CodeError, match="Nothing has been committed") as error:
        local_git.resolve_revision(tmp_path / "empty", "local", None, "main", None)
    assert "git commit" in error.value.next_step


def test_missing_git_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CodeError, match="git is not installed"):
        local_git.find_root(repository)


def test_local_takes_head_on_the_current_branch(repository: Path) -> None:
    revision = local_git.resolve_revision(repository, "local", None, "other", None)
    assert (revision.commit, revision.branch) == (git(repository, "rev-parse", "HEAD"), "main")
    assert (revision.message, revision.dirty_paths, revision.notes) == ("First; $(echo no)", (), ())


def test_local_on_a_detached_head_takes_the_branch_of_the_settings(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    assert local_git.resolve_revision(repository, "local", None, "trunk", None).branch == "trunk"


def test_local_takes_the_tip_of_the_branch_asked_for(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "branch", "side;$(x)")
    (repository / "train.py").write_text("print('two')\n")
    commit_all(repository)
    (repository / "dirt").write_text("")
    revision = local_git.resolve_revision(repository, "local", "side;$(x)", "main", None)
    assert (revision.commit, revision.branch) == (first, "side;$(x)")
    assert "not part of" in revision.notes[0]


def test_local_refuses_a_branch_that_is_not_here(repository: Path) -> None:
    with pytest.raises(CodeError, match="no local branch 'gone'"):
        local_git.resolve_revision(repository, "local", "gone", "main", None)


@pytest.mark.parametrize("branch", ["--upload-pack=touch pwned", "-x", "a b", "a..b", "@{-1}", "HEAD", "", "a\nb"])
def test_hostile_branch_names_are_refused(repository: Path, origin: Path, branch: str) -> None:
    for code in ("local", "origin"):
        if branch:
            with pytest.raises(CodeError, match="not a name git allows"):
                local_git.resolve_revision(repository, code, branch, "main", str(origin))
    with pytest.raises(CodeError):
        git_questions.remote_tip(str(origin), branch, root=repository)
    assert not list(repository.parent.rglob("pwned"))


def test_local_with_uncommitted_changes_is_refused_and_lists_them(repository: Path) -> None:
    for number in range(10):
        (repository / f"new {number}").write_text("")
    (repository / "train.py").write_text("changed\n")
    (repository / ".gitignore").write_text("ignored\n")
    (repository / "ignored").write_text("")
    with pytest.raises(CodeError) as error:
        local_git.resolve_revision(repository, "local", None, "main", None)
    assert "train.py" in error.value.what and "and 4 more" in error.value.what
    assert "--code snapshot" in error.value.next_step


def test_data_that_git_does_not_know_belongs_into_gitignore(repository: Path) -> None:
    (repository / "data/audio").mkdir(parents=True)
    (repository / "data/audio/a.wav").write_text("")
    for folders in (["data"], ["data/audio"], ["data/audio/a.wav", "data/audio"]):
        with pytest.raises(CodeError) as error:
            local_git.resolve_revision(repository, "local", None, "main", None, data_folders=folders)
        assert f"put /{folders[-1]} into .gitignore" in error.value.next_step
        assert "inv sync-data" in error.value.next_step
    (repository / "new.py").write_text("")
    with pytest.raises(CodeError, match="These changes") as error:
        local_git.resolve_revision(repository, "local", None, "main", None, data_folders=["data"])
    assert ". The others: commit them" in error.value.next_step
    git(repository, "add", "data")
    with pytest.raises(CodeError) as error:
        local_git.resolve_revision(repository, "local", None, "main", None, data_folders=["data"])
    assert ".gitignore" not in error.value.next_step, "git tracks them already"


def test_staged_renamed_and_strange_paths_are_dirty(repository: Path) -> None:
    git(repository, "mv", "train.py", "moved -> train.py")
    (repository / HOSTILE).write_text("")
    assert sorted(git_questions.dirty_paths(repository)) == sorted(["moved -> train.py", "train.py", HOSTILE])


def test_snapshot_of_a_clean_tree_is_head(repository: Path) -> None:
    assert git_snapshot.snapshot(repository) == git(repository, "rev-parse", "HEAD")


def test_snapshot_holds_staged_changed_deleted_and_untracked_files(repository: Path) -> None:
    (repository / "keep.txt").write_text("keep\n")
    (repository / "gone.txt").write_text("gone\n")
    head = commit_all(repository)
    (repository / ".gitignore").write_text("secret\n")
    (repository / "secret").write_text("no\n")
    (repository / "train.py").write_text("print('changed')\n")
    (repository / "staged.bin").write_bytes(bytes(range(256)))
    git(repository, "add", "staged.bin")
    (repository / "gone.txt").unlink()
    (repository / HOSTILE).write_text("hostile\n")
    index = (repository / ".git/index").read_bytes()
    status = git(repository, "status", "--porcelain", "-uall")

    revision = local_git.resolve_revision(repository, "snapshot", None, "main", None)

    names = git(repository, "ls-tree", "-r", "-z", "--name-only", revision.commit).strip("\0").split("\0")
    assert sorted(names) == sorted([".gitignore", HOSTILE, "keep.txt", "staged.bin", "train.py"])
    assert git(repository, "show", f"{revision.commit}:train.py") == "print('changed')"
    assert git(repository, "rev-parse", f"{revision.commit}^") == head == git(repository, "rev-parse", "HEAD")
    assert git(repository, "rev-parse", f"refs/podtasks/snapshots/{revision.commit}") == revision.commit
    assert (repository / ".git/index").read_bytes() == index
    assert git(repository, "status", "--porcelain", "-uall") == status
    assert revision.dirty_paths


def test_snapshot_of_the_same_content_is_the_same_commit(repository: Path) -> None:
    (repository / "train.py").write_text("print('changed')\n")
    first = git_snapshot.snapshot(repository)
    os.utime(repository / "train.py", (1, 1))
    assert git_snapshot.snapshot(repository) == first


def test_snapshot_works_without_an_index_file(repository: Path) -> None:
    (repository / ".git/index").unlink()
    (repository / "new").write_text("")
    assert "new" in git(repository, "ls-tree", "--name-only", git_snapshot.snapshot(repository))


def test_snapshot_refuses_large_untracked_files(repository: Path) -> None:
    with (repository / "data.bin").open("wb") as file:
        file.truncate(101 * 10**6)
    with pytest.raises(CodeError, match=r"data\.bin' \(101 MB\)") as error:
        git_snapshot.snapshot(repository)
    assert ".gitignore" in error.value.next_step
    (repository / ".gitignore").write_text("data.bin\n")
    assert git_snapshot.snapshot(repository)


def test_snapshot_refuses_an_unfinished_merge(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "side")
    (repository / "train.py").write_text("side\n")
    commit_all(repository)
    git(repository, "checkout", "-q", "main")
    (repository / "train.py").write_text("main\n")
    commit_all(repository)
    subprocess.run(["git", "merge", "side"], cwd=repository, capture_output=True, check=False)
    with pytest.raises(CodeError, match=r"unfinished.*train\.py"):
        git_snapshot.snapshot(repository)


def test_snapshot_of_another_branch_is_refused(repository: Path) -> None:
    git(repository, "branch", "side")
    with pytest.raises(CodeError, match="checked-out work tree"):
        local_git.resolve_revision(repository, "snapshot", "side", "main", None)


def test_submodules_are_noted_in_local_mode(tmp_path: Path, repository: Path) -> None:
    library = tmp_path / "library"
    git(tmp_path, "init", "-q", "library")
    (library / "file").write_text("1\n")
    commit_all(library)
    git(repository, "submodule", "--quiet", "add", str(library), "vendor/lib")
    commit_all(repository)
    revision = local_git.resolve_revision(repository, "local", None, "main", None)
    assert "vendor/lib" in revision.notes[0]
    (repository / "vendor/lib/file").write_text("changed\n")
    with pytest.raises(CodeError, match="not committed"):
        local_git.resolve_revision(repository, "local", None, "main", None)


def test_git_lfs_files_are_noted_in_local_mode(repository: Path) -> None:
    (repository / ".gitattributes").write_text("*.bin filter=lfs\n")
    (repository / "weights.bin").write_text("pointer\n")
    commit_all(repository)
    assert "LFS" in local_git.resolve_revision(repository, "local", None, "main", None).notes[0]


def test_origin_takes_the_remote_tip(repository: Path, origin: Path) -> None:
    revision = local_git.resolve_revision(repository, "origin", None, "main", str(origin))
    assert (revision.commit, revision.branch) == (git(repository, "rev-parse", "HEAD"), "main")
    assert (revision.code, revision.notes) == ("origin", ())


def test_origin_with_an_unpushed_commit_is_refused(repository: Path, origin: Path) -> None:
    (repository / "train.py").write_text("print('two')\n")
    commit = commit_all(repository)
    with pytest.raises(CodeError, match=f"{commit[:12]} is not pushed") as error:
        local_git.resolve_revision(repository, "origin", None, "main", str(origin))
    assert "git push" in error.value.next_step


def test_origin_with_uncommitted_changes_is_refused(repository: Path, origin: Path) -> None:
    (repository / "train.py").write_text("print('two')\n")
    with pytest.raises(CodeError, match=r"not committed(.|\n)*train\.py"):
        local_git.resolve_revision(repository, "origin", None, "main", str(origin))


def test_origin_that_is_ahead_is_trained_and_said(tmp_path: Path, repository: Path, origin: Path) -> None:
    tip = advance_origin(tmp_path, origin)
    refs = git(repository, "for-each-ref")
    revision = local_git.resolve_revision(repository, "origin", None, "main", str(origin))
    assert revision.commit == tip
    assert "1 commits ahead" in revision.notes[0]
    assert git(repository, "for-each-ref") == refs
    assert not (repository / ".git/FETCH_HEAD").exists()


def test_origin_that_has_diverged_is_refused(tmp_path: Path, repository: Path, origin: Path) -> None:
    advance_origin(tmp_path, origin)
    (repository / "train.py").write_text("print('two')\n")
    commit_all(repository)
    with pytest.raises(CodeError, match="is not pushed"):
        local_git.resolve_revision(repository, "origin", None, "main", str(origin))


def test_origin_from_a_shallow_clone_behind_the_tip_is_fine(tmp_path: Path, origin: Path) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{origin}", str(shallow))
    tip = advance_origin(tmp_path, origin)
    assert local_git.resolve_revision(shallow, "origin", None, "main", str(origin)).commit == tip


def test_origin_on_another_branch_asks_which(repository: Path, origin: Path) -> None:
    git(repository, "checkout", "-q", "-b", "side")
    with pytest.raises(CodeError, match="on branch 'side'") as error:
        local_git.resolve_revision(repository, "origin", None, "main", str(origin))
    assert "--branch side or --branch main" in error.value.next_step
    assert local_git.resolve_revision(repository, "origin", "main", "main", str(origin)).branch == "main"


def test_origin_without_a_url_is_refused(repository: Path) -> None:
    with pytest.raises(CodeError, match="none is set") as error:
        local_git.resolve_revision(repository, "origin", None, "main", None)
    assert "set podtasks.repository" in error.value.next_step


def test_remote_without_the_branch_is_said(repository: Path, origin: Path) -> None:
    git(repository, "push", "-q", "origin", "main:refs/heads/x/refs/heads/gone")
    with pytest.raises(CodeError, match="no branch 'gone'") as error:
        git_questions.remote_tip(str(origin), "gone", root=repository)
    assert "git push -u origin gone" in error.value.next_step


@pytest.mark.parametrize("url", ["--upload-pack=touch pwned", "ext::touch% pwned", "/nowhere", "a\nb"])
def test_remote_that_cannot_be_reached_is_said(repository: Path, url: str) -> None:
    with pytest.raises(CodeError, match="could not be asked") as error:
        git_questions.remote_tip(url, "main", root=repository)
    assert "--code local" in error.value.next_step
    assert not (repository / "pwned").exists()


def test_password_in_a_url_is_never_told(repository: Path) -> None:
    with pytest.raises(CodeError) as error:
        git_questions.remote_tip("http://ada:hunter2@127.0.0.1:1/x.git", "main", root=repository)
    assert "hunter2" not in str(error.value)


def test_path_is_looked_up_at_the_commit(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    (repository / "later.yaml").write_text("")
    assert local_git.path_exists_at(repository, head, "./train.py") is True
    assert local_git.path_exists_at(repository, head, "later.yaml") is False
    assert local_git.path_exists_at(repository, head, "*.py") is False
    assert local_git.path_exists_at(repository, "0" * 40, "train.py") is None


def test_path_below_a_submodule_or_a_link_cannot_be_told(tmp_path: Path, repository: Path) -> None:
    git(tmp_path, "init", "-q", "library")
    (tmp_path / "library/file").write_text("1\n")
    commit_all(tmp_path / "library")
    git(repository, "submodule", "--quiet", "add", str(tmp_path / "library"), "vendor/a lib")
    (repository / "link").symlink_to("vendor")
    head = commit_all(repository)
    assert local_git.path_exists_at(repository, head, "vendor/a lib/file") is None
    assert local_git.path_exists_at(repository, head, "link/file") is None
    assert local_git.path_exists_at(repository, head, "vendor/file") is False


def index_pack(root: Path, pack: bytes) -> None:
    git(root, "index-pack", "--stdin", "--fix-thin", stdin=pack)


def test_pack_brings_the_commit_and_only_what_is_missing(tmp_path: Path, repository: Path) -> None:
    (repository / "big.txt").write_bytes(os.urandom(200_000))
    first = commit_all(repository)
    (repository / "train.py").write_text("print('two')\n")
    second = commit_all(repository)
    git(tmp_path, "init", "-q", "pod")
    with local_git.open_pack(repository, first, ["f" * 40, "--all; $(x)"]) as process:
        assert process.stdout is not None
        whole = process.stdout.read()
    with local_git.open_pack(repository, second, [first]) as process:
        assert process.stdout is not None
        rest = process.stdout.read()
    assert len(rest) < 2000 < len(whole)
    for pack in (whole, rest):
        index_pack(tmp_path / "pod", pack)
    git(tmp_path / "pod", "checkout", "-q", second)
    assert (tmp_path / "pod/train.py").read_text() == "print('two')\n"


def test_pack_from_a_shallow_clone_arrives_with_its_boundary(tmp_path: Path, repository: Path) -> None:
    (repository / "train.py").write_text("print('two')\n")
    tip = commit_all(repository)
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", "shallow")
    assert local_git.shallow_commits(repository) == ()
    assert local_git.shallow_commits(tmp_path / "shallow") == (tip,)
    with local_git.open_pack(tmp_path / "shallow", tip, []) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"PACK"
    assert process.poll() is not None  # left half read: ended all the same


def test_pack_of_a_damaged_repository_is_an_error(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    blob = git(repository, "rev-parse", "HEAD:train.py")
    (repository / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with (
        pytest.raises(CodeError, match="could not pack"),
        local_git.open_pack(repository, head, []) as process,
    ):
        assert process.stdout is not None
        process.stdout.read()


def test_untracked_files_that_vanish_do_not_count(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "new").write_text("")
    monkeypatch.setattr(git_snapshot, "untracked_files", lambda _root: ["vanished", "new"])
    assert git_snapshot.snapshot(repository)
