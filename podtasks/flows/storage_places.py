"""Where on the volume checkpoints and caches are, and which volume it is."""

from __future__ import annotations

import contextlib
import posixpath

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.fetch_places import find_branch
from podtasks.flows.preflight import read_config
from podtasks.pure.errors import PodtasksError, UsageError
from podtasks.pure.pod import NetworkVolume
from podtasks.pure.settings import Settings
from podtasks.pure.storage import CHECKPOINTS, Search
from podtasks.pure.training_config import checkpoint_directory
from podtasks.pure.volume_place import place_of


def find_search(settings: Settings, files: ProjectFiles) -> Search:
    """Return where checkpoints and caches are: as the configurations and settings say."""
    exact = {place for name in files.config_names() if (place := _checkpoint_place(name, settings, files))}
    root = settings.links.get(CHECKPOINTS, CHECKPOINTS)
    linked = (posixpath.join(settings.clone_name, link) for link in settings.links)
    return Search(
        roots=(root,),
        exact=tuple(sorted(exact)),
        pattern=settings.checkpoint_pattern,
        hf_home=_cache_place(settings),
        linked=tuple(place for place in linked if place not in settings.links.values()),
    )


def _checkpoint_place(name: str, settings: Settings, files: ProjectFiles) -> str | None:
    with contextlib.suppress(PodtasksError):
        config = read_config(name, settings, files)
        place = place_of(checkpoint_directory(settings, config, find_branch(settings, files)), settings)
        return place or None
    return None


def _cache_place(settings: Settings) -> str | None:
    """Return where HF_HOME is on the volume; None where it is elsewhere, or no folder of its own."""
    with contextlib.suppress(UsageError):
        return place_of(settings.pod_environment().get("HF_HOME", ""), settings) or None
    return None


def find_network_volume(cloud: Cloud) -> NetworkVolume | None:
    """Return the project's network volume, None where it has none."""
    volumes = cloud.api.list_network_volumes() if cloud.network_volume_id else []
    return next((volume for volume in volumes if volume.id == cloud.network_volume_id), None)
