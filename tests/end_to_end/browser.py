"""Debian's Chromium, headless, driven by Selenium: what a user sees of a page."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from tests.end_to_end.project import ROOT

PACKAGES = ("chromium", "chromium-driver")
PROGRAMS = ("chromium", "chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Cards out of sight are not drawn.
    "--window-size=1400,2200",
)
Reading = TypeVar("Reading")


def ensure_programs() -> None:
    """Install the browser where it is missing; an error that says how to, where that is not allowed."""
    if all(map(shutil.which, PROGRAMS)):
        return
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    if shutil.which("apt-get"):
        as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["apt-get", "update", "-qq"], install):
            subprocess.run([*as_root, *words], env=environ, stdin=subprocess.DEVNULL, check=False)
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    assert not missing, f"this test needs {' and '.join(missing)}; as root: {' '.join(install)}"


class Browser:
    """A browser window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def wait_for(self, script: str, what: str, *arguments: object, timeout_s: float = 25) -> Any:  # noqa: ANN401
        """Run a script on the page until it returns something true, and return that."""
        waiting = WebDriverWait(self.driver, timeout_s, poll_frequency=0.1)
        message = f"waited {timeout_s} s for {what} at {self.driver.current_url}"
        return waiting.until(lambda driver: driver.execute_script(script, *arguments), message)

    def wait_until(self, read: Callable[[], Reading], what: str, timeout_s: float = 25) -> Reading:
        """Read until something true comes, and return it; the page may change under a reading."""
        waiting = WebDriverWait(self.driver, timeout_s, poll_frequency=0.1, ignored_exceptions=[WebDriverException])
        return waiting.until(lambda _: read(), f"waited {timeout_s} s for {what} at {self.driver.current_url}")

    def keep_screenshot(self, name: str) -> Path:
        """Save what the window shows below tests/artifacts/, or below PODTASKS_ARTIFACTS, and return the file."""
        folder = Path(os.environ.get("PODTASKS_ARTIFACTS") or ROOT / "tests/artifacts")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        assert self.driver.save_screenshot(str(path)), f"no screenshot at {path}"
        return path


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Open a browser with a new profile in this folder."""
    ensure_programs()
    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
