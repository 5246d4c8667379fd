"""A watcher on the machine on which the user took a pod away brings its run not back, though nobody could mark it."""

from __future__ import annotations

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.end_marks import note_end
from podtasks.flows.judge import Judge
from podtasks.flows.relaunch import Ground
from podtasks.flows.watch_notes import WatchNotes
from podtasks.flows.watched import from_record
from podtasks.pure.chain import Chain
from podtasks.pure.recovery import Done, Relaunch, decide
from podtasks.pure.settings import Settings
from podtasks.pure.signs import Life
from tests.unit.fakes import World, make_pod

NOW = 1_800_000_000.0
RECORD = {
    "run_id": "digits-20270115-051400-3f2a1b9",
    "pod": {"id": "pod1", "usd_per_hour": 0.69},
    "launched_at": NOW - 600,
    "chain": Chain("digits-1", 0, 0.0, 0.0, 10, 24.0, None).to_json(),
}


def test_lost_run_is_brought_back_unless_its_pod_was_taken_away_from_here(world: World) -> None:
    files = ProjectFiles(world.folder)
    ground = Ground(world.cloud(), Settings(), files, world.report, world.clock, dict, lambda: NOW)
    judge = Judge(ground, WatchNotes(files, "RunPod"), None)
    watched = from_record(RECORD, None, None)
    assert watched is not None
    assert isinstance(decide(judge._facts(watched), Life.LOST), Relaunch)
    note_end(files, world.cloud(), make_pod(), NOW - 10, world.report)
    assert isinstance(decide(judge._facts(watched), Life.LOST), Done)
