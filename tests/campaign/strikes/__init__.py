"""All strikes there are, by what they strike."""

from __future__ import annotations

from tests.campaign.strike import Strike
from tests.campaign.strikes import api, cli, cloud, network, pod, volume

ALL: tuple[Strike, ...] = (
    *cli.STRIKES,
    *api.STRIKES,
    *network.STRIKES,
    *pod.STRIKES,
    *volume.STRIKES,
    *cloud.STRIKES,
)
