"""What the shell's completion offers, by Invoke's own scripts and by those that ./inv prints."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_docs import CONTEXTS, flags_of

ROOT = Path(__file__).resolve().parents[2]
INV = Path(sys.executable).parent / "inv"
# As `complete -F` calls a function: the words so far, and the one that is typed; its answers one a line.
ASK = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_complete_invoke {program} "${{COMP_WORDS[$COMP_CWORD]}}" "${{COMP_WORDS[$COMP_CWORD - 1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p inv
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the completion scripts of Invoke's own program and of the wrapper."""
    folder = tmp_path_factory.mktemp("scripts")
    for name, program in (("plain", str(INV)), ("wrapped", "./inv")):
        script = run([program, "--print-completion-script", "bash"])
        (folder / name).write_text(script)
    return folder


def run(words: list[str]) -> str:
    """Run a command in the repository and return its output."""
    environment = {**os.environ, "PATH": f"{INV.parent}:{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def ask(script: Path, *words: str) -> set[str]:
    """Return what bash would offer for these words, of which the last is the one that is typed."""
    text = ASK.format(script=shlex.quote(str(script)), words=shlex.join(words), program=shlex.quote(words[0]))
    *offered, registered = run(["bash", "-c", text]).splitlines()
    assert registered == "complete -o default -F _complete_invoke inv"
    return set(filter(None, offered))


@pytest.fixture(params=["plain", "wrapped"])
def script(request: pytest.FixtureRequest, scripts: Path) -> Path:
    """Each script in turn."""
    if request.param == "wrapped" and not (ROOT / ".venv/podtasks-lock").is_file():
        pytest.fail("./inv has not made .venv here, so its script cannot be tried")
    return scripts / str(request.param)


@pytest.fixture
def program(script: Path) -> str:
    """What the user types for the script."""
    return "./inv" if script.name == "wrapped" else "inv"


def test_every_command_is_offered(script: Path, program: str) -> None:
    assert ask(script, program, "") == set(CONTEXTS)
    assert ask(script, program, "stor") == {"storage"}


@pytest.mark.parametrize("task", ["train", "storage"])
def test_flags_of_a_command_are_offered(script: Path, program: str, task: str) -> None:
    offered = {flag for flag in ask(script, program, task, "--") if not flag.startswith("--no-")}
    assert offered == flags_of(task)


def test_words_that_a_command_takes_are_offered_and_no_command(script: Path, program: str) -> None:
    assert ask(script, program, "storage", "cl") == {"clean"}
    assert ask(script, program, "storage", "clean", "--old") == {"--old-checkpoints"}
    assert ask(script, program, "cloud", "do") == {"down"}


def test_value_of_a_flag_is_left_to_the_shell(script: Path, program: str) -> None:
    assert ask(script, program, "train", "--config", "co") == set()
    assert ask(script, program, "train", "--config", "configs/digits.yaml", "--dry") == {"--dry-run"}


def test_wrapper_knows_a_word_that_is_begun_anew(scripts: Path) -> None:
    assert ask(scripts / "wrapped", "./inv", "storage", "") == {"list", "clean"}
    assert ask(scripts / "wrapped", "./inv", "train", "--config", "") == set()
    assert ask(scripts / "wrapped", "./inv", "fetch", "logs", "") >= {"checkpoints", "predictions"}


def test_hostile_words_run_nothing(scripts: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    for word in (f"$(touch {made})", f"`touch {made}`", f"; touch {made}", "'", '"', "*"):
        ask(scripts / "wrapped", "./inv", "storage", word)
    assert not made.exists()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_call_what_was_typed(shell: str) -> None:
    script = run(["./inv", "--print-completion-script", shell])
    assert "--complete -- " in script and "invoke --complete" not in script and " inv" in script
    program = shutil.which(shell)
    if program:
        subprocess.run([program, "-n"], input=script.encode(), check=True, timeout=30)
