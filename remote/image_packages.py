"""The packages the image brings, shown to uv as if they were installed in the venv.

uv does not look beyond a venv's own site-packages, even where the venv sees the image's
(https://docs.astral.sh/uv/pip/compatibility/), and would download torch again. So each of the image's
packages gets a shadow in the venv while uv resolves: its metadata without its files. What uv replaces, it
removes; the shadows that are left are taken away again.
"""

from __future__ import annotations

import csv
import email.parser
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from typing import NamedTuple

INSTALLER = "podtasks-image"


class ImagePackage(NamedTuple):
    """A distribution of the image: where its metadata is, and its name and version."""

    path: str
    name: str
    version: str
    metadata: str


def find_packages(directories: list[str]) -> list[ImagePackage]:
    """Return the packages in the image's site directories; of two of one name, the one Python finds first."""
    found: dict[str, ImagePackage] = {}
    for directory in directories:
        for package in _packages_in(directory):
            found.setdefault(_normalize(package.name), package)
    return list(found.values())


def fingerprint(directories: list[str]) -> str:
    """Return a digest that changes when the image's packages change; reads only names."""
    names = [name for directory in directories for name in _metadata_names(directory)]
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def _metadata_names(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(name for name in names if name.endswith((".dist-info", ".egg-info")))


def _packages_in(directory: str) -> Iterator[ImagePackage]:
    for entry in _metadata_names(directory):
        path = os.path.join(directory, entry)
        files = (os.path.join(path, "METADATA"), os.path.join(path, "PKG-INFO"), path)  # the oldest are files
        texts = (_read(file) for file in files)
        text = next((text for text in texts if text), "")
        headers = email.parser.Parser().parsestr(text, headersonly=True)
        name, version = headers.get("Name"), headers.get("Version")
        if name and version:
            metadata = text if entry.endswith(".dist-info") else _synthesize(name, version)
            yield ImagePackage(path, name, version, metadata)


def _synthesize(name: str, version: str) -> str:
    """Return metadata for an egg-info, whose own is of an older form."""
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


def write_shadows(packages: list[ImagePackage], site_packages: str) -> None:
    """Write a shadow of each package into the venv."""
    for package in packages:
        name = re.sub(r"[^\w.]+", "_", package.name)
        shadow = os.path.join(site_packages, f"{name}-{package.version}.dist-info")
        if os.path.exists(shadow):
            continue
        os.makedirs(shadow)
        files = {"METADATA": package.metadata, "INSTALLER": INSTALLER + "\n"}
        entry_points = _read(os.path.join(package.path, "entry_points.txt"))
        if entry_points:
            files["entry_points.txt"] = entry_points
        for file_name, text in files.items():
            with open(os.path.join(shadow, file_name), "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        with open(os.path.join(shadow, "RECORD"), "w", encoding="utf-8", newline="") as file:
            records = csv.writer(file, lineterminator="\n")
            records.writerows((f"{os.path.basename(shadow)}/{x}", "", "") for x in [*files, "RECORD"])


def remove_shadows(site_packages: str) -> None:
    """Take away the shadows that are left in the venv: the image's own packages show through again."""
    for entry in _metadata_names(site_packages):
        path = os.path.join(site_packages, entry)
        if _read(os.path.join(path, "INSTALLER")).strip() == INSTALLER:
            shutil.rmtree(path)


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
