"""What the pages for people say is what the code does: commands, flags, links, exit codes."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.parser import Parser
from invoke.parser.context import ParserContext
from invoke.program import Program

import podtasks.tasks
from podtasks.pure import errors
from podtasks.pure.project_settings import SETTING_KEYS
from podtasks.tasks.entry import INTERRUPTED
from podtasks.tasks.words import OptionalWords

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "docs", "remote", "examples/digits")
    for path in (ROOT / folder).glob("*.md")
)
MESSAGES = [
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "podtasks").rglob("*.py")),
    *("podtasks/templates/invoke.yaml", ".runpod.env.example", "invoke.yaml"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").glob("*.yaml")),
]
NAMED_COMMAND = re.compile(r"\binv ([a-z]+(?:-[a-z]+)*)")
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# Ends that are no error of ours: Invoke's own refusals, and an interruption.
OTHER_CODES = {1, INTERRUPTED}


def load_project_tasks() -> Collection:
    """Return the tasks of this repository's own tasks.py."""
    specification = importlib.util.spec_from_file_location("project_tasks", ROOT / "tasks.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    namespace: Collection = module.ns
    return namespace


TASKS = load_project_tasks()
CONTEXTS = {str(context.name): context for context in TASKS.to_contexts()}


def flags_of(task: str) -> set[str]:
    """Return a task's flags as `inv TASK --help` lists them, without the --no- forms."""
    arguments = CONTEXTS[task].flags.items()
    return {flag for flag, argument in arguments if flag.startswith("--") and not isinstance(argument, OptionalWords)}


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", text)


def section(heading: str) -> str:
    """Return what stands in the README below this heading, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", prose(README), re.MULTILINE | re.DOTALL)
    assert found, f"the README has no heading {heading!r}"
    return found[1]


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of the rows of a page's tables, without header and ruler."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    rulers = [number for number, row in enumerate(lines) if re.fullmatch(r"[|\- ]+", row)]
    return [row for number, row in enumerate(rows) if number not in rulers and number + 1 not in rulers]


def anchors(text: str) -> set[str]:
    """Return the anchors GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(text)):
        base = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        anchor, number = base, 0
        while anchor in found:
            number += 1
            anchor = f"{base}-{number}"
        found.add(anchor)
    return found


def shell_lines(text: str) -> Iterator[str]:
    """Yield the lines of a page's shell blocks, here-documents left out."""
    for language, block in FENCE.findall(text):
        if language == "sh":
            yield from re.sub(r"<<'(\w+)'(.*?)\n.*?^\1$", r"\2", block, flags=re.MULTILINE | re.DOTALL).splitlines()


