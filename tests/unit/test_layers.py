"""Who may import whom: folders are layers, and each outside world has one door."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("pure", "doors", "flows", "tasks")
OWNERS = {
    "fabric": "podtasks/doors/ssh.py",
    "paramiko": "podtasks/doors/ssh.py",
    "runpod": "podtasks/doors/runpod_sdk.py",
    "requests": "podtasks/doors/runpod_sdk.py",
    "boto3": "podtasks/doors/s3_client.py",
    "botocore": "podtasks/doors/s3_client.py",
}
PURE_PACKAGES = frozenset({"yaml", "pydantic", "pydantic_core", "dotenv"})
EFFECT_MODULES = frozenset({"subprocess", "socket", "time", "asyncio", "threading"})
# Standard modules that Python 3.8 has not yet.
NEWER_MODULES = frozenset({"graphlib", "tomllib", "zoneinfo"})


def imported_names(path: str, source: str) -> Iterator[str]:
    """Yield the dotted names a file imports, at the top, in functions, under TYPE_CHECKING or by importlib."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.split("/")[: -node.level] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _called(node) in ("import_module", "__import__"):
            name = node.args[0]
            assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: an import whose name cannot be read"
            yield str(name.value)


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _layer(parts: list[str]) -> str | None:
    return parts[1] if len(parts) > 1 and parts[0] == "podtasks" and parts[1] in (*LAYERS, "emulator") else None


def find_violations(path: str, source: str, siblings: frozenset[str] = frozenset()) -> list[str]:
    """Return what a file at `path` (from the root) breaks of the import rules, one line for each."""
    names = list(imported_names(path, source))
    checks = {"remote": _remote_violations, "podtasks": _package_violations}
    check = checks[path.split("/")[0]]
    return [f"{path}: {text}" for text in (*check(path, names, siblings), *_effect_violations(path, source))]


def _remote_violations(path: str, names: list[str], siblings: frozenset[str]) -> Iterator[str]:
    del path
    allowed = (sys.stdlib_module_names - NEWER_MODULES) | siblings
    yield from (f"imports {name}, which pods have not" for name in names if name.split(".")[0] not in allowed)


def _package_violations(path: str, names: list[str], siblings: frozenset[str]) -> Iterator[str]:
    del siblings
    importer = _layer(path.split("/"))
    for name in names:
        top = name.split(".")[0]
        imported = _layer(name.split("."))
        if top == "podtasks":
            yield from _upward(importer, imported, name)
        elif importer == "emulator":
            continue
        elif OWNERS.get(top, path) != path:
            yield f"imports {top}, which only {OWNERS[top]} may"
        elif top not in sys.stdlib_module_names:
            yield from _outside(importer, top)
        elif importer in ("pure", "flows") and top in EFFECT_MODULES:
            yield f"imports {top}: effects belong to a door"


def _upward(importer: str | None, imported: str | None, name: str) -> Iterator[str]:
    if importer is None:
        return
    if (importer == "emulator") != (imported == "emulator"):
        yield f"imports {name}: the emulator and the rest know nothing of each other"
    elif importer != "emulator" and (imported is None or LAYERS.index(imported) > LAYERS.index(importer)):
        yield f"imports {name}: imports point down"


def _outside(importer: str | None, top: str) -> Iterator[str]:
    if importer == "pure" and top not in PURE_PACKAGES:
        yield f"imports {top}: pure has the standard library, yaml, pydantic and dotenv"
    if importer == "flows":
        yield f"imports {top}: flows reach outside packages through doors"
    if importer == "tasks" and top != "invoke":
        yield f"imports {top}: tasks know invoke only"


def _effect_violations(path: str, source: str) -> Iterator[str]:
    if _layer(path.split("/")) not in ("pure", "flows"):
        return
    for node in _library_nodes(ast.parse(source)):
        if isinstance(node, ast.Call) and _called(node) in ("print", "sleep") and not _is_clock(node.func):
            yield f"line {node.lineno}: calls {_called(node)}"
        if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr") and _is_name(node.value, "sys"):
            yield f"line {node.lineno}: writes to sys.{node.attr}"


