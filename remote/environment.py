"""The Python environment of a run: a venv that sees the image's packages, with the requirements added."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from image_packages import find_packages, fingerprint, remove_shadows, write_shadows
from pod_environ import container_directory, volume_directory
from requirements_stamp import stamp_of

TOOL_NICENESS = 10
_STAMP = "podtasks-stamp.json"
_CANNOT_EXECUTE, _NOT_FOUND = 126, 127
# Asked of the image's Python: does it run in a venv itself, and where are its packages?
_QUERY = """
import json, os, sys
places = [p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")]
print(json.dumps({"is_venv": sys.prefix != sys.base_prefix, "places": places}))
"""
# Settings of the image or of a surrounding venv that would send the packages elsewhere.
_MISLEADING = {
    "PIP_PREFIX",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONHOME",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",
}

# What uv says of a package index whose certificate is from an authority that it does not know.
_DISTRUST = b"invalid peer certificate"
LogWrite = Callable[[bytes], object]


class EnvironmentFailure(Exception):
    """The environment could not be made; `exit_code` is the one the run ends with."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def prepare_environment(
    clone: str, requirements: str | None, venv: str, python: str, volume: str, container: str, log_write: LogWrite
) -> str:
    """Return the Python to run the training with, after installing what it needs.

    Without a requirements file that is the image's own. Otherwise it is that of a venv, which is made anew
    when anything it was made from has changed, and left alone (no process is started) when nothing has.

    Args:
        clone: the training repository.
        requirements: its requirements file, relative to the clone.
        venv: `container` (on the container disk, fast) or `volume` (kept over restarts, slow to import).
        python: the image's Python, a name on the PATH or a path.
        volume: where the package caches are.
        container: podtasks's directory on the container disk.
        log_write: is given each line of the installers' output.

    Raises:
        EnvironmentFailure: there is no such Python, or a package cannot be installed.
    """
    image_python = shutil.which(python)
    if image_python is None:
        raise EnvironmentFailure(f"The image has no {python!r}; set `python` in invoke.yaml.", _NOT_FOUND)
    file = os.path.join(clone, requirements or "")
    if not requirements or not os.path.isfile(file):
        reason = f"there is no {requirements}" if requirements else "no requirements file is set"
        log_write(os.fsencode(f"{reason}: the image's own Python runs the training\n"))
        return image_python
    place = _venv_place(clone, venv == "volume", volume, container)
    wanted = stamp_of(clone, file, image_python, venv)
    builder = _Builder(place, image_python, _variables(volume, os.environ), clone, log_write)
    try:
        if not builder.is_made_from(wanted):
            builder.build(file, wanted)
    except OSError as error:
        raise EnvironmentFailure(f"The environment could not be written: {error}.", 1) from error
    return builder.python


def find_python(clone: str, on_volume: bool) -> str:
    """Return where the Python of a training's venv is, or would be."""
    place = _venv_place(clone, on_volume, volume_directory(), container_directory())
    return os.path.join(place, "bin", "python")


def _venv_place(clone: str, on_volume: bool, volume: str, container: str) -> str:
    if on_volume:
        return os.path.join(volume, ".venvs", os.path.basename(os.path.abspath(clone)))
    return os.path.join(container, "venv")


def prepare_tool(
    place: str, packages: Sequence[str], image_python: str, volume: str, environ: Mapping[str, str], log_write: LogWrite
) -> str:
    """Return the Python of a venv at `place` that has these packages and sees none of the image's.

    It is made anew unless it was finished with the same packages, behind a training in the queue for the CPU.

    Args:
        place: the venv's folder.
        packages: what to install, as requirements.
        image_python: the path of the Python to make it from.
        volume: where the package caches are.
        environ: the environment of the installers; package indexes and proxies stand in it.
        log_write: is given each line of their output.

    Raises:
        EnvironmentFailure: a package cannot be installed.
    """
    builder = _Builder(place, image_python, _variables(volume, environ), "/", log_write, niceness=TOOL_NICENESS)
    wanted = {"packages": list(packages), "python": image_python}
    try:
        if builder.read_stamp() != wanted or not os.access(builder.python, os.X_OK):
            builder.build_apart(wanted)
    except OSError as error:
        raise EnvironmentFailure(f"The environment could not be written: {error}.", 1) from error
    return builder.python


