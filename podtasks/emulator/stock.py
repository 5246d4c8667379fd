"""What can be rented now: what the dials say there is, less what runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from podtasks.emulator import catalogue
from podtasks.emulator.dials import Dials
from podtasks.emulator.errors import CapacityError, MachineError, ResumeError, SpotCapacityError
from podtasks.emulator.pod import RUNNING, Pod, PodOrder


class Stock:
    """The free GPUs and CPU instances.

    Args:
        dials: gives the dials as they are now.
        pods: gives the pods that exist.
    """

    def __init__(self, dials: Callable[[], Dials], pods: Callable[[], Iterable[Pod]]) -> None:
        self._dials = dials
        self._pods = pods

    def free_gpus(self, gpu_type_id: str, data_center: str) -> int:
        """Return how many GPUs of a type can be rented in a data centre now."""
        if data_center not in catalogue.GPU_TYPES[gpu_type_id].data_centers:
            return 0
        rented = sum(pod.gpu_count for pod in self._running(data_center) if pod.order.gpu_type_id == gpu_type_id)
        return max(0, self._dials().amount(gpu_type_id, data_center) - rented)

    def free_cpus(self, flavour_id: str, data_center: str) -> int:
        """Return how many instances of a CPU flavour can be rented in a data centre now."""
        rented = sum(pod.order.cpu_flavour == flavour_id for pod in self._running(data_center))
        return max(0, self._dials().amount(flavour_id, data_center) - rented)

    def check_order(self, order: PodOrder) -> None:
        """Refuse an order that cannot be met.

        Raises:
            CapacityError: too few are free (SpotCapacityError for a bid).
        """
        if order.gpu_type_id and self.free_gpus(order.gpu_type_id, order.data_center) < order.gpu_count:
            raise CapacityError if order.bid_usd is None else SpotCapacityError
        if order.cpu_flavour and not self.free_cpus(order.cpu_flavour, order.data_center):
            raise CapacityError

    def check_resume(self, pod: Pod, gpu_count: int) -> None:
        """Refuse to resume a pod whose host has nothing free, or when the dial says so.

        Raises:
            ResumeError: of a GPU pod.
            MachineError: of a CPU pod.
        """
        order, fails = pod.order, self._dials().resume_fails
        if order.gpu_type_id is None:
            if fails or (order.cpu_flavour and not self.free_cpus(order.cpu_flavour, order.data_center)):
                raise MachineError
        elif fails or self.free_gpus(order.gpu_type_id, order.data_center) < gpu_count:
            raise ResumeError

    def _running(self, data_center: str) -> Iterable[Pod]:
        return (pod for pod in self._pods() if pod.desired == RUNNING and pod.order.data_center == data_center)
