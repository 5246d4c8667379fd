"""Everything that can be checked before money is spent: each bad input is named, all at once."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors import ssh
from podtasks.doors.local_git import Revision
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.preflight import TrainRequest, make_plan
from podtasks.pure.boot import BOOT_FILES
from podtasks.pure.errors import (
    ApiUnreachableError,
    AuthenticationError,
    CodeError,
    ConfigError,
    PlanError,
    PodtasksError,
    SettingsError,
    UsageError,
)
from podtasks.pure.plan import Plan, render
from podtasks.pure.pod import NetworkVolume
from podtasks.pure.secret import Secret
from podtasks.pure.settings import Settings
from tests.unit.fakes import A100, RTX_4090, VOLUME, StrictApi, make_cloud, make_pod

NOW = datetime.datetime(2026, 11, 23, 12, 0, 5, tzinfo=datetime.timezone.utc)
COMMIT = "3f2a1b9c0ffee0ddba11cafebabe0123456789ab"
CONFIG = "training:\n  output_dir: out/digits\n"
DIRTY = CodeError("These changes are not committed and would not be trained:\n  x.py", next_step="commit them")
BAD_KEY = AuthenticationError("RunPod refused the API key.", next_step="put a valid key into .runpod.env")
LOCKED = SettingsError("The SSH key ~/k has a passphrase, and no SSH agent offers it.", next_step="ssh-add ~/k")
SECURE = "list_offers 1 EU-RO-1 secure"


@dataclass
class Check:
    """One `inv train`: what is wrong with it is set on the fields, and `plan` runs the checks."""

    files: ProjectFiles
    api: StrictApi = field(default_factory=StrictApi)
    request: TrainRequest = field(default_factory=lambda: TrainRequest("configs/digits.yaml"))
    settings: dict[str, Any] = field(default_factory=lambda: {"project": "demo", "max_usd_per_hour": 2.0})
    revision: Revision | CodeError | None = None
    committed: bool | None = True
    missing: tuple[str, ...] = ()
    is_local: bool = False
    network_volume_id: str | None = "vol1"
    open_error: PodtasksError | None = None
    key_error: SettingsError | None = None
    opened: int = 0
    top: Path | None = None
    secrets: dict[str, Secret] | SettingsError = field(default_factory=dict)

    def require_secrets(self) -> dict[str, Secret]:
        if isinstance(self.secrets, SettingsError):
            raise self.secrets
        return self.secrets

    def open_cloud(self) -> Cloud:
        self.opened += 1
        if self.open_error:
            raise self.open_error
        return make_cloud(self.api, self.files.root, network_volume_id=self.network_volume_id, is_local=self.is_local)

    def plan(self, *, cloud_is_free: bool = False) -> Plan:
        settings = Settings.model_validate(self.settings)
        plan, cloud = make_plan(
            self.request,
            settings,
            self.files,
            self.open_cloud,
            NOW,
            cloud_is_free=cloud_is_free,
            require_secrets=self.require_secrets,
        )
        assert cloud.name == plan.cloud == "RunPod"
        assert self.api.orders() == []
        return plan

    def refusal(self, *, cloud_is_free: bool = False) -> PodtasksError:
        with pytest.raises(PodtasksError) as caught:
            self.plan(cloud_is_free=cloud_is_free)
        assert self.api.orders() == [], "a check changes nothing"
        return caught.value


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.yaml").write_text(CONFIG)
    check = Check(ProjectFiles(tmp_path), revision=Revision(tmp_path, COMMIT, "main", "local", "Learn digits"))
    check.api.on("list_network_volumes", [VOLUME]).on(SECURE, [RTX_4090, A100]).on("list_pods", [])
    check.api.on("list_offers 1 - secure", [RTX_4090, A100]).on("list_offers 1 EU-RO-1 community", [RTX_4090, A100])

    def resolve(
        root: Path, code: str, branch: str | None, setting: str | None, url: str | None, *, data_folders: list[str]
    ) -> Revision:
        assert (root, code, setting, url) == (tmp_path, "local", "main", None)
        assert "data/audio_0" in data_folders
        assert branch == check.request.branch
        if isinstance(check.revision, Revision):
            return check.revision
        assert check.revision
        raise check.revision

    def exists_at(root: Path, commit: str, path: str) -> bool | None:
        assert (root, commit) == (tmp_path, COMMIT)
        assert not path.startswith("/")
        return False if path in check.missing else check.committed

    def require_key(path: Path, public_key: str, agent_offers: Callable[[str], bool]) -> None:
        assert (path, public_key, agent_offers) == (tmp_path / "key", "ssh-ed25519 AAAA me", ssh.agent_offers)
        if check.key_error:
            raise check.key_error

    monkeypatch.setattr("podtasks.flows.place.require_usable_key", require_key)
    git = "podtasks.flows.preflight.local_git"
    monkeypatch.setattr(f"{git}.find_root", lambda root: check.top or root)
    monkeypatch.setattr(f"{git}.resolve_revision", resolve)
    monkeypatch.setattr(f"{git}.path_exists_at", exists_at)
    monkeypatch.setattr("podtasks.flows.place.read_pod_programs", lambda: dict.fromkeys(BOOT_FILES, b"true"))
    check.settings["gpu_types"] = ["NVIDIA GeForce RTX 4090", "NVIDIA A100 80GB PCIe"]
    return check


def test_plan_of_a_good_request(check: Check) -> None:
    check.request = TrainRequest("configs/digits.yaml", resume_from="checkpoint-7", branch="topic")
    plan = check.plan()
    launch, spec = plan.launch, plan.spec
    assert launch.run_id == "digits-20261123-120005-3f2a1b9"
    assert (launch.commit, launch.branch, launch.code) == (COMMIT, "main", "local")
    assert launch.output_dir == launch.checkpoint_dir == "/workspace/demo/out/digits"
    assert launch.words == ("scripts/train.py", "--config", "configs/digits.yaml")
    assert (launch.resume_from, launch.force_restart) == ("checkpoint-7", False)
    assert plan.offers == (RTX_4090, A100)
    assert plan.pod is None
    assert (spec.data_center, spec.cloud_type, spec.network_volume_id) == ("EU-RO-1", "SECURE", "vol1")
    assert (plan.commit_subject, plan.notes) == ("Learn digits", ())


def test_plan_warns_of_a_budget_that_lasts_for_minutes(check: Check) -> None:
    check.settings["max_cost_usd"] = 0.05
    assert "used up after 4 min at $0.69/h" in "".join(check.plan().notes)


def test_plan_gives_the_pod_its_identity_without_showing_it(check: Check) -> None:
    check.settings["env"] = {"EXTRA": "a b"}
    env = check.plan().spec.env
    assert {name: env[name] for name in ("EXTRA", "HF_HOME", "PYTHONPATH", "PUBLIC_KEY", "PODTASKS_PROJECT")} == {
        "EXTRA": "a b",
        "HF_HOME": "/workspace/.cache/huggingface",
        "PYTHONPATH": "/workspace/demo",
        "PUBLIC_KEY": "ssh-ed25519 AAAA me",
        "PODTASKS_PROJECT": "demo",
    }
    assert isinstance(env["PODTASKS_HOST_KEY"], Secret)
    assert str(env["PODTASKS_HOST_PUBLIC_KEY"]).startswith("ssh-ed25519 ")
    assert (env["PODTASKS_NETWORK_VOLUME"], env["PODTASKS_GRACE_MINUTES"]) == ("vol1", "15")


def test_plan_takes_along_who_is_to_be_notified_without_showing_it(check: Check) -> None:
    assert check.plan().launch.notify is None
    check.settings["notify"] = "https://hooks.example/VERYSECRET"
    plan = check.plan()
    assert plan.launch.notify == "https://hooks.example/VERYSECRET"
    assert "VERYSECRET" not in repr(plan)


def test_plan_made_twice_gives_two_host_keys(check: Check) -> None:
    keys = {str(check.plan().spec.env["PODTASKS_HOST_PUBLIC_KEY"]) for _ in range(2)}
    assert len(keys) == 2


def test_plan_names_the_pod_there_is(check: Check) -> None:
    check.api.instead("list_pods", [make_pod("pod7")])
    pod = check.plan().pod
    assert pod is not None
    assert pod.id == "pod7"


def test_plan_leaves_out_gpus_above_the_cap_and_keeps_the_order(check: Check) -> None:
    check.settings["gpu_types"] = ["NVIDIA A100 80GB PCIe", "NVIDIA GeForce RTX 4090"]
    assert check.plan().offers == (A100, RTX_4090)
    check.settings["max_usd_per_hour"] = 1.0
    assert check.plan().offers == (RTX_4090,)


def test_plan_without_a_network_volume_takes_the_settings_data_center(check: Check) -> None:
    check.network_volume_id = None
    check.settings |= {"data_center": "US-TX-3", "cloud_type": "community"}
    check.api.on("list_offers 1 US-TX-3 community", [RTX_4090, A100])
    plan = check.plan()
    assert (plan.spec.data_center, plan.spec.cloud_type, plan.spec.network_volume_id) == ("US-TX-3", "COMMUNITY", None)


def test_configuration_given_by_its_absolute_path_is_named_from_the_root(check: Check) -> None:
    check.request = TrainRequest(str(check.files.root / "configs" / "digits.yaml"))
    assert check.plan().launch.config == "configs/digits.yaml"


def break_config(content: str) -> Callable[[Check], None]:
    def apply(check: Check) -> None:
        (check.files.root / "configs" / "digits.yaml").write_text(content)

    return apply


def change(**settings: object) -> Callable[[Check], None]:
    return lambda check: check.settings.update(settings)


def ask(name: str) -> Callable[[Check], None]:
    return lambda check: setattr(check, "request", TrainRequest(name))


def set_to(name: str, value: object) -> Callable[[Check], None]:
    return lambda check: setattr(check, name, value)


def link_outside(check: Check) -> None:
    outside = check.files.root.parent / "outside.yaml"
    outside.write_text(CONFIG)
    (check.files.root / "configs" / "link.yaml").symlink_to(outside)
    check.request = TrainRequest("configs/link.yaml")


def without_volume(**settings: object) -> Callable[[Check], None]:
    def apply(check: Check) -> None:
        check.network_volume_id = None
        check.settings.update(settings)

    return apply


def without(path: str, **settings: object) -> Callable[[Check], None]:
    def apply(check: Check) -> None:
        check.missing = (path,)
        check.settings.update(settings)

    return apply


def in_subfolder(check: Check) -> None:
    check.top = check.files.root.parent


def other_volumes(check: Check) -> None:
    check.api.instead("list_network_volumes", [replace(VOLUME, id="vol2"), NetworkVolume("vol3", "b", 1, "US-1")])


def unknown_gpu(check: Check) -> None:
    check.settings["gpu_types"] = ["NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4900"]
    check.api.on("list_gpu_types", ["NVIDIA GeForce RTX 4090", "NVIDIA H200"])


BAD = [
    (ask(""), UsageError, "train needs a configuration.", "configs/digits.yaml"),
    (ask("configs/digit.yaml"), ConfigError, "configs/digit.yaml does not exist.", "did you mean configs/digits.yaml?"),
    (ask("configs"), ConfigError, "configs cannot be read", "configs/digits.yaml"),
    (break_config("a: [1"), ConfigError, "configs/digits.yaml is not YAML", "correct configs/digits.yaml"),
    (break_config("x: 1\n"), ConfigError, "names no output directory", "podtasks.output_dir"),
    (break_config("output_dir: /tmp/x\n"), ConfigError, "is not on the volume", "under output_dir"),
    (link_outside, ConfigError, "is outside this project", "move it below"),
    (set_to("revision", DIRTY), CodeError, "not committed", "commit them"),
    (set_to("missing", ("configs/digits.yaml",)), CodeError, "is not in commit 3f2a1b9c0f", "--code snapshot"),
    (set_to("missing", ("scripts/train.py",)), CodeError, "(the setting script) is not in", "correct podtasks.script"),
    (without("pip.txt", requirements="pip.txt"), CodeError, "pip.txt (the setting requirements) is not", "git add"),
    (change(checkpoint_dir="/tmp/{branch}"), ConfigError, "is not on the volume", "podtasks.checkpoint_dir"),
    (in_subfolder, CodeError, "a folder inside the git repository", "move tasks.py"),
    (set_to("open_error", BAD_KEY), AuthenticationError, "refused the API key", ".runpod.env"),
    (set_to("key_error", LOCKED), SettingsError, "has a passphrase", "ssh-add"),
    (other_volumes, PlanError, "no network volume vol1", "one of: vol2 (data, EU-RO-1), vol3 (b, US-1)"),
    (change(data_center="US-TX-3"), PlanError, "vol1 is in EU-RO-1, but data_center is US-TX-3", "set it to EU-RO-1"),
    (without_volume(when_done="terminate"), PlanError, "would delete the checkpoints", "--when-done stop"),
    (unknown_gpu, PlanError, "no GPU type 'NVIDIA GeForce RTX 4900'", "did you mean 'NVIDIA GeForce RTX 4090'?"),
    (change(max_usd_per_hour=0.5), PlanError, "above your cap of $0.50/h", "max_usd_per_hour"),
]


@pytest.mark.parametrize(("spoil", "expected", "says", "next_step"), BAD)
def test_bad_input_is_one_error_that_says_what_to_do(
    check: Check, spoil: Callable[[Check], None], expected: type[PodtasksError], says: str, next_step: str
) -> None:
    spoil(check)
    error = check.refusal()
    assert type(error) is expected
    assert says in error.what
    assert next_step in error.next_step


def test_all_problems_come_at_once_and_the_first_gives_the_exit_code(check: Check) -> None:
    break_config("x: 1\n")(check)
    check.revision = DIRTY
    check.settings["max_usd_per_hour"] = 0.5
    text = str(error := check.refusal())
    assert error.exit_code == ConfigError.exit_code
    assert "3 problems:" in text
    for number, says in enumerate(("names no output directory", "not committed", "above your cap"), start=1):
        assert says in text
        assert f"\n{number}. " in text or text.startswith(f"{number}. ")
    assert text.count("Next: ") == 4


def test_all_problems_of_the_place_come_at_once_in_one_list(check: Check) -> None:
    check.revision = DIRTY
    other_volumes(check)
    unknown_gpu(check)
    check.settings["gpu_types"] += ["NVIDIA H20"]
    text = str(check.refusal())
    assert text.startswith("4 problems:\n1. ")
    expected = (
        "not committed",
        "no network volume vol1",
        "no GPU type 'NVIDIA GeForce RTX 4900'",
        "no GPU type 'NVIDIA H20'",
    )
    places = [text.index(says) for says in expected]
    assert places == sorted(places)
    assert text.count("problems:") == 1, "one list, none within another"


def test_local_cloud_ignores_the_cloud_type(check: Check) -> None:
    check.is_local = True
    check.settings["cloud_type"] = "community"
    assert check.plan().spec.cloud_type == "SECURE"


def test_problem_of_the_launch_comes_with_those_of_the_place(check: Check) -> None:
    check.settings["checkpoint_dir"] = "/tmp/{branch}"
    other_volumes(check)
    text = str(check.refusal())
    assert "/tmp/main" in text
    assert "no network volume vol1" in text


@pytest.mark.parametrize(
    ("missing", "settings"),
    [
        ("requirements.txt", {}),
        ("requirements.txt", {"requirements": None}),
        ("tools/train.py", {"script": "tools/train.py", "links": {"tools": "tools"}}),
    ],
)
def test_file_that_may_be_missing_is_not_asked_for(check: Check, missing: str, settings: dict[str, object]) -> None:
    without(missing, **settings)(check)
    assert check.plan().launch.commit == COMMIT


def test_unknown_gpu_and_when_done_without_a_volume_come_at_once(check: Check) -> None:
    without_volume(when_done="terminate")(check)
    unknown_gpu(check)
    text = str(error := check.refusal())
    assert text.startswith("2 problems:")
    assert "would delete the checkpoints" in text
    assert "no GPU type" in text
    assert error.exit_code == PlanError.exit_code


def test_price_is_not_judged_for_a_place_that_is_not_known(check: Check) -> None:
    other_volumes(check)
    check.settings["max_usd_per_hour"] = 0.5
    text = str(check.refusal())
    assert "no network volume vol1" in text
    assert "above your cap" not in text


def test_silent_api_is_one_problem_and_is_asked_no_more(check: Check) -> None:
    silence = ApiUnreachableError("RunPod gave no usable answer.", next_step="try again")
    check.api.instead("list_network_volumes", silence)
    without_volume(when_done="terminate")(check)
    assert check.refusal() is silence
    assert check.api.calls == ["list_network_volumes"]


def test_problem_of_the_account_comes_with_those_of_the_project(check: Check) -> None:
    check.revision = DIRTY
    check.open_error = SettingsError("There is no SSH key at ~/.ssh/id_ed25519.", next_step="ssh-keygen")
    text = str(check.refusal())
    assert "not committed" in text
    assert "There is no SSH key" in text


def test_cloud_that_costs_nothing_is_not_started_to_say_what_else_is_wrong(check: Check) -> None:
    check.revision = DIRTY
    assert type(check.refusal(cloud_is_free=True)) is CodeError
    assert check.opened == 0


def test_cloud_that_costs_nothing_is_opened_once_all_else_is_right(check: Check) -> None:
    check.plan(cloud_is_free=True)
    assert check.opened == 1


def test_commit_that_is_only_on_the_remote_is_not_blamed_for_the_configuration(check: Check) -> None:
    check.committed = None
    assert check.plan().launch.commit == COMMIT


def test_fault_of_our_own_is_not_hidden_among_the_problems(check: Check) -> None:
    check.api.instead("list_network_volumes", ZeroDivisionError("a bug"))
    check.revision = DIRTY
    with pytest.raises(ZeroDivisionError):
        check.plan()


def test_secrets_go_into_the_launch_and_only_their_names_into_the_plan(check: Check) -> None:
    check.secrets = {"HF_TOKEN": Secret("s3ntinel")}
    plan = check.plan()
    assert plan.launch.secrets == check.secrets
    assert "s3ntinel" not in f"{plan!r} {render(plan)}"
    assert "HF_TOKEN" in render(plan)


def test_a_secret_without_a_value_is_told_with_what_else_is_wrong_before_a_cloud_is_opened(check: Check) -> None:
    check.secrets = SettingsError("HF_TOKEN has no value.", next_step="set it")
    check.committed = False
    said = str(check.refusal(cloud_is_free=True))
    assert "HF_TOKEN has no value" in said
    assert "is not in commit" in said
    assert check.opened == 0