def _variables(volume: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the installers. No hard links on MooseFS: uv would hang."""
    variables = {name: value for name, value in environ.items() if name not in _MISLEADING}
    variables.update(
        UV_CACHE_DIR=os.path.join(volume, ".cache", "uv"),
        UV_LINK_MODE="copy",
        UV_NO_PROGRESS="1",
        UV_PYTHON_DOWNLOADS="never",
        PIP_CACHE_DIR=os.path.join(volume, ".cache", "pip"),
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_PROGRESS_BAR="off",
        PIP_NO_INPUT="1",
        NO_COLOR="1",
    )
    return variables


class _Builder:
    """Makes the venv at `place` on top of the image's Python."""

    def __init__(
        self,
        place: str,
        image_python: str,
        variables: Mapping[str, str],
        clone: str,
        log_write: LogWrite,
        *,
        niceness: int = 0,
    ) -> None:
        self._place, self._image_python, self._clone = place, image_python, clone
        self._variables, self._log_write = variables, log_write
        self._niceness = niceness
        self._is_distrusted = False
        path = variables.get("PATH") or os.defpath
        self._uv = shutil.which("uv", path=path) or shutil.which("uv", path=os.path.dirname(image_python))
        self.python = os.path.join(place, "bin", "python")

    def is_made_from(self, wanted: Mapping[str, Any]) -> bool:
        """Say whether the venv is finished and was made from the same things."""
        made = self.read_stamp()
        if made is None:
            return False
        packages = made.pop("packages")
        is_same = made == wanted and fingerprint(packages["places"]) == packages["fingerprint"]
        return is_same and os.access(self.python, os.X_OK)

    def read_stamp(self) -> dict[str, Any] | None:
        """Return what the venv was made from, None where there is no finished one."""
        try:
            with open(os.path.join(self._place, _STAMP), encoding="utf-8") as file:
                stamp: dict[str, Any] = json.load(file)
        except (OSError, ValueError):
            return None
        return stamp

    def build(self, requirements: str, stamp: Mapping[str, Any]) -> None:
        """Make the venv anew. The stamp is written last: an interrupted build is none."""
        self._clear()
        image = self._ask_image()
        self._make_venv("--system-site-packages")
        site_packages = self._site_packages()
        if image["is_venv"]:
            _show_through(site_packages, image["places"])
        is_installed = False
        if self._uv:
            write_shadows(find_packages(image["places"]), site_packages)
            is_installed = self._install_with_uv(self._uv, "-r", requirements)
            remove_shadows(site_packages)
        if not is_installed:
            self._install_with_pip("-r", requirements)
        places = image["places"]
        packages = {"places": places, "fingerprint": fingerprint(places)}
        self._write_stamp({**stamp, "packages": packages})

    def build_apart(self, stamp: Mapping[str, Any]) -> None:
        """Make the venv anew with the stamp's packages, none of the image's in sight."""
        self._clear()
        self._make_venv()
        packages = stamp["packages"]
        is_installed = self._uv is not None and self._install_with_uv(self._uv, *packages)
        if not is_installed and self._has_pip(self._image_python):
            self._run(self._image_python, "-m", "pip", "--python", self.python, "install", *packages)
        elif not is_installed:
            self._install_with_pip(*packages)
        self._write_stamp(stamp)

    def _clear(self) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(os.path.join(self._place, _STAMP))
        if os.path.isdir(self._place) and not os.path.islink(self._place):
            shutil.rmtree(self._place)
        elif os.path.lexists(self._place):
            os.unlink(self._place)
        os.makedirs(os.path.dirname(self._place), exist_ok=True)

    def _write_stamp(self, stamp: Mapping[str, Any]) -> None:
        with open(os.path.join(self._place, _STAMP), "w", encoding="utf-8") as file:
            json.dump(stamp, file)

    def _ask_image(self) -> dict[str, Any]:
        words = [self._image_python, "-E", "-c", _QUERY]
        done = subprocess.run(words, env=self._variables, stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise EnvironmentFailure(f"{self._image_python} does not run.", _CANNOT_EXECUTE)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def _make_venv(self, *options: str) -> None:
        if self._uv:
            making = ("venv", "--quiet", "--no-project", "--python", self._image_python)
            self._run(self._uv, *making, *options, self._place)
        else:
            self._run(self._image_python, "-m", "venv", *options, "--without-pip", self._place)

    def _site_packages(self) -> str:
        words = [self.python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        done = subprocess.run(words, env=self._variables, stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise EnvironmentFailure(f"The venv at {self._place} does not run.", _CANNOT_EXECUTE)
        return os.fsdecode(done.stdout[:-1])

    def _install_with_uv(self, uv: str, *words: str) -> bool:
        """Install with uv; return False where it does not trust the package index, which pip may: it asks others."""
        try:
            self._run(uv, "pip", "install", "--python", self.python, *words)
        except EnvironmentFailure:
            if not self._is_distrusted:
                raise
            self._log_write(b"uv does not trust the package index's certificate; pip is tried\n")
            return False
        return True

    def _install_with_pip(self, *words: str) -> None:
        """Install with the image's pip, where the venv sees it, or with Python's bundled one."""
        if not self._has_pip(self.python):
            self._run(self.python, "-m", "ensurepip")
        self._run(self.python, "-m", "pip", "install", *words)

    def _has_pip(self, python: str) -> bool:
        asked = [python, "-m", "pip", "--version"]
        return subprocess.run(asked, env=self._variables, capture_output=True, check=False).returncode == 0

    def _run(self, *words: str) -> None:
        """Run an installer in the clone, its output going to the log. Raise EnvironmentFailure if it fails."""
        with subprocess.Popen(
            words,
            cwd=self._clone,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.nice(self._niceness),
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                self._is_distrusted |= _DISTRUST in line
                self._log_write(line)
        if process.returncode != 0:
            name = " ".join([os.path.basename(words[0]), *words[1:3]])
            raise EnvironmentFailure(
                f"The environment could not be made: `{name}` ended with exit code {process.returncode}.",
                process.returncode if process.returncode > 0 else 128 - process.returncode,
            )


def _show_through(site_packages: str, places: list[str]) -> None:
    """Let the venv see the packages of an image whose Python is in a venv: a venv of a venv does not."""
    with open(os.path.join(site_packages, "podtasks-image.pth"), "w", encoding="utf-8") as file:
        file.writelines(f"import site; site.addsitedir({place!r})\n" for place in places)
