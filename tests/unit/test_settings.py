"""Settings: from all their sources, checked, with every problem at once."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from podtasks.pure.errors import SettingsError
from podtasks.pure.identity import IDENTITY_KEYS
from podtasks.pure.project_settings import project_name
from podtasks.pure.secret import Secret
from podtasks.pure.settings import Effective, Settings, load_settings
from podtasks.pure.settings_reference import render_reference

ROOT = Path(__file__).parents[2]


def load(
    project: object = None,
    environ: Mapping[str, str] | None = None,
    identity: object = None,
    **flags: object,
) -> Effective:
    return load_settings(project, environ or {}, identity, flags, folder="speech")


def problems(
    project: object = None,
    environ: Mapping[str, str] | None = None,
    identity: object = None,
    **flags: object,
) -> list[str]:
    with pytest.raises(SettingsError) as failure:
        load(project, environ, identity, **flags)
    return [line.strip() for line in failure.value.what.splitlines()[1:]]


def row(effective: Effective, key: str) -> tuple[str, str]:
    [found] = [(text, source) for name, text, source in effective.rows() if name == key]
    return found


# Defaults


def test_defaults_are_the_users_design() -> None:
    settings = load().settings
    assert settings.gpu_types[0] == "NVIDIA GeForce RTX 4090"
    assert settings.image == "runpod/pytorch:1.0.3-cu1290-torch291-ubuntu2204"
    assert (settings.max_usd_per_hour, settings.container_disk_gb) == (0.50, 50)
    assert (settings.ports, settings.mount_path, settings.when_done) == ("22/tcp", "/workspace", "stop")
    assert settings.pod_environment() == {
        "HF_HOME": "/workspace/.cache/huggingface",
        "PYTHONPATH": "/workspace/speech",
    }
    assert load().identity.ssh_key_path == "~/.ssh/id_ed25519"


def test_defaults_pass_their_own_checks() -> None:
    assert Settings.model_validate(Settings().model_dump()) == Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().settings.branch = "other"


@pytest.mark.parametrize(
    ("project", "source"),
    [
        ({}, "local"),
        ({"repository": "https://github.com/you/speech.git"}, "origin"),
        ({"repository": "https://github.com/you/speech.git", "code": "snapshot"}, "snapshot"),
    ],
)
def test_code_comes_from_origin_only_with_a_repository(project: dict[str, str], source: str) -> None:
    assert load(project).settings.code_source == source


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("childs_speech_recog_chall", "childs_speech_recog_chall"),
        ("my repo; $(x)", "my-repo-x"),
        ("..", "project"),
        ("", "project"),
        ("ключ", "project"),
        ("-x", "x"),
        ("a" * 80, "a" * 60),
    ],
)
def test_project_name_of_a_folder_is_one_a_pod_can_have(folder: str, expected: str) -> None:
    assert project_name(folder) == expected
    assert load_settings(None, {}, None, {}, folder=folder).settings.project == expected


# Sources


def test_flag_beats_environment_beats_file_beats_default() -> None:
    project, environ = {"gpu_count": 2}, {"PODTASKS_GPU_COUNT": "3"}
    assert row(load(), "gpu_count") == ("1", "default")
    assert row(load(project), "gpu_count") == ("2", "invoke.yaml")
    assert row(load(project, environ), "gpu_count") == ("3", "environment PODTASKS_GPU_COUNT")
    assert row(load(project, environ, gpu_count=4), "gpu_count") == ("4", "flag --gpu-count")
    assert row(load(project, environ, max_cost="2.5"), "max_cost_usd") == ("2.5", "flag --max-cost")
    assert row(load(project, environ, gpu_count=None), "gpu_count")[0] == "3"


def test_gpu_type_of_this_machine_goes_before_the_projects_gpu_types() -> None:
    project, identity = {"gpu_types": ["A"]}, {"GPU_TYPE": "NVIDIA H200, B"}
    assert row(load(project, {}, identity), "gpu_types") == ("NVIDIA H200, B", ".runpod.env GPU_TYPE")
    assert row(load(project, {"GPU_TYPE": "C"}, identity), "gpu_types") == ("C", "environment GPU_TYPE")
    named = {"GPU_TYPE": "C", "PODTASKS_GPU_TYPES": "D"}
    assert row(load(project, named, identity), "gpu_types") == ("D", "environment PODTASKS_GPU_TYPES")
    assert row(load(project, named, identity, gpu="E"), "gpu_types") == ("E", "flag --gpu")


def test_environment_gives_every_kind_of_value() -> None:
    settings = load(
        environ={
            "PODTASKS_GPU_TYPES": "NVIDIA H200, NVIDIA A100 80GB PCIe,",
            "PODTASKS_MAX_USD_PER_HOUR": "1.25",
            "PODTASKS_FORWARD_AGENT": "true",
            "PODTASKS_LINKS": "{data: sets/a}",
            "PODTASKS_ENV": "{NCCL_DEBUG: INFO, RANK: 3}",
            "PODTASKS_REQUIREMENTS": "null",
            "PODTASKS_BRANCH": "  ",
        }
    ).settings
    assert settings.gpu_types == ("NVIDIA H200", "NVIDIA A100 80GB PCIe")
    assert settings.max_usd_per_hour == 1.25
    assert settings.forward_agent is True
    assert settings.links == {"data": "sets/a"}
    assert settings.env["NCCL_DEBUG"] == "INFO"
    assert settings.env["RANK"] == "3"
    assert settings.requirements is None
    assert settings.branch == "main"


def test_empty_values_in_invoke_yaml_mean_the_default_or_none() -> None:
    settings = load({"env": None, "image": None, "requirements": None}).settings
    assert settings.image == Settings().image
    assert settings.requirements is None


def test_own_environment_variables_are_added_to_the_defaults() -> None:
    environment = load({"env": {"PYTHONPATH": "{clone}/src", "JSON": '{"a": "{b}"}'}}).settings.pod_environment()
    assert environment == {
        "HF_HOME": "/workspace/.cache/huggingface",
        "PYTHONPATH": "/workspace/speech/src",
        "JSON": '{"a": "{b}"}',
    }


def test_identity_environment_goes_before_the_file() -> None:
    identity = {"POD_ID": "old", "RUNPOD_API_KEY": "rpa_file"}
    effective = load(None, {"POD_ID": "new", "RUNPOD_API_KEY": ""}, identity)
    assert row(effective, "POD_ID") == ("new", "environment POD_ID")
    assert effective.identity.runpod_api_key == Secret("rpa_file")
    assert row(load(None, {}, identity, POD_ID="other"), "POD_ID") == ("other", "flag --pod-id")


@pytest.mark.parametrize("value", ["", "  ", "your_api_key_here", "YOUR_KEY", "<key>", "changeme", "xxxx", "..."])
def test_placeholders_of_the_example_count_as_unset(value: str) -> None:
    identity = {"RUNPOD_API_KEY": value, "NETWORK_VOLUME_ID": "your_volume_id_here"}
    effective = load(None, {"RUNPOD_API_KEY": value}, identity)
    assert effective.identity.runpod_api_key is None
    assert effective.identity.network_volume_id is None


# What is shown


def test_rows_show_every_key_once_with_its_source() -> None:
    keys = [key for key, _, _ in load().rows()]
    assert keys == [*Settings.model_fields, *IDENTITY_KEYS]
    assert row(load({"clone": "other"}), "clone") == ("other", "invoke.yaml")
    assert row(load(), "clone") == ("speech", "default")
    assert row(load(), "code") == ("local", "default")


def test_rows_and_texts_never_hold_a_secret() -> None:
    secret = "verysecretvalue"
    effective = load(
        {"env": {"WANDB_API_KEY": secret, "HF_TOKEN": secret, "MODE": "fast"}},
        {"RUNPOD_S3_ACCESS_KEY": secret, "RUNPOD_S3_SECRET_KEY": secret},
        {"RUNPOD_API_KEY": secret},
    )
    assert secret not in str(effective.rows())
    assert "MODE=fast" in row(effective, "env")[0]
    assert secret not in repr(effective.identity)
    assert secret not in effective.identity.model_dump_json()


def test_rows_hold_no_control_characters() -> None:
    assert row(load({"python": "py\u202ethon"}), "python")[0] == "py?thon"


# Problems


def test_every_problem_is_reported_at_once_with_its_place() -> None:
    found = problems(
        {
            "gpu_cont": 2,
            "container_disk_gb": "many",
            "env": {"A B": 1, "RUNPOD_API_KEY": "rpa_SECRET"},
            "links": {"../up": "x"},
            "code": "orgin",
            "output_dir": ["a", 3],
        },
        {"PODTASKS_MAX_HOURS": "soon", "PODTASKS_WHEN_DNE": "stop"},
        {"RUNPOD_API_KEI": "x", "POD_ID": "a b"},
        branch="-x",
    )
    assert found == [
        "invoke.yaml: podtasks.gpu_cont: unknown setting; did you mean gpu_count?",
        "environment PODTASKS_WHEN_DNE: unknown setting; did you mean PODTASKS_WHEN_DONE?",
        "invoke.yaml: podtasks.container_disk_gb: must be a whole number (it is 'many')",
        "invoke.yaml: podtasks.env: 'A B' is not a variable's name; "
        "RUNPOD_API_KEY is set by RunPod or podtasks and cannot be set here",
        "flag --branch: is not a name git allows for a branch (it is '-x')",
        "invoke.yaml: podtasks.code: must be 'origin', 'local' or 'snapshot' (it is 'orgin')",
        "invoke.yaml: podtasks.links.../up: must not climb with .. (it is '../up')",
        "invoke.yaml: podtasks.output_dir[1]: must be text (put it in quotes) (it is 3)",
        "environment PODTASKS_MAX_HOURS: must be a number (it is 'soon')",
        ".runpod.env: POD_ID: must be an id of letters, digits, dashes and underscores",
        ".runpod.env: RUNPOD_API_KEI: unknown setting; did you mean RUNPOD_API_KEY?",
    ]


def test_one_problem_says_what_to_do_next() -> None:
    with pytest.raises(SettingsError) as failure:
        load({"gpu_count": 0})
    assert str(failure.value) == (
        "The settings have one problem:\n"
        "  invoke.yaml: podtasks.gpu_count: must be at least 1 (it is 0)\n"
        "Next: correct what is listed; inv settings then shows each value and where it comes from"
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cloud", "aws", "must be 'auto', 'runpod' or 'local'"),
        ("project", "a b", "letters, digits"),
        ("project", "a" * 61, "at most 60 characters"),
        ("project", 1.0, "must be text"),
        ("image", "a b", "container image"),
        ("image", 'x"}) { id } }', "container image"),
        ("gpu_types", [], "must not be empty"),
        ("gpu_types", ['x"'], "GPU type id"),
        ("gpu_types", {"a": 1}, "must be a list"),
        ("gpu_count", True, "must be a number"),
        ("gpu_count", 1.5, "whole number"),
        ("max_usd_per_hour", 0, "more than 0"),
        ("max_usd_per_hour", float("nan"), "must be"),
        ("max_usd_per_hour", float("inf"), "must be"),
        ("max_usd_per_hour", -1, "more than 0"),
        pytest.param("container_disk_gb", 10**5000, "must be", id="huge number"),
        ("ports", "8888/http", "must hold 22/tcp"),
        ("ports", "22/udp", "must be ports"),
        ("ports", "22/tcp," + ",".join(f"{port}/http" for port in range(1, 12)), "more than 10"),
        ("mount_path", "workspace", "absolute"),
        ("mount_path", "/", "between slashes"),
        ("mount_path", "/root", "hide a folder"),
        ("mount_path", "/etc/x", "hide a folder"),
        ("mount_path", "/a/../b", "climb"),
        ("mount_path", "/a b", "must hold only"),
        ("env", {"PODTASKS_X": "1"}, "cannot be set here"),
        ("env", {"PUBLIC_KEY": "1"}, "cannot be set here"),
        ("env", {"A": True}, "must be text"),
        ("env", {"A": "one\0two"}, "NUL character"),
        ("env", {f"A{number}": "x" for number in range(45)}, "at most 42"),
        ("env", ["A=1"], "mapping"),
        ("repository", "https://user:rpa_SECRET@github.com/x", "must not carry"),
        ("repository", "https://rpa_SECRET@github.com/x", "must not carry"),
        ("repository", "--upload-pack=x", "git can fetch"),
        ("repository", "ext::sh -c x", "git can fetch"),
        ("branch", "a..b", "git allows"),
        ("branch", "a b", "git allows"),
        ("branch", "", "must not be empty"),
        ("branch", "x.lock", "git allows"),
        ("clone", "a/b", "one folder name"),
        ("clone", "..", "one folder name"),
        ("forward_agent", "perhaps", "true or false"),
        ("script", "/abs/train.py", "relative"),
        ("script", "../train.py", "climb"),
        ("args", "'open", "cannot be split"),
        ("resume_args", "--resume {ckpt}", "no placeholder but {checkpoint}"),
        ("links", {"data": "/data"}, "relative"),
        ("links", {"data": "../x"}, "climb"),
        ("links", {"data": "."}, "folder inside"),
        ("links", {".git/x": "x"}, "git's own"),
        ("links", {"a": "x", "a/b": "y"}, "itself a link"),
        ("links", {"data": "runs"}, "belongs to podtasks"),
        ("data", {"a": "data", "b": "data"}, "would share it"),
        ("data", {"a": "data", "b": "data-x", "c": "data/y"}, "data/y lies inside data"),
        ("output_dir", "a..b", "joined by dots"),
        ("output_dir", [], "must not be empty"),
        ("checkpoint_dir", "{output_dri}", "did you mean output_dir?"),
        ("checkpoint_dir", "../{branch}", "climb"),
        ("checkpoint_pattern", "a/*", "without slashes"),
        ("max_hours", 0, "more than 0"),
        ("stop_grace_s", -1, "at least 0"),
        ("data_center", "nowhere!", "EU-RO-1"),
    ],
)
def test_bad_value_is_refused_in_words_at_its_place(key: str, value: object, said: str) -> None:
    [problem] = problems({key: value})
    assert problem.startswith(f"invoke.yaml: podtasks.{key}")
    assert said in problem
    assert "rpa_SECRET" not in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("repository", "git@github.com:you/speech.git"),
        ("repository", "ssh://git@github.com/you/speech.git"),
        ("repository", "/srv/git/speech.git"),
        ("branch", "feature/x-1"),
        ("branch", "ключ"),
        ("mount_path", "/workspace/"),
        ("ports", ["22/tcp", "8888/http"]),
        ("resume_args", ""),
        ("config_flag", ""),
        ("links", {}),
        ("max_hours", 0.5),
        ("gpu_types", "NVIDIA RTX 6000 Ada Generation"),
        ("script", "it's $(odd) train.py"),
    ],
)
def test_good_value_is_taken(key: str, value: object) -> None:
    assert row(load({key: value}), key)[1] == "invoke.yaml"


@pytest.mark.parametrize(
    ("project", "environ", "identity", "said"),
    [
        ({"code": "origin"}, {}, {}, "invoke.yaml: podtasks.code: origin needs podtasks.repository"),
        ({"cloud_type": "community"}, {}, {"NETWORK_VOLUME_ID": "v1"}, "community has no network volumes"),
        ({"clone": "data"}, {}, {}, "invoke.yaml: podtasks.clone: the clone cannot be the folder data"),
        ({"project": "runs"}, {}, {}, "invoke.yaml: podtasks.project: the clone cannot be the folder runs"),
        ({}, {}, {"RUNPOD_S3_ACCESS_KEY": "a"}, ".runpod.env: RUNPOD_S3_ACCESS_KEY: RUNPOD_S3_SECRET_KEY is missing"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(
    project: dict[str, str], environ: dict[str, str], identity: dict[str, str], said: str
) -> None:
    [problem] = problems(project, environ, identity)
    assert said in problem


def test_what_does_not_fit_together_is_reported_beside_other_problems() -> None:
    assert len(problems({"code": "origin", "gpu_count": 0})) == 2


@pytest.mark.parametrize("project", [[], ["a"], "text", 3, True, {1, 2}])
def test_podtasks_in_invoke_yaml_that_is_no_mapping_is_refused(project: object) -> None:
    [problem] = problems(project)
    assert problem.startswith("invoke.yaml: podtasks must be a mapping of settings, not a ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("RUNPOD_API_KEY", "rpa_SECRET two"),
        ("RUNPOD_API_KEY", "rpa_SECRET\u00e9"),
        ("NETWORK_VOLUME_ID", "rpa_SECRET/x"),
        ("RUNPOD_API_BASE_URL", "http://rpa_SECRET.example.com"),
        ("RUNPOD_API_BASE_URL", "https://user:rpa_SECRET@example.com"),
    ],
)
@pytest.mark.parametrize("place", ["file", "environment"])
def test_bad_identity_value_is_refused_and_never_quoted(key: str, value: str, place: str) -> None:
    [problem] = problems(None, {}, {key: value}) if place == "file" else problems(None, {key: value})
    assert key in problem
    assert "SECRET" not in problem


@pytest.mark.parametrize("value", ["HF_TOKEN=hf_SECRET", ["HF_TOKEN", "hf_SECRET\x1b"], {"HF_TOKEN": "hf_SECRET"}])
def test_value_that_stands_among_the_names_of_secrets_is_refused_and_never_quoted(value: object) -> None:
    [problem] = problems({"secrets": value})
    assert problem.startswith("invoke.yaml: podtasks.secrets")
    assert "SECRET" not in problem


def test_key_that_slipped_into_the_line_of_gpu_type_is_never_quoted() -> None:
    assert all("SECRET" not in problem for problem in problems(None, {}, {"GPU_TYPE": "rpa_SECRET'"}))


@pytest.mark.parametrize("url", ["https://api.example.com", "http://127.0.0.1:8765", "http://localhost:80/v2"])
def test_other_api_address_is_taken_where_the_key_is_safe(url: str) -> None:
    assert load(None, {"RUNPOD_API_BASE_URL": url}).identity.runpod_api_base_url == url


def test_variables_of_other_programs_in_the_environment_are_let_be() -> None:
    load(environ={"PODTASKS_DIR": "/x", "PODTASKS_VOLUME": "/y", "PODTASKS_ENVIRON_FILE": "/z", "HOME": "/"})


def test_unknown_flag_is_refused() -> None:
    assert problems(gpu_conut=1) == ["flag --gpu-conut: unknown setting; did you mean gpu_count?"]


def test_value_that_holds_itself_is_refused() -> None:
    loop: dict[str, object] = {}
    loop["env"] = loop
    assert problems(loop)
    endless: list[object] = []
    endless.append(endless)
    assert problems({"gpu_types": endless, "image": endless})


# The reference, and what it costs to import


def test_reference_page_is_what_the_code_says() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == render_reference(), (
        "write docs/settings.md anew: python -m podtasks.pure.settings_reference > docs/settings.md"
    )


def test_reference_names_every_setting() -> None:
    page = render_reference()
    assert all(f"| `{key}` |" in page for key in [*Settings.model_fields, *IDENTITY_KEYS])


def test_training_config_and_shell_do_not_pay_for_pydantic() -> None:
    code = (
        "import sys, podtasks.pure.training_config, podtasks.pure.shell, podtasks.pure.secret\n"
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_command_that_is_notified_is_shown_without_addresses_in_it() -> None:
    assert row(load({"notify": "touch /workspace/done"}), "notify")[0] == "touch /workspace/done"
    assert row(load({"notify": "https://hooks.example/T0"}), "notify")[0] == "[secret]"
    assert row(load({"notify": "curl -d @- 'https://hooks.example/T0'"}), "notify")[0] == "curl -d @- '[secret]'"
