"""Settings from any places with anything in them: refused with all that is wrong and no secret, or sound."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from podtasks.pure.errors import SettingsError
from podtasks.pure.identity import IDENTITY_KEYS
from podtasks.pure.project_settings import project_name
from podtasks.pure.setting_types import keep_s
from podtasks.pure.settings import Effective, Settings, load_settings
from podtasks.pure.shell import command_line
from podtasks.pure.yaml_text import load_yaml
from tests.properties.hostile import NUMBERS, SAMPLES
from tests.properties.profile import examples

MARK = "s3cr3tM4rk"

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.binary(max_size=3),
        st.integers(5000, 5001).map(lambda digits: 10**digits),
        st.sampled_from(["{", "{}", "%s", "\udcff", "'", "..", "/"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers(), st.none()), inner, max_size=3),
    ),
    max_leaves=6,
)
KEYS = st.one_of(st.sampled_from([*Settings.model_fields]), st.text(max_size=5), st.integers(), st.none())
NAMES = st.one_of(
    st.sampled_from([*IDENTITY_KEYS, *(f"PODTASKS_{key.upper()}" for key in Settings.model_fields)]),
    st.text(max_size=8).map("PODTASKS_".__add__),
)


@examples(120)
@given(
    st.one_of(VALUES, st.dictionaries(KEYS, VALUES, max_size=4)),
    st.dictionaries(NAMES, st.text(max_size=12), max_size=3),
    st.one_of(VALUES, st.dictionaries(st.sampled_from(IDENTITY_KEYS), VALUES, max_size=3)),
    st.dictionaries(st.sampled_from([*Settings.model_fields, "gpu", "x"]), VALUES, max_size=2),
)
def test_hostile_values_are_taken_or_refused_and_never_crash(
    project: object, environ: dict[str, str], identity: object, flags: dict[str, Any]
) -> None:
    try:
        rows = load_settings(project, environ, identity, flags).rows()
    except SettingsError as error:
        assert all(line.isprintable() for line in error.what.split("\n"))
        return
    assert all(text.isprintable() for _, text, _ in rows)


def matching(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True)


def numbers(least: float, most: float) -> st.SearchStrategy[float]:
    return st.one_of(st.floats(least, most), st.integers(math.ceil(least), int(most)))


FOLDERS = matching(r"[a-z]{1,4}(/[a-z]{1,3} ?[a-z])?")
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
# What each setting may be. Names in the clone and on the volume are kept apart, so that no two things share a folder.
VALID: dict[str, st.SearchStrategy[Any]] = {
    "cloud": st.sampled_from(["auto", "runpod", "local"]),
    "project": matching(r"P[A-Za-z0-9._-]{0,20}"),
    "image": matching(r"[a-z0-9]+/[a-z0-9]+:[A-Za-z0-9._-]{1,10}"),
    "gpu_types": st.lists(matching(r"[A-Z]{1,6}( [A-Z0-9]{1,5})?"), min_size=1, max_size=3),
    "gpu_count": st.integers(1, 64),
    "cloud_type": st.sampled_from(["auto", "secure", "community"]),
    "data_center": st.one_of(st.none(), matching(r"[A-Z]{2}-[A-Z]{2}-[0-9]")),
    "max_usd_per_hour": numbers(0.01, 10_000),
    "container_disk_gb": st.integers(1, 100_000),
    "ports": st.lists(matching(r"[1-9][0-9]{0,3}/(tcp|http)"), max_size=4).map(lambda ports: ["22/tcp", *ports]),
    "mount_path": matching(r"/volume[0-9]?(/[a-z]{1,3})?"),
    "env": st.dictionaries(matching(r"[A-OQ-Z][A-Z0-9_]{0,5}X"), TEXTS, max_size=3),
    "repository": st.one_of(st.none(), matching(r"https://[a-z]{1,5}\.example/[a-z]{1,5}")),
    "branch": matching(r"[a-z]{1,5}(/[a-z0-9]{1,5})?"),
    "clone": st.one_of(st.none(), matching(r"C[A-Za-z0-9._-]{0,9}")),
    "forward_agent": st.booleans(),
    "script": FOLDERS,
    "args": st.lists(TEXTS, max_size=3).map(command_line),
    "requirements": st.one_of(st.none(), FOLDERS),
    "venv": st.sampled_from(["container", "volume"]),
    "links": st.dictionaries(matching(r"[a-z]{1,3}L"), matching(r"[a-z]{1,3}T(/[a-z])?"), max_size=3),
    "output_dir": st.lists(matching(r"[a-z]{1,3}(\.[a-z]{1,3})?"), min_size=1, max_size=3),
    "max_hours": numbers(0.01, 8760),
    "grace_minutes": numbers(0.01, 1440),
    "when_done": st.sampled_from(["stop", "terminate", "keep"]),
    "max_cost_usd": st.one_of(st.none(), numbers(0.01, 1_000_000)),
    "max_restarts": st.integers(0, 1000),
    "stall_minutes": numbers(0, 100_000),
    "on_failure": st.one_of(st.just("stop"), matching(r"keep-for:[1-9][0-9]?m")),
    "secrets": st.lists(matching(r"[A-OQ-Z][A-Z0-9_]{0,5}Y"), max_size=3),
}
SOUND = st.fixed_dictionaries({}, optional=VALID)


def load(
    mapping: object = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> Effective:
    return load_settings(mapping, environ or {}, None, flags or {}, folder="speech")


def as_text(value: object) -> str:
    """Return a value as it stands in the environment."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    return yaml.safe_dump(value, default_flow_style=True) if isinstance(value, dict) else str(value)