def inv_commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `inv` of each command in shell blocks and code spans."""
    candidates = [line for line in shell_lines(text) if re.search(r"(^|\s)(\./)?inv\s", line)]
    candidates += [span for span in CODE_SPAN.findall(prose(text)) if re.match(r"(\./)?inv\s", span)]
    for candidate in candidates:
        words = shlex.split(candidate, comments=True)
        if "inv" in words or "./inv" in words:
            start = words.index("inv") if "inv" in words else words.index("./inv")
            words = words[start + 1 :]
            yield words[: words.index("|")] if "|" in words else words


def parse_command(words: list[str]) -> list[ParserContext]:
    """Parse words as Invoke does and return the contexts found. Raises ParseError for what it does not know."""
    parser = Parser(contexts=TASKS.to_contexts(), initial=Program().initial_context)
    return list(parser.parse_argv(words))


def test_tasks_of_the_package_are_among_those_of_this_repository() -> None:
    assert {"train", "logs", "status", "stop"} <= set(podtasks.tasks.ns.tasks) <= set(CONTEXTS)


@pytest.mark.parametrize("task", CONTEXTS)
def test_every_task_has_a_docstring_and_help_for_each_flag(task: str) -> None:
    assert inspect.getdoc(TASKS[task].body)
    without = [name for name, argument in CONTEXTS[task].args.items() if not argument.help]
    assert not without, f"flags of {task} without help"


@pytest.mark.parametrize("task", CONTEXTS)
def test_help_of_every_task_fits_80_columns_and_names_all_it_takes(
    task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    program = Program(namespace=TASKS, binary="inv", name="inv", version="0")
    program.run(["inv", task, "--help"], exit=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    described = "\n".join(lines).split("Options:")[1]
    assert {f"--{flag}" for flag in re.findall(r"^  (?:-\w, )?--(?:\[no-\])?([a-z-]+)", described, re.MULTILINE)} == {
        flag for flag in flags_of(task)
    }
    words = [arg for arg in CONTEXTS[task].args.values() if isinstance(arg, OptionalWords)]
    assert all(arg.help and "Words:" in lines for arg in words)


@pytest.mark.parametrize("task", CONTEXTS)
def test_every_task_stands_in_the_readme_with_its_flags(task: str) -> None:
    rows = [" ".join(row) for row in table_rows(section("Commands")) if re.search(rf"`inv {task}[ `]", row[0])]
    own = re.findall(rf"[^.]*`inv {task}`[^.]*\.?", section("Commands"))
    text = section("Flags of inv train") if task == "train" else " ".join([*rows, *own])
    assert rows or own, "the README's commands have it nowhere"
    missing = {flag for flag in flags_of(task) if flag not in text and flag.replace("--", "--no-", 1) not in text}
    assert not missing, f"flags of {task} that its row in the README does not name"


def test_readme_names_no_flag_of_train_that_is_none() -> None:
    flags = flags_of("train")
    named = set(FLAG.findall(" ".join(row[0] for row in table_rows(section("Flags of inv train")))))
    assert {flag.replace("--no-", "--", 1) for flag in named} <= flags
    assert named == {flag if flag != "--follow" else "--no-follow" for flag in flags}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in LINK.findall(prose(text)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_pages_parse(page: str) -> None:
    for words in inv_commands((ROOT / page).read_text(encoding="utf-8")):
        contexts = parse_command(words)
        assert len(contexts) > 1 or words == ["--list"], f"{page}: inv {shlex.join(words)} runs nothing"


@pytest.mark.parametrize("path", MESSAGES)
def test_commands_that_messages_and_examples_name_exist(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        constants = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
        text = "\n".join(constant for constant in constants if isinstance(constant, str))
    assert set(NAMED_COMMAND.findall(text)) <= set(CONTEXTS)


def test_commands_of_the_readme_are_found() -> None:
    found = [shlex.join(words) for words in inv_commands(README)]
    assert "train --config configs/digits.yaml --force-restart" in found, "of a shell block"
    assert "stop --now" in found, "of a code span"
    assert {"stop", "logs", "status"} <= set(found)


def test_the_readme_s_two_commands_are_its_first() -> None:
    first = next(block for language, block in FENCE.findall(README) if language == "sh")
    assert first.splitlines() == ["./inv train --config configs/digits.yaml", "./inv test"]
    assert (ROOT / "configs/digits.yaml").is_file() and (ROOT / "inv").stat().st_mode & 0o111


@pytest.mark.parametrize(
    "words", [["train", "--confg", "x"], ["trian"], ["logs", "--lines"], ["status", "--gpu", "x"]], ids=shlex.join
)
def test_a_wrong_command_on_a_page_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(ParseError):
        parse_command(words)


def test_exit_codes_in_the_readme_are_those_of_the_errors() -> None:
    own = {
        kind.exit_code: (kind.__doc__ or "").splitlines()[0]
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, errors.PodtasksError) and "exit_code" in vars(kind)
    }
    told = {int(row[0]): row[1] for row in table_rows(section("Exit codes"))}
    assert {code: text for code, text in told.items() if code not in OTHER_CODES} == own
    assert set(told) - set(own) == OTHER_CODES
    assert all(len(row) == 3 and row[2] for row in table_rows(section("Exit codes")))


def test_no_two_errors_share_an_exit_code_by_accident() -> None:
    codes = [
        kind.exit_code
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, errors.PodtasksError) and "exit_code" in vars(kind)
    ]
    assert len(codes) == len(set(codes)) and not OTHER_CODES.intersection(codes)


def test_numbers_the_readme_gives_are_the_defaults() -> None:
    from podtasks.pure.project_settings import Settings

    defaults: dict[str, Any] = Settings().model_dump()
    for name in ("grace_minutes", "max_hours", "pod_ready_timeout_s"):
        assert f"`{name}` ({defaults[name]:g})" in README
    assert f"{defaults['stop_grace_s']:g} s (stop_grace_s)" in README
    assert f"The default of {defaults['max_usd_per_hour']:.2f} is below" in README


def test_settings_named_on_the_pages_exist() -> None:
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", section("In your own repository")))
    assert named and named <= set(SETTING_KEYS)


def test_pages_end_with_a_newline_and_keep_code_blocks_closed() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text.endswith("\n") and not text.endswith("\n\n"), page
        assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0, page


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_pages_name_exist(page: str) -> None:
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = re.findall(r"`(test_\w+)`", (ROOT / page).read_text(encoding="utf-8"))
    assert set(named) <= defined
    assert page != "docs/decisions.md" or len(set(named)) > 10
