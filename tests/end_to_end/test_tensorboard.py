"""`inv tensorboard`: the curves of a real training in a real browser, and a training that does not notice."""

from __future__ import annotations

import base64
import functools
import os
import re
import shutil
import signal
import urllib.request
from pathlib import Path

from tests.end_to_end.browser import Browser, open_browser
from tests.end_to_end.project import ROOT, TIMEOUT_S, TrainingProject, command_line, descendants
from tests.end_to_end.watching import listening_addresses

DIGITS = """training:
  output_dir: checkpoints/digits
  logging_dir: logs/digits
  predictions_file: predictions/digits.jsonl
  max_steps: 200
  save_steps: 100
  logging_steps: 10
  eval_steps: 20
"""
TAGS = {"train/loss", "train/learning_rate", "eval/loss", "eval/accuracy"}
# The card's title, and the numbers of its table: smoothed value, value, step.
CARDS = """
return Object.fromEntries([...document.querySelectorAll('scalar-card')].map(card => [
    card.querySelector('.tag').textContent.trim(),
    [...card.querySelectorAll('tb-data-table-content-cell')].map(cell => cell.textContent.trim()),
]))
"""
CHART = """
return [...document.querySelectorAll('scalar-card')].find(
    card => card.querySelector('.tag').textContent.trim() === arguments[0]).querySelector('line-chart')
"""
# Grid, axes and letters are grey; a run's line has a colour. Returns the share of columns that have some of it.
COLOURED_COLUMNS = """
const [data, done] = arguments, image = new Image();
image.onload = () => {
    const canvas = Object.assign(document.createElement('canvas'), {width: image.width, height: image.height});
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height).data, columns = new Set();
    for (let at = 0; at < pixels.length; at += 4) {
        const colour = pixels.slice(at, at + 3);
        if (Math.max(...colour) - Math.min(...colour) > 20) columns.add(at / 4 % image.width);
    }
    done(columns.size / image.width);
};
image.src = 'data:image/png;base64,' + data;
"""