PATHS = st.one_of(
    st.lists(st.sampled_from(["a", "..", ".", "", "b c", "~"]), max_size=4).map("/".join), st.sampled_from(SAMPLES)
)
HOSTILE = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("script", "requirements", "clone", "branch", "project", "on_failure"), PATHS),
        "mount_path": PATHS.map("/volume/".__add__),
        "links": st.dictionaries(PATHS, PATHS, max_size=2),
        "data": st.dictionaries(PATHS, PATHS, max_size=2),
        "ports": st.sampled_from(["22/tcp", "22/tcp,22/tcp", "80/http", "22/tcp,x", ["22/tcp", "1/http"]]),
        "max_hours": NUMBERS,
        "max_usd_per_hour": NUMBERS,
        "max_cost_usd": NUMBERS,
    },
)


@examples(150)
@given(st.one_of(SOUND, HOSTILE))
def test_settings_that_are_taken_keep_their_rules(mapping: dict[str, Any]) -> None:
    try:
        settings = load(mapping).settings
    except SettingsError as error:
        assert error.next_step
        return
    assert settings.mount_path == posixpath.normpath(settings.mount_path) and settings.mount_path.startswith("/")
    assert posixpath.dirname(settings.clone_path) == settings.mount_path
    assert "22/tcp" in settings.ports.split(",")
    for path in (settings.script, *settings.links, *settings.links.values(), *settings.data.values()):
        assert not path.startswith("/") and ".." not in path.split("/") and posixpath.normpath(path) == path
    assert all(0 < number < math.inf for number in (settings.max_usd_per_hour, settings.max_hours))
    assert settings.max_cost_usd is None or 0 < settings.max_cost_usd < math.inf
    assert 0 <= keep_s(settings.on_failure) <= 24 * 3600
    assert not {name for name in settings.pod_environment() if name.startswith(("RUNPOD_", "PODTASKS_"))}


@examples(60)
@given(SOUND)
def test_settings_are_the_same_by_yaml_by_the_environment_and_by_flags(mapping: dict[str, Any]) -> None:
    settings = load(mapping).settings
    assert load(load_yaml(yaml.safe_dump(mapping))).settings == settings
    assert load(load_yaml(yaml.safe_dump(mapping, allow_unicode=True, default_flow_style=True))).settings == settings
    assert load(flags=mapping).settings == _without_none(settings, mapping)
    # An empty variable sets nothing, and an empty list is none.
    texts = {f"PODTASKS_{key.upper()}": as_text(value) for key, value in mapping.items()}
    if all(text.strip() for text in texts.values()):
        assert load(None, texts).settings == settings


def _without_none(settings: Settings, mapping: Mapping[str, Any]) -> Settings:
    """Return the settings where no None was given: a flag that is None was not given."""
    none = {key for key, value in mapping.items() if value is None}
    return load({key: value for key, value in mapping.items() if key not in none}).settings if none else settings


@examples(60)
@given(SOUND)
def test_what_was_loaded_loads_as_the_same(mapping: dict[str, Any]) -> None:
    settings = load(mapping).settings
    assert load(settings.model_dump(mode="json")).settings == settings
    assert Settings.model_validate(settings.model_dump()) == settings


