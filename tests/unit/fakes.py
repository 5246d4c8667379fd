"""Stand-ins for the outside world: time that is free, a strict account, a reporter that remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from podtasks.doors.runpod_rest import RunPodRest
from podtasks.doors.runpod_sdk import RunPodSdk
from podtasks.flows.cloud import Cloud
from podtasks.flows.pods import OurPod, ensure_pod
from podtasks.flows.rent import PodRequest, create_pod
from podtasks.pure.bills import PodBill, VolumeBill
from podtasks.pure.cpu_offers import CpuOffer
from podtasks.pure.credit import Credit
from podtasks.pure.errors import CapacityError
from podtasks.pure.gpu_market import GpuType
from podtasks.pure.pod import GpuOffer, NetworkVolume, Pod, PodSpec, PodStatus, SshEndpoint

READS = ("find_pod", "list_pods", "list_offers", "list_market", "list_gpu_types", "list_network_volumes", "read_credit")
RTX_4090 = GpuOffer("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 0.69, "High")
A100 = GpuOffer("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, 1.39, "Low")
CPU_OFFER = CpuOffer("cpu3c-2-4", "Compute-Optimized", 2, 4.0, 0.08)
VOLUME = NetworkVolume("vol1", "data", 100, "EU-RO-1")
IMAGE = "runpod/pytorch:1.0.3-cu1290-torch291-ubuntu2204"
SPEC = PodSpec(
    name="demo",
    image=IMAGE,
    gpu_count=1,
    cloud_type="SECURE",
    data_center="EU-RO-1",
    network_volume_id="vol1",
    container_disk_gb=50,
    volume_disk_gb=20,
    mount_path="/workspace",
    ports="22/tcp",
    start_command="bash -c 'exec true'",
    env={"PODTASKS_PROJECT": "demo"},
)
POD = Pod(
    id="pod1",
    name="demo",
    status=PodStatus.RUNNING,
    image=IMAGE,
    gpu="RTX 4090",
    gpu_count=1,
    usd_per_hour=0.69,
    mount_path="/workspace",
    status_change="Rented by User",
    ssh=SshEndpoint("203.0.113.7", 40022),
    env={
        "PODTASKS_PROJECT": "demo",
        "PODTASKS_HOST_PUBLIC_KEY": "ssh-ed25519 AAAA demo",
        "PODTASKS_NETWORK_VOLUME": "vol1",
    },
)
REQUEST = PodRequest("demo", SPEC, (RTX_4090, A100), 2.0)
CREATE_4090 = "create_pod NVIDIA GeForce RTX 4090"
CREATE_A100 = "create_pod NVIDIA A100 80GB PCIe"
NO_INSTANCES = CapacityError("There are no longer any instances available.", next_step="wait")


def make_pod(pod_id: str = "pod1", *, env: Mapping[str, str] | None = None, **changes: Any) -> Pod:  # noqa: ANN401
    """Return a pod of the project "demo" that differs from POD in these fields; `env` is added to its own."""
    return replace(POD, id=pod_id, env={**POD.env, **(env or {})}, **changes)


STOPPED = make_pod(status=PodStatus.EXITED, ssh=None)
STRANGER = make_pod("aaa", env={"PODTASKS_PROJECT": "other"})


class FakeClock:
    """Time that passes only while somebody sleeps; `sleeps` holds what was asked for."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self.sleeps: list[float] = []

    def now(self) -> float:
        """Return the time."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let the time pass, for free."""
        assert seconds >= 0, "time does not run backwards"
        self.sleeps.append(seconds)
        self.now_s += seconds


