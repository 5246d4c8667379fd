"""The Invoke tasks of podtasks, one collection."""

from __future__ import annotations

from invoke.collection import Collection

from podtasks.tasks.board import tensorboard
from podtasks.tasks.cloud import cloud
from podtasks.tasks.data import sync_data
from podtasks.tasks.doctor import doctor
from podtasks.tasks.entry import require_readable_settings
from podtasks.tasks.fetch import fetch
from podtasks.tasks.logs import logs
from podtasks.tasks.money import cost, gpus
from podtasks.tasks.pod import stop, terminate
from podtasks.tasks.reap import reap
from podtasks.tasks.runs import runs
from podtasks.tasks.setup import init, settings
from podtasks.tasks.shell import attach, ssh, start
from podtasks.tasks.status import status
from podtasks.tasks.storage import storage
from podtasks.tasks.train import train
from podtasks.tasks.watch import watch

require_readable_settings()
ns = Collection(
    train,
    watch,
    logs,
    tensorboard,
    sync_data,
    fetch,
    status,
    runs,
    cost,
    gpus,
    start,
    attach,
    ssh,
    stop,
    terminate,
    reap,
    settings,
    storage,
    doctor,
    init,
    cloud,
)
