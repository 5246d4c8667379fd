"""Any words through the shells there are, and apart again as a shell takes them apart."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from podtasks.pure.errors import UsageError
from podtasks.pure.pod_programs import PodFolders, build_guarded_command, build_program_command
from podtasks.pure.run import build_words
from podtasks.pure.shell import Raw, command_line, quote, split_args
from tests.properties.hostile import SAMPLES, WORDS
from tests.properties.profile import examples

SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh", "busybox") if shutil.which(shell)]
LISTS = st.lists(WORDS, min_size=1, max_size=12)
# What a shell and split_args must agree on: no expansion, no operator, no comment, no second line.
SIMPLE = st.text(st.sampled_from("ab=,.-/ '\"\\\t\u00e9"), max_size=20)


def run(shell: str, script: str) -> list[str]:
    """Return what a script prints, each text ended by NUL; nothing may stand on standard error."""
    words = [shell, "sh"] if shell == "busybox" else [shell]
    done = subprocess.run(
        [*words, "-c", script.encode("utf-8", "surrogateescape")], capture_output=True, check=False, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return [text.decode("utf-8", "surrogateescape") for text in done.stdout.split(b"\0")[:-1]]


def test_the_posix_shell_and_bash_are_tried() -> None:
    assert {"sh", "bash"} <= set(SHELLS)


@pytest.mark.parametrize("shell", SHELLS)
@examples(12)
@given(LISTS)
@example(SAMPLES)
def test_any_words_reach_a_real_shell_unchanged(shell: str, words: list[str]) -> None:
    assert run(shell, command_line(["printf", "%s\\0", *words])) == words


@pytest.mark.parametrize("shell", SHELLS)
@examples(12)
@given(WORDS, WORDS)
def test_any_value_is_set_in_the_environment_and_nothing_else(shell: str, value: str, other: str) -> None:
    line = command_line(["env", f"ONE={value}", f"TWO={other}", "sh", "-c", 'printf "%s\\0" "$ONE" "$TWO"'])
    assert run(shell, line) == [value, other]


@examples(12)
@given(LISTS)
def test_any_words_survive_two_shells(words: list[str]) -> None:
    inner = command_line(["printf", "%s\\0", *words])
    assert run("sh", command_line(["bash", "-c", inner])) == words


@examples(12)
@given(WORDS, st.lists(WORDS, max_size=3))
def test_raw_text_is_for_the_shell_and_what_stands_beside_it_is_not(word: str, words: list[str]) -> None:
    line = command_line(["printf", "%s\\0", word, Raw("&&"), "printf", "%s\\0", "end", *words, Raw("2>&1")])
    assert run("sh", line) == [word, "end", *words]


@examples(200)
@given(LISTS)
def test_split_args_undoes_command_line(words: list[str]) -> None:
    assert split_args(command_line(words)) == words
    assert split_args(quote(words[0])) == [words[0]]


@examples(60)
@given(st.lists(SIMPLE, min_size=1, max_size=12))
def test_split_args_takes_apart_what_a_shell_takes_apart(texts: list[str]) -> None:
    accepted = []
    for text in texts:
        try:
            accepted.append((text, split_args(text)))
        except UsageError as error:
            assert error.next_step
            refused = subprocess.run(["sh", "-c", f"set -f; : {text}\n:"], capture_output=True, check=False)
            assert refused.returncode != 0 or text.endswith("\\"), "refused, though a shell takes it"
    script = "count() { printf '%s\\0' \"$#\" \"$@\"; }; set -f\n" + "\n".join(f"count {text}" for text, _ in accepted)
    expected = [word for _, words in accepted for word in (str(len(words)), *words)]
    assert run("sh", script) == expected


@examples(300)
@given(st.text(max_size=40))
def test_split_args_of_any_text_is_words_or_a_usage_error(text: str) -> None:
    try:
        assert all(isinstance(word, str) for word in split_args(text))
    except UsageError as error:
        assert error.next_step


@examples(200)
@given(WORDS, st.sampled_from(["--config", "--config=", "", "-c"]), WORDS, LISTS)
def test_training_command_holds_the_users_words_as_they_are(
    script: str, flag: str, config: str, words: list[str]
) -> None:
    built = build_words(script, flag, config, command_line(words))
    expected = {"--config=": [f"--config={config}"], "": [config]}.get(flag, [flag, config])
    assert list(built) == [script, *expected, *words]


@examples(12)
@given(WORDS, WORDS, WORDS)
def test_program_command_names_its_folders_whatever_they_are_called(container: str, volume: str, kit: str) -> None:
    folders = PodFolders(container, volume, f"/nowhere/{kit}")
    words = [f"PODTASKS_DIR={container}", f"PODTASKS_VOLUME={volume}", "python3", f"/nowhere/{kit}/status.py"]
    assert shlex.split(build_program_command(folders, "status.py")) == ["env", *words]
    guarded = subprocess.run(
        ["sh", "-c", build_guarded_command(folders, "status.py").encode("utf-8", "surrogateescape")],
        capture_output=True,
        check=False,
    )
    assert (guarded.returncode, guarded.stderr) == (97, b"")