class FakeReporter:
    """Remembers what a flow had to say."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []

    def step(self, text: str) -> None:
        """Remember a step."""
        self.steps.append(text)

    def note(self, text: str) -> None:
        """Remember a note."""
        self.notes.append(text)


class StrictApi:
    """An account that answers only what was declared, in the order declared, and records every call.

    A question's last answer is given again and again; an order must be declared for each time it comes.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.specs: list[PodSpec] = []
        self._answers: dict[str, list[object]] = {}

    def on(self, call: str, *answers: object) -> StrictApi:
        """Declare the answers of a call such as "find_pod pod1"; an exception is raised, a function is called."""
        self._answers.setdefault(call, []).extend(answers)
        return self

    def instead(self, call: str, *answers: object) -> StrictApi:
        """Declare the answers of a call anew."""
        self._answers[call] = list(answers)
        return self

    def orders(self) -> list[str]:
        """Return the calls that change something, in order."""
        return [call for call in self.calls if call.split()[0] not in READS]

    def leftovers(self) -> list[str]:
        """Return the calls with answers that nobody came for."""
        return [call for call, answers in self._answers.items() if answers and call not in self.calls]

    def list_network_volumes(self) -> list[NetworkVolume]:
        """Return what was declared."""
        return cast("list[NetworkVolume]", self._answer("list_network_volumes"))

    def list_gpu_types(self) -> list[str]:
        """Return what was declared."""
        return cast("list[str]", self._answer("list_gpu_types"))

    def list_offers(
        self, gpu_types: Sequence[str], *, gpu_count: int, data_center: str | None, secure: bool
    ) -> list[GpuOffer]:
        """Return those of the declared offers that are asked for."""
        where = f"{data_center or '-'} {'secure' if secure else 'community'}"
        offers = cast("list[GpuOffer]", self._answer(f"list_offers {gpu_count} {where}"))
        return [offer for gpu in gpu_types for offer in offers if offer.id == gpu]

    def read_credit(self) -> Credit:
        """Return what was declared."""
        return cast("Credit", self._answer("read_credit"))

    def list_pods(self) -> list[Pod]:
        """Return what was declared."""
        return cast("list[Pod]", self._answer("list_pods"))

    def find_pod(self, pod_id: str) -> Pod | None:
        """Return what was declared."""
        return cast("Pod | None", self._answer(f"find_pod {pod_id}"))

    def create_pod(self, spec: PodSpec, gpu_type: str) -> str:
        """Return the declared id; the spec is kept."""
        self.specs.append(spec)
        return cast("str", self._answer(f"create_pod {gpu_type}"))

    def create_cpu_pod(self, spec: PodSpec, instance_id: str) -> str:
        """Return the declared id; the spec is kept."""
        self.specs.append(spec)
        return cast("str", self._answer(f"create_cpu_pod {instance_id}"))

    def resume_pod(self, pod_id: str, gpu_count: int) -> None:
        """Do what was declared."""
        self._answer(f"resume_pod {pod_id} {gpu_count}")

    def list_market(self, *, gpu_count: int, data_center: str | None, secure: bool) -> list[GpuType]:
        """Answer as declared."""
        return cast("list[GpuType]", self._answer(f"list_market {gpu_count} {data_center} {secure}"))

    def stop_pod(self, pod_id: str) -> None:
        """Do what was declared."""
        self._answer(f"stop_pod {pod_id}")

    def terminate_pod(self, pod_id: str) -> None:
        """Do what was declared."""
        self._answer(f"terminate_pod {pod_id}")

    def _answer(self, call: str) -> object:
        self.calls.append(call)
        answers = self._answers.get(call)
        assert answers, f"undeclared call: {call}; declared: {sorted(self._answers)}; calls so far: {self.calls}"
        keep = len(answers) == 1 and call.split()[0] in READS
        answer = answers[0] if keep else answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast("Callable[[], object]", answer)() if callable(answer) else answer


class FakeRest:
    """REST v2 with this price and these bills; `error` is what every question is answered with instead."""

    def __init__(
        self,
        *,
        cpu_offer: CpuOffer | None = CPU_OFFER,
        pod_bills: Sequence[PodBill] = (),
        volume_bills: Sequence[VolumeBill] = (),
        error: Exception | None = None,
    ) -> None:
        self._cpu_offer, self._pod_bills, self._volume_bills = cpu_offer, pod_bills, volume_bills
        self._error = error

    def find_cpu_offer(self, instance_id: str) -> CpuOffer | None:
        """Return the offer, whatever is asked for."""
        del instance_id
        self._fail()
        return self._cpu_offer

    def list_pod_billing(self, days: int) -> list[PodBill]:
        """Return the bills, however many days are asked for."""
        del days
        self._fail()
        return list(self._pod_bills)

    def list_volume_billing(self, days: int) -> list[VolumeBill]:
        """Return the bills, however many days are asked for."""
        del days
        self._fail()
        return list(self._volume_bills)

    def _fail(self) -> None:
        if self._error is not None:
            raise self._error


def make_cloud(
    api: StrictApi,
    folder: Path,
    *,
    pod_id: str = "",
    network_volume_id: str | None = "vol1",
    is_local: bool = False,
    rest: FakeRest | None = None,
) -> Cloud:
    """Return a cloud on this account, whose POD_ID lives in `folder`/.runpod.env."""
    return Cloud(
        name="RunPod",
        is_local=is_local,
        api=cast(RunPodSdk, api),
        rest=cast(RunPodRest, rest or FakeRest()),
        identity_path=folder / ".runpod.env",
        pod_id=pod_id,
        network_volume_id=network_volume_id,
        key_path=folder / "key",
        public_key="ssh-ed25519 AAAA me",
    )


class World:
    """An account, a clock and a reporter, and the flows that get a pod called with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = StrictApi()
        self.clock = FakeClock()
        self.report = FakeReporter()

    def cloud(self, *, pod_id: str = "") -> Cloud:
        """Return a cloud on this account that remembers this pod."""
        return make_cloud(self.api, self.folder, pod_id=pod_id)

    def ensure(self, request: PodRequest = REQUEST, *, pod_id: str = "") -> Pod:
        """Get the pod that a launch needs."""
        return self.ensure_ours(request, pod_id=pod_id).pod

    def ensure_ours(self, request: PodRequest = REQUEST, *, pod_id: str = "") -> OurPod:
        """Get the pod that a launch needs, and whether it ran before."""
        return ensure_pod(self.cloud(pod_id=pod_id), request, self.report, self.clock)

    def rent(self, request: PodRequest = REQUEST) -> Pod:
        """Get a new pod."""
        return create_pod(self.cloud(), request, self.report, self.clock)

    def remembered(self) -> str:
        """Return the text of the identity file, "" when there is none."""
        path = self.folder / ".runpod.env"
        return path.read_text() if path.exists() else ""
