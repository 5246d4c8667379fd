"""What GPU types cost and whether they are to be had, where this project's pods are rented."""

from __future__ import annotations

from podtasks.flows.cloud import Cloud
from podtasks.flows.place import find_data_center
from podtasks.pure.gpu_market import Market, sort_by_price
from podtasks.pure.settings import Settings


def read_market(cloud: Cloud, settings: Settings, gpu_count: int) -> Market:
    """Return all GPU types, with the stock in the network volume's data centre.

    Raises PlanError where the volume is not in this account, or elsewhere than the settings say.
    """
    # As flows/place.find_place: network volumes are found in Secure Cloud only.
    secure = cloud.is_local or settings.cloud_type != "community"
    volumes = cloud.api.list_network_volumes() if cloud.network_volume_id else []
    data_center = find_data_center(cloud, settings, volumes)
    types = cloud.api.list_market(gpu_count=gpu_count, data_center=data_center, secure=secure)
    return Market(
        types=tuple(sort_by_price(types, secure=secure)),
        data_center=data_center,
        secure=secure,
        gpu_count=gpu_count,
        max_usd_per_hour=settings.max_usd_per_hour,
        wanted=tuple(settings.gpu_types),
    )
