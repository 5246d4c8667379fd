"""Who runs it: the values of .runpod.env, which are never committed."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from podtasks.pure.secret import Secret
from podtasks.pure.setting_types import GpuTypes, RequiredText, matching

PLACEHOLDER_VALUE = re.compile(
    r"your[-_ ].*|.*[-_]here|<.*>|change[-_ ]?me|x{3,}|\.{3}|…|todo|none|null", re.IGNORECASE | re.DOTALL
)
ID = re.compile(r"[A-Za-z0-9_-]+")
BASE_URL = re.compile(r"https://[^\s@]+|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?(/[^\s@]*)?")


def _key(secret: Secret) -> Secret:
    if not re.fullmatch(r"[\x21-\x7e]+", secret.reveal()):
        raise ValueError("must be one word of plain characters")
    return secret


Key = Annotated[Secret, AfterValidator(_key)]
Id = Annotated[RequiredText, matching(ID, "must be an id of letters, digits, dashes and underscores")]
BaseUrl = Annotated[
    RequiredText,
    matching(BASE_URL, "must be an https address (http only on this machine: the API key goes there)"),
]


class Identity(BaseModel):
    """The account, the volume, the pod and the keys; field names are the variables' names in lower case."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    runpod_api_key: Key | None = Field(
        default=None, description="RunPod's API key. Without it only the local cloud works."
    )
    network_volume_id: Id | None = Field(
        default=None, description="The network volume that holds data and checkpoints."
    )
    pod_id: Id | None = Field(default=None, description="The pod that is used again; written by podtasks.")
    ssh_key_path: RequiredText = Field(default="~/.ssh/id_ed25519", description="The private SSH key the pod lets in.")
    gpu_type: GpuTypes | None = Field(
        default=None, description="GPU types for this machine's runs, separated by commas; replaces `gpu_types`."
    )
    runpod_s3_access_key: Key | None = Field(default=None, description="Access key of RunPod's S3 API.")
    runpod_s3_secret_key: Key | None = Field(default=None, description="Secret key of RunPod's S3 API.")
    runpod_api_base_url: BaseUrl | None = Field(default=None, description="Another address for RunPod's API.")


IDENTITY_KEYS = tuple(name.upper() for name in Identity.model_fields)


def is_unset(value: object) -> bool:
    """Return whether a value of .runpod.env stands for nothing: empty, or the example's placeholder."""
    return value is None or (
        isinstance(value, str) and (not value.strip() or PLACEHOLDER_VALUE.fullmatch(value.strip()) is not None)
    )