def _library_nodes(module: ast.Module) -> Iterator[ast.AST]:
    """Yield all but what only happens when the file is run as a program, which may print its result."""
    for statement in module.body:
        if not (isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"):
            yield from ast.walk(statement)


def _is_clock(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and ast.unparse(function.value) in ("clock", "self._clock")


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def source_files() -> list[Path]:
    files = [*(ROOT / "podtasks").rglob("*.py"), *(ROOT / "remote").glob("*.py")]
    # podtasks/_remote/ is a copy that only a wheel holds; templates are files of other repositories.
    return [file for file in files if not {"_remote", "templates"} & set(file.parts)]


def test_the_whole_tree_keeps_the_import_rules() -> None:
    siblings = frozenset(file.stem for file in (ROOT / "remote").glob("*.py"))
    files = source_files()
    assert len(files) > 50
    violations = [
        violation
        for file in files
        for violation in find_violations(file.relative_to(ROOT).as_posix(), file.read_text(), siblings)
    ]
    assert not violations, "\n".join(violations)


def test_each_outside_package_has_one_door() -> None:
    doors: dict[str, set[str]] = {}
    for file in (ROOT / "podtasks" / "doors").glob("*.py"):
        path = file.relative_to(ROOT).as_posix()
        for name in imported_names(path, file.read_text()):
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top != "podtasks":
                doors.setdefault(top, set()).add(path)
    assert {"fabric", "runpod", "cryptography"} <= set(doors)
    assert {package: paths for package, paths in doors.items() if len(paths) > 1} == {}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("podtasks/pure/x.py", "from podtasks.doors import ssh"),
        ("podtasks/pure/x.py", "from podtasks import doors"),
        ("podtasks/pure/x.py", "from ..doors import ssh"),
        ("podtasks/pure/x.py", "def f():\n    import podtasks.flows.pods"),
        ("podtasks/pure/x.py", "import importlib\nimportlib.import_module('podtasks.doors.ssh')"),
        ("podtasks/doors/x.py", "from podtasks.flows.pods import find_pod"),
        ("podtasks/flows/x.py", "from podtasks.tasks import entry"),
        ("podtasks/flows/x.py", "if TYPE_CHECKING:\n    from podtasks.tasks.entry import Project"),
        ("podtasks/emulator/x.py", "from podtasks.pure import shell"),
        ("podtasks/emulator/x.py", "from ..pure import shell"),
        ("podtasks/doors/x.py", "from podtasks.emulator import account"),
        ("podtasks/tasks/x.py", "def f():\n    import podtasks.emulator"),
        ("podtasks/doors/x.py", "import paramiko"),
        ("podtasks/tasks/x.py", "def f():\n    from fabric import Connection"),
        ("podtasks/doors/ssh.py", "import runpod.error"),
        ("podtasks/flows/x.py", "import requests"),
        ("podtasks/pure/x.py", "import invoke"),
        ("podtasks/pure/x.py", "import subprocess"),
        ("podtasks/flows/x.py", "from time import sleep"),
        ("podtasks/flows/x.py", "import socket"),
        ("podtasks/flows/x.py", "print('x')"),
        ("podtasks/flows/x.py", "clock.time.sleep(1)"),
        ("podtasks/pure/x.py", "sys.stderr.write('x')"),
        ("podtasks/flows/x.py", "import yaml"),
        ("podtasks/tasks/x.py", "import runpod"),
        ("remote/x.py", "import yaml"),
        ("remote/x.py", "from podtasks.pure import shell"),
        ("remote/x.py", "import tomllib"),
    ],
)
def test_a_file_that_breaks_a_rule_is_found(path: str, source: str) -> None:
    assert len(find_violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("podtasks/tasks/x.py", "from podtasks.flows import pods\nfrom podtasks.pure import run\nimport invoke"),
        ("podtasks/flows/x.py", "from podtasks.doors import ssh\nself._clock.sleep(1)\nclock.sleep(2)"),
        ("podtasks/doors/ssh.py", "import socket\ndef f():\n    import fabric, paramiko"),
        ("podtasks/doors/runpod_sdk.py", "import runpod, requests"),
        ("podtasks/pure/x.py", "import json\nimport yaml\nfrom pydantic import BaseModel\nfrom . import shell"),
        ("podtasks/pure/x.py", "if __name__ == '__main__':\n    print(1)"),
        ("podtasks/emulator/x.py", "import socket, graphql\nfrom . import account\nprint(1)"),
        ("podtasks/__init__.py", "from podtasks.tasks import ns"),
        ("remote/x.py", "import json\nimport sibling"),
    ],
)
def test_a_file_that_keeps_the_rules_is_left_alone(path: str, source: str) -> None:
    assert find_violations(path, source, frozenset({"sibling"})) == []
