"""`./inv audit` against an advisory service of its own: what is found, what is skipped, and what fails."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
OLD = "requests==2.19.0 \\\n    --hash=sha256:ec22d826a36ed72a7358ff3fe56cbd4ba69dd7a6718ffd450ff0e9df7a47ce6a\n"
ADVISORY = {
    "id": "GHSA-x84v-xcm2-53pg",
    "aliases": ["CVE-2018-18074", "PYSEC-2018-28"],
    "summary": "Insufficiently Protected Credentials in Requests",
    "affected": [
        {
            "package": {"name": "requests", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.20.0"}]}],
        }
    ],
}


class Advisories(http.server.ThreadingHTTPServer):
    """An advisory service as OSV's, that knows some advisories by package and version."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), AdvisoryHandler)
        self.known: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.status = 200
        self.page_size = 100
        self.text: str | None = None
        self.asked: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, query: dict[str, Any]) -> dict[str, Any]:
        pin = (query["package"]["name"], query["version"])
        self.asked.append(pin)
        assert query["package"]["ecosystem"] == "PyPI"
        all_of_it, start = self.known.get(pin, []), int(query.get("page_token", 0))
        end = start + self.page_size
        found = [{"id": each["id"], "modified": "2026-01-01T00:00:00Z"} for each in all_of_it[start:end]]
        page: dict[str, Any] = {"vulns": found} if found else {}
        return {**page, "next_page_token": str(end)} if end < len(all_of_it) else page


class AdvisoryHandler(http.server.BaseHTTPRequestHandler):
    server: Advisories

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply({"results": [self.server.answer(query) for query in body["queries"]]})

    def do_GET(self) -> None:
        every = [each for found in self.server.known.values() for each in found]
        self.reply(next(each for each in every if self.path == f"/v1/vulns/{each['id']}"))

    def reply(self, document: object) -> None:
        data = (json.dumps(document) if self.server.text is None else self.server.text).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    made = Advisories()
    yield made
    made.shutdown()
    made.server_close()


def audit(address: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / ".ci/audit.py"), "--database", address, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def url(advisories: Advisories) -> str:
    return f"http://127.0.0.1:{advisories.server_port}"


def test_every_package_of_the_lock_is_asked_about(advisories: Advisories) -> None:
    done = audit(url(advisories))
    assert done.returncode == 0, done.stderr
    pinned = re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", LOCK.read_text(), re.MULTILINE)
    assert len(pinned) > 100
    assert sorted(advisories.asked) == sorted(pinned)
    assert done.stdout == f"audit: nothing is known against the {len(pinned)} packages in requirements.lock\n"


def test_a_package_with_a_known_vulnerability_fails_and_is_told(advisories: Advisories, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(OLD + "idna==3.10 ; python_version > '3' \\\n    --hash=sha256:00\n")
    advisories.known[("requests", "2.19.0")] = [ADVISORY]
    done = audit(url(advisories), "--lock", str(lock))
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == (
        "VULNERABLE: requests 2.19.0: GHSA-x84v-xcm2-53pg (CVE-2018-18074): "
        "Insufficiently Protected Credentials in Requests; fixed in 2.20.0"
    )
    assert "Next: raise the package's bound in pyproject.toml" in done.stdout
    lock.write_text(OLD.replace("2.19.0", "2.20.0"))
    assert audit(url(advisories), "--lock", str(lock)).returncode == 0


def test_all_pages_of_an_answer_are_read_and_what_was_withdrawn_does_not_count(
    advisories: Advisories, tmp_path: Path
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(OLD)
    advisories.page_size = 1
    withdrawn = {**ADVISORY, "id": "A-1", "withdrawn": "2026-01-01T00:00:00Z"}
    advisories.known[("requests", "2.19.0")] = [withdrawn, {**ADVISORY, "id": "B-2"}, {**ADVISORY, "id": "C-3"}]
    done = audit(url(advisories), "--lock", str(lock))
    assert re.findall(r"requests 2.19.0: (\S+)", done.stdout) == ["B-2", "C-3"]


@pytest.mark.parametrize(("required", "code"), [([], 0), (["--required"], 1)])
@pytest.mark.parametrize("trouble", ["nobody", "status", "text", "shape"])
def test_where_the_data_cannot_be_had_that_is_said_loudly(
    advisories: Advisories, trouble: str, required: list[str], code: int
) -> None:
    if trouble == "status":
        advisories.status = 503
    advisories.text = {"text": "<html>sign in</html>", "shape": '{"results": []}'}.get(trouble)
    done = audit("http://127.0.0.1:9" if trouble == "nobody" else url(advisories), *required)
    assert done.returncode == code
    assert done.stdout == ""
    assert re.fullmatch(r"AUDIT SKIPPED: http://127\.0\.0\.1:\d+ cannot be reached \(.+\)\. "
                        r"Nothing is known of the \d+ packages in requirements\.lock\.\n", done.stderr)  # fmt: skip


def test_a_question_that_is_wrong_is_no_reason_to_skip(advisories: Advisories) -> None:
    advisories.status = 400
    assert audit(url(advisories)).returncode == 1


def test_each_package_of_the_lock_has_hashes_and_no_index_is_named() -> None:
    text = LOCK.read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 100
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links", text)


def test_the_wrapper_installs_nothing_without_its_hash() -> None:
    """That one with another hash is refused is shown in tests/end_to_end/test_wrapper.py."""
    installs = [line for line in (ROOT / "inv").read_text().splitlines() if re.search(r"-m pip |uv\" pip ", line)]
    assert len(installs) == 2
    assert [line for line in installs if "--require-hashes" not in line] == []