class BoardCommand:
    """`inv tensorboard`, running."""

    def __init__(self, project: TrainingProject, *words: str) -> None:
        self._project = project
        self.process = project.start("tensorboard", *words)
        self.url = project.wait_for(self._printed, "the address of the page")

    def _printed(self) -> str:
        assert self.process.poll() is None, self._project.said()
        return (self._project.path / ".home/out").read_text().strip()

    def ask(self, path: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read()
            return data

    def answers(self) -> bool:
        return bool(self.ask(""))

    def interrupt(self) -> int:
        """Press Ctrl+C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=TIMEOUT_S)


def digits_project(project: TrainingProject) -> TrainingProject:
    shutil.copytree(ROOT / "examples/digits", project.path / "examples/digits")
    (project.path / "configs/run.yaml").write_text(DIGITS)
    digits = {"script": "examples/digits/scripts/train.py", "requirements": "examples/digits/requirements.txt"}
    project.set(**digits, when_done="keep", project="demo")
    project.commit("digits")
    return project


def test_the_scalars_of_the_demo_are_drawn_in_a_browser(project: TrainingProject, tmp_path: Path) -> None:
    digits_project(project)
    done = project.train()
    assert done.code == 0, done.stderr

    board = BoardCommand(project)
    with open_browser(tmp_path / "profile") as browser:
        browser.driver.get(board.url)
        cards = wait_for_cards(browser)
        assert set(cards) >= TAGS
        logged = re.findall(r"step 200/200 .*eval_accuracy ([\d.]+)", project.log)
        accuracy = [float(text) for text in cards["eval/accuracy"] if re.fullmatch(r"0\.\d+", text)]
        assert any(abs(value - float(logged[0])) < 1e-3 for value in accuracy), (logged, cards)
        for tag in sorted(TAGS):
            browser.wait_until(functools.partial(is_drawn, browser, tag), f"the line of {tag}")
        picture = browser.keep_screenshot("tensorboard.png")
        browser.driver.execute_script("document.querySelectorAll('line-chart canvas').forEach(line => line.remove())")
        assert drawn_share(browser, "train/loss") < 0.1, "what was seen was not the line"
    assert picture.stat().st_size > 20_000
    pods = [pid for pod in project.running_pods() for pid in descendants(project.pod_pid(pod))]
    assert listening_addresses([*descendants(board.process.pid), *pods]) == {"127.0.0.1"}
    assert "reading /workspace/demo/logs/digits" in project.said()
    assert board.interrupt() == 0, project.said()

    # With the pod stopped, the same curves are shown here, once they were fetched.
    assert project.inv("stop", "--now").code == 0
    refused = project.inv("tensorboard")
    assert refused.code == 100
    assert "inv fetch logs" in refused.stderr
    shutil.copytree(project.volume / "logs", project.path / "fetched/logs")
    board = BoardCommand(project, "--config", "configs/run.yaml")
    assert "no pod is running" in project.said()
    project.wait_for(lambda: "eval/accuracy" in str(board.ask("data/plugin/scalars/tags")), "the fetched scalars")
    assert board.interrupt() == 0, project.said()
    assert project.running_pods() == []


def wait_for_cards(browser: Browser) -> dict[str, list[str]]:
    """Return the cards of the page by their tags, with the texts of their tables, once all have a table."""

    def read() -> dict[str, list[str]]:
        cards: dict[str, list[str]] = browser.driver.execute_script(CARDS)
        return cards if set(cards) >= TAGS and all(map(any, cards.values())) else {}

    return browser.wait_until(read, f"the cards {sorted(TAGS)}")


def is_drawn(browser: Browser, tag: str) -> bool:
    return drawn_share(browser, tag) > 0.5


def drawn_share(browser: Browser, tag: str) -> float:
    """Return over which share of a card's width its line is drawn."""
    chart = browser.driver.execute_script(CHART, tag)
    picture = base64.b64encode(chart.screenshot_as_png).decode()
    share: float = browser.driver.execute_async_script(COLOURED_COLUMNS, picture)
    return share


def require_out_of_the_way(tensorboard: int, training: int) -> None:
    """Require that TensorBoard yields to the training, shares no process group with it, and is on loopback only."""
    assert os.getpriority(os.PRIO_PROCESS, tensorboard) == 10
    assert os.getpriority(os.PRIO_PROCESS, training) == 0
    assert os.getpgid(tensorboard) != os.getpgid(training)
    assert os.getsid(tensorboard) != os.getsid(training)
    assert Path(f"/proc/{tensorboard}/oom_score_adj").read_text() == "1000\n"
    environ = Path(f"/proc/{tensorboard}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=" in environ
    assert not [word for word in environ if b"KEY" in word], "no secret is in its environment"
    assert "--host=127.0.0.1 " in command_line(tensorboard)


def test_training_does_not_notice_tensorboard_and_the_tunnel_survives_a_broken_link(project: TrainingProject) -> None:
    project.hold_at(4)
    assert project.train("--no-follow").code == 0
    project.wait_for_step(4)

    board = BoardCommand(project)
    assert board.answers()
    assert "no event file is there yet" in project.said()
    assert board.interrupt() == 0
    assert "keeps running on the pod" in project.said()
    (tensorboard,) = project.pod_processes("-m tensorboard.main --logdir")
    require_out_of_the_way(tensorboard, project.pod_processes("scripts/train.py")[-1])

    board = BoardCommand(project)
    assert "runs already" in project.said()
    assert project.pod_processes("-m tensorboard.main --logdir") == [tensorboard], "it was started again"
    for pid in project.pod_processes("sshd: root"):
        os.kill(pid, signal.SIGKILL)
    project.wait_for(lambda: "the tunnel is back" in project.said(), "the tunnel to be made anew")
    assert board.answers(), "at the same address"

    project.release()
    assert board.process.wait(timeout=TIMEOUT_S) == 0, project.said()
    assert "inv fetch logs" in project.said()
    assert re.findall(r"^(step \d|trained|EXIT_CODE=\d+|ENDED.*)", project.log, re.MULTILINE) == [
        *(f"step {step}" for step in range(1, 9)),
        "trained",
        "EXIT_CODE=0",
    ]
    project.wait_for(project.is_idle, "the pod to stop")
