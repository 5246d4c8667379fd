"""Asks a database of advisories about every package of requirements.lock: `./inv audit`.

    python .ci/audit.py [--lock FILE] [--database URL] [--required]

Exit code 0 where nothing is known against them, 1 where something is. Where the database cannot be reached, one line
says loudly that nothing was looked at, and the exit code is 0, or 1 with --required.

Only the standard library: pip-audit would add 16 packages to what it is to guard.
OSV docs: google.github.io/osv.dev/post-v1-querybatch, .../get-v1-vulns.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATABASE = "https://api.osv.dev"
LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
# Advisories that do not concern this project: id, and why. They are told, and fail nothing.
ACCEPTED: dict[str, str] = {}
TIMEOUT_S = 30
BATCH = 500  # OSV takes up to 1000 questions at once
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


class Unreachable(Exception):
    """The database gave no usable answer; the text says why."""


@dataclass(frozen=True)
class Advisory:
    """Something known against a pinned package."""

    package: str
    version: str
    id: str
    summary: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        fixed = f"; fixed in {', '.join(self.fixed)}" if self.fixed else ""
        return f"{self.package} {self.version}: {self.id}: {self.summary}{fixed}"


class Database:
    """OSV, or what answers as it does.

    Args:
        url: its address, without the path.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def find(self, pins: list[tuple[str, str]]) -> list[Advisory]:
        """Return what is known against pinned packages. Raises Unreachable."""
        found = [
            self._describe(name, version, each)
            for at in range(0, len(pins), BATCH)
            for name, version, each in self._ask_batch(pins[at : at + BATCH])
        ]
        return sorted((each for each in found if each is not None), key=str)

    def _ask_batch(self, pins: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
        """Yield package, version and id of each advisory."""
        questions = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in pins]
        waiting = list(zip(pins, questions, strict=True))
        while waiting:
            answer = self._call("v1/querybatch", {"queries": [question for _, question in waiting]})
            results = answer.get("results")
            if not isinstance(results, list) or len(results) != len(waiting):
                raise Unreachable("its answer makes no sense")
            more = []
            for (pin, question), result in zip(waiting, results, strict=True):
                for advisory in result.get("vulns") or []:
                    yield (*pin, str(advisory["id"]))
                if result.get("next_page_token"):
                    more.append((pin, {**question, "page_token": result["next_page_token"]}))
            waiting = more

    def _describe(self, name: str, version: str, advisory_id: str) -> Advisory | None:
        """Return an advisory with what there is to say of it, None for one that was withdrawn."""
        told = self._call(f"v1/vulns/{urllib.parse.quote(advisory_id, safe='')}")
        if told.get("withdrawn"):
            return None
        summary = str(told.get("summary") or told.get("details") or "no summary").splitlines()[0][:200]
        aliases = [alias for alias in told.get("aliases") or [] if str(alias).startswith("CVE-")]
        shown = f"{advisory_id} ({', '.join(aliases)})" if aliases else advisory_id
        return Advisory(name, version, shown, summary, tuple(_fixed_versions(told, name)))

    def _call(self, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._url}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                answer = json.loads(response.read())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 400:
                raise  # the question is wrong, which is this script's fault
            raise Unreachable(f"HTTP {error.code}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(str(getattr(error, "reason", "") or error) or type(error).__name__) from error
        if not isinstance(answer, dict):
            raise Unreachable("its answer makes no sense")
        return answer


def _fixed_versions(told: dict[str, Any], name: str) -> Iterable[str]:
    """Return the versions in which an advisory's trouble with a package is over."""
    found = [
        str(event["fixed"])
        for affected in told.get("affected") or []
        if _canonical(str((affected.get("package") or {}).get("name"))) == _canonical(name)
        for scope in affected.get("ranges") or []
        if scope.get("type") == "ECOSYSTEM"
        for event in scope.get("events") or []
        if "fixed" in event
    ]
    return dict.fromkeys(found)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(lock: Path) -> list[tuple[str, str]]:
    """Return name and version of each package that a lock file pins."""
    return sorted({(_canonical(name), version) for name, version in PIN.findall(lock.read_text(encoding="utf-8"))})


def main() -> int:
    """Run the audit and return its exit code."""
    parser = argparse.ArgumentParser(description="Ask a database of advisories about every pinned package.")
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--database", default=DATABASE)
    parser.add_argument("--required", action="store_true", help="fail where the database cannot be reached")
    arguments = parser.parse_args()
    pins = read_pins(arguments.lock)
    if not pins:
        print(f"audit: {arguments.lock} pins nothing", file=sys.stderr)
        return 1
    try:
        found = Database(arguments.database).find(pins)
    except Unreachable as error:
        print(
            f"AUDIT SKIPPED: {arguments.database} cannot be reached ({error}). "
            f"Nothing is known of the {len(pins)} packages in {arguments.lock.name}.",
            file=sys.stderr,
        )
        return int(arguments.required)
    return tell(found, len(pins), arguments.lock)


def tell(found: list[Advisory], count: int, lock: Path) -> int:
    """Print what was found and return the exit code."""
    serious = [each for each in found if each.id.split(" ")[0] not in ACCEPTED]
    for each in found:
        accepted = ACCEPTED.get(each.id.split(" ")[0])
        print(f"accepted ({accepted}): {each}" if accepted else f"VULNERABLE: {each}")
    if serious:
        print(f"Next: raise the package's bound in pyproject.toml and make {lock.name} anew (CONTRIBUTING.md)")
        return 1
    print(f"audit: nothing is known against the {count} packages in {lock.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
