"""The environment of a pod's process 1.

Sources: RunPod docs, pods/templates/environment-variables (the RUNPOD_* variables); a user's own
RUNPOD_API_KEY is replaced by the pod-scoped one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from podtasks.emulator import catalogue
from podtasks.emulator.pod import Pod

IMAGE_PATH = "/opt/image/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOOPBACK = "127.0.0.1"

_NETWORK_NAMES = frozenset(
    (
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"),
        *("NODE_EXTRA_CA_CERTS",),
        *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_TRUSTED_HOST"),
        *("PIP_CERT", "PIP_CLIENT_CERT", "PIP_PROXY", "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES"),
        *("PIP_CONFIG_FILE", "PIP_DISABLE_PIP_VERSION_CHECK"),
        *("UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_INSECURE_HOST"),
        *("UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_OFFLINE"),
        *("UV_CONFIG_FILE", "UV_KEYRING_PROVIDER"),
    )
)
_PROXY_NAMES = frozenset(("http_proxy", "https_proxy", "all_proxy", "ftp_proxy"))


def network_settings(host: Mapping[str, str]) -> dict[str, str]:
    """Return the host's variables that say how to reach package indexes: proxies, certificates, indexes.

    A pod is on the host's network, so it needs them as the host does. Loopback is never proxied, because
    that is where the API is.
    """
    found = {
        name: value
        for name, value in host.items()
        if name in _NETWORK_NAMES or name.lower() in _PROXY_NAMES or name.startswith("UV_INDEX")
    }
    if any(name.lower() in _PROXY_NAMES for name in found):
        direct = host.get("no_proxy") or host.get("NO_PROXY") or ""
        found["no_proxy"] = found["NO_PROXY"] = ",".join(filter(None, (direct, LOOPBACK, "localhost")))
    return found


def paths_named_in(settings: Mapping[str, str]) -> list[str]:
    """Return the files and directories of this machine that network settings point to."""
    words = [word for value in settings.values() for word in value.replace(",", " ").split()]
    return sorted({word for word in words if word.startswith("/") and os.path.exists(word)})


def pod_environment(pod: Pod, *, api_url: str, account_public_key: str) -> dict[str, str]:
    """Return the whole environment of a pod's process 1.

    Args:
        pod: a pod that has its public ports.
        api_url: where the emulator answers, without a path.
        account_public_key: given as PUBLIC_KEY with `startSsh`, unless the order has its own.
    """
    order = pod.order
    result = {
        "PATH": IMAGE_PATH,
        "HOME": "/root",
        "CUDA_VERSION": catalogue.CUDA_VERSION,
        **network_settings(os.environ),
        "RUNPOD_API_URL": f"{api_url}/v2",
        "RUNPOD_GRAPHQL_URL": f"{api_url}/graphql",
    }
    if order.start_ssh and account_public_key:
        result["PUBLIC_KEY"] = account_public_key
    return {**result, **order.env, **_platform_variables(pod)}


def _platform_variables(pod: Pod) -> dict[str, str]:
    order = pod.order
    result = {
        "RUNPOD_POD_ID": pod.id,
        "RUNPOD_API_KEY": pod.key,
        "RUNPOD_DC_ID": order.data_center,
        "RUNPOD_POD_HOSTNAME": pod.host_id,
        "RUNPOD_PUBLIC_IP": LOOPBACK,
        "RUNPOD_GPU_COUNT": str(pod.gpu_count),
        "RUNPOD_CPU_COUNT": str(order.vcpu_count),
    }
    for private in order.private_ports("tcp"):
        result[f"RUNPOD_TCP_PORT_{private}"] = str(pod.public_ports[private])
    if order.network_volume_id:
        result["RUNPOD_VOLUME_ID"] = order.network_volume_id
    return result


def path_is_within(path: str, folders: tuple[str, ...]) -> bool:
    """Say whether a path lies in one of some folders."""
    return any(Path(path).is_relative_to(folder) for folder in folders)