@examples(30)
@given(SOUND, SOUND, SOUND)
def test_a_flag_goes_before_the_environment_and_that_before_the_file(
    file: dict[str, Any], environ: dict[str, Any], flags: dict[str, Any]
) -> None:
    texts = {f"PODTASKS_{key.upper()}": as_text(value) for key, value in environ.items()}
    effective = load(file, texts, flags)
    given_flags = {key for key, value in flags.items() if value is not None}
    given_texts = {key for key in environ if texts[f"PODTASKS_{key.upper()}"].strip()}
    given_file = {key for key, value in file.items() if value is not None}
    for key, source in effective.sources.items():
        if key in given_flags:
            assert source.startswith("flag")
        elif key in given_texts:
            assert source.startswith("environment")
        elif key in given_file:
            assert source == "invoke.yaml"


@examples(60)
@given(SOUND, st.one_of(KEYS, st.text(max_size=12)), VALUES)
def test_a_key_that_is_no_setting_is_never_taken(mapping: dict[str, Any], key: object, value: object) -> None:
    if key in Settings.model_fields:
        return
    whole: dict[object, object] = {}
    whole.update(mapping)
    whole[key] = value
    try:
        load(whole)
    except SettingsError as error:
        assert "unknown setting" in error.what
    else:
        raise AssertionError(f"{key!r} was taken")


@examples(100)
@given(SOUND, matching(r"[A-Z][A-Z0-9_]{0,12}"), st.text(max_size=8))
def test_a_line_of_runpod_env_that_nothing_knows_is_never_taken(mapping: dict[str, Any], name: str, text: str) -> None:
    if name in IDENTITY_KEYS or name in mapping.get("secrets", ()):
        return
    try:
        load_settings(mapping, {}, {name: f"{text}{MARK}"}, {})
    except SettingsError as error:
        assert name in error.what
        assert MARK not in str(error)
    else:
        raise AssertionError(f"{name} was taken")


HIDDEN = [key for key in IDENTITY_KEYS if key.endswith("KEY")]
# Without what makes a name of a text in YAML: names are shown.
BESIDE = st.text(st.characters(exclude_characters=":?{", exclude_categories=["Cs"]), max_size=4)
AROUND = st.tuples(BESIDE, BESIDE).map(lambda around: f"{around[0]}{MARK}{around[1]}")
MARKED = st.one_of(
    AROUND,
    st.lists(AROUND, max_size=2),
    st.dictionaries(st.sampled_from(["A", "HF_TOKEN", "PATH", "a b", "RUNPOD_X"]), AROUND, max_size=2),
)
SECRET_SETTINGS = ("env", "notify", "secrets")


@examples(300)
@given(
    st.dictionaries(st.sampled_from(SECRET_SETTINGS), MARKED, max_size=3),
    st.dictionaries(st.sampled_from(IDENTITY_KEYS), st.one_of(AROUND, MARKED), max_size=3),
    st.dictionaries(
        st.sampled_from([*HIDDEN, "PODTASKS_ENV", "PODTASKS_NOTIFY", "PODTASKS_SECRETS"]),
        st.one_of(AROUND, AROUND.map("{HF_TOKEN: ".__add__), AROUND.map("HF_TOKEN=".__add__)),
        max_size=3,
    ),
    st.dictionaries(st.sampled_from([*SECRET_SETTINGS, *HIDDEN]), MARKED, max_size=2),
    st.sampled_from(["", f"https://you:{MARK}@host.example/x.git", f"https://{MARK}@host.example/x.git"]),
)
def test_no_secret_is_in_what_is_said_of_settings(
    project: dict[str, Any], identity: dict[str, Any], environ: dict[str, str], flags: dict[str, Any], repository: str
) -> None:
    try:
        effective = load_settings({**project, "repository": repository or None}, environ, identity, flags)
    except SettingsError as error:
        assert MARK not in str(error)
        assert error.what.count("\n") >= 1
        return
    assert all(MARK not in text for key, text, _ in effective.rows() if key in HIDDEN)
    assert MARK not in repr(effective.identity) or any(
        MARK in str(value) for key, value in identity.items() if key not in HIDDEN
    )


@examples(200)
@given(st.text(max_size=80))
def test_any_folders_name_makes_a_project(folder: str) -> None:
    assert load_settings(None, {}, None, {}, folder=folder).settings.project == project_name(folder)
