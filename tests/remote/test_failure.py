"""What went wrong with a run, told from its exit code, its reason and the end of its log."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.remote.fake_pod import REMOTE

HEADER = (
    "\n====== 2026-11-23 12:00:00 ======\nCONFIG: nan_loss.yaml\nSTARTING FRESH\nRUN: r\nPOD: p\nCOMMIT: 3f (main)\n"
)
BAR = " 43%|████▎     | 430/1000 [00:12<00:16, 34.20it/s]"
FRAMES = """Traceback (most recent call last):
  File "/workspace/clone/scripts/train.py", line 42, in <module>
    main()
  File "/workspace/clone/scripts/train.py", line 30, in main
    trainer.train()
  File "/opt/podtasks/venv/lib/python3.11/site-packages/torch/nn/modules/linear.py", line 125, in forward
    return F.linear(input, self.weight, self.bias)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"""
OOM = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.64 GiB of which 1.31 GiB is "
    "free. Process 12345 has 22.32 GiB memory in use. Of the allocated memory 20.97 GiB is allocated by PyTorch, and "
    "914.03 MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)
UNEXPECTED = "RuntimeError: DataLoader worker (pid(s) 4711, 4712) exited unexpectedly\n"
WANDB = "wandb: \nwandb: Run history:\n" + "".join(f"wandb:   metric_{n} ▁▂▃\n" for n in range(20)) + "wandb: Synced\n"
CHILD_FAILED = """E1123 12:00:00 torch/distributed/elastic/multiprocessing/api.py] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/usr/local/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
scripts/train.py FAILED
"""


@pytest.fixture
def failure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, imported as its siblings import it."""
    monkeypatch.syspath_prepend(str(REMOTE))
    return importlib.import_module("failure")


def make_record(root: Path, log: str | bytes, exit_code: int | None, reason: str, **fields: object) -> dict[str, Any]:
    """Return the record of a run that ended so, after one that ran out of GPU memory."""
    path = root / "current.log"
    earlier = f"{FRAMES}torch.OutOfMemoryError: {OOM}\nEXIT_CODE=1\n".encode()
    path.write_bytes(earlier + HEADER.encode() + (log if isinstance(log, bytes) else log.encode()))
    return {"log": str(path), "log_start": len(earlier), "exit_code": exit_code, "reason": reason, **fields}


def explain(
    failure: ModuleType, root: Path, log: str | bytes, exit_code: int | None = 1, reason: str = "failed"
) -> dict[str, Any]:
    """Return what is told of a run that ended so."""
    found = failure.explain(make_record(root, log, exit_code, reason))
    assert isinstance(found, dict)
    return found


ERRORS = [
    # GPU memory
    (f"torch.OutOfMemoryError: {OOM}", "gpu_memory"),
    (f"torch.cuda.OutOfMemoryError: {OOM}", "gpu_memory"),
    ("RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", "gpu_memory"),
    ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "gpu_memory"),
    (
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes",
        "gpu_memory",
    ),
    (
        "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating tensor with shape[8]",
        "gpu_memory",
    ),
    # Memory of the pod
    ("MemoryError", "host_memory"),
    ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 74.5 GiB for an array", "host_memory"),
    (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried",
        "host_memory",
    ),
    ("RuntimeError: DataLoader worker (pid 4711) is killed by signal: Killed. ", "host_memory"),
    ("OSError: [Errno 12] Cannot allocate memory", "host_memory"),
    # Driver
    (f"RuntimeError: {DRIVER}", "cuda_driver"),
    ("RuntimeError: CUDA error: no kernel image is available for execution on the device\nCUDA kernel", "cuda_driver"),
    ("RuntimeError: No CUDA GPUs are available", "cuda_driver"),
    ("AssertionError: Torch not compiled with CUDA enabled", "cuda_driver"),
    ("RuntimeError: CUDA driver version is insufficient for CUDA runtime version", "cuda_driver"),
    ("ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory", "cuda_driver"),
    ("OSError: libcuda.so.1: cannot open shared object file: No such file or directory", "cuda_driver"),
    ("RuntimeError: CUDA error: no CUDA-capable device is detected", "cuda_driver"),
    (
        "pynvml.NVMLError_LibRmVersionMismatch: Failed to initialize NVML: Driver/library version mismatch",
        "cuda_driver",
    ),
    # The GPU
    ("RuntimeError: CUDA error: device-side assert triggered\nCUDA kernel errors might be", "cuda_error"),
    ("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "cuda_error"),
    ("RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", "cuda_error"),
    # The disk
    ("OSError: [Errno 28] No space left on device: '/workspace/x/checkpoint-5/optimizer.pt'", "disk_full"),
    ("OSError: [Errno 122] Disk quota exceeded", "disk_full"),
    ("RuntimeError: PytorchStreamWriter failed writing file data/12: file write failed", "disk_full"),
    ("RuntimeError: [enforce fail at inline_container.cc:603] . unexpected pos 4608 vs 4502", "disk_full"),
    (
        "safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left on device (os error 28)",
        "disk_full",
    ),
    # Modules and files
    ("ModuleNotFoundError: No module named 'librosa.filters'", "missing_module"),
    ("ImportError: cannot import name 'AdamW' from 'transformers' (/x/__init__.py)", "missing_module"),
    ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory", "missing_module"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'data/train.jsonl'", "missing_file"),
    ("FileNotFoundError: Couldn't find any data file at /workspace/data.", "missing_file"),
    ("soundfile.LibsndfileError: Error opening 'data/audio_0/x.wav': System error.", "missing_file"),
    ("NotADirectoryError: [Errno 20] Not a directory: '/workspace/x/y'", "missing_file"),
    # Rights
    ("PermissionError: [Errno 13] Permission denied: '/root/x'", "permission"),
    ("OSError: [Errno 30] Read-only file system: '/data'", "permission"),
    # Numbers
    ("FloatingPointError: invalid value encountered in matmul", "nan_loss"),
    ("ValueError: Loss is NaN at step 430", "nan_loss"),
    ("RuntimeError: probability tensor contains either `inf`, `nan` or element < 0", "nan_loss"),
    ("ValueError: Input contains NaN.", "nan_loss"),
    # Others
    (
        "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled system error",
        "distributed",
    ),
    ("torch.distributed.DistNetworkError: The client socket has timed out after 600000ms", "distributed"),
    ("huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1)", "huggingface_access"),
    (
        "OSError: You are trying to access a gated repo.\nMake sure to have access to it.\n401 Client Error.",
        "huggingface_access",
    ),
    (
        "requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: https://huggingface.co/api/x",
        "huggingface_access",
    ),
    ("RuntimeError: unable to write to file </torch_12_34>: No space left on device (28)", "shared_memory"),
    (
        "RuntimeError: DataLoader worker (pid 9) is killed by signal: Bus error. It is possible that dataloader's "
        "workers are out of shared memory. Please try to raise your shared memory limit.",
        "shared_memory",
    ),
    ("git.exc.InvalidGitRepositoryError: /workspace/clone", "git"),
    ("subprocess.CalledProcessError: Command '['git', 'rev-parse']' returned non-zero exit status 128.", "git"),
    ("requests.exceptions.ConnectionError: HTTPSConnectionPool(host='x', port=443): Max retries exceeded", "network"),
    ("urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>", "network"),
    ("ValueError: shapes (3,4) and (5,6) not aligned", "python_error"),
    ("KeyError: 'loss'", "python_error"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
@pytest.mark.parametrize("after", ["", WANDB])
def test_the_last_exception_tells_the_kind(
    failure: ModuleType, tmp_path: Path, error: str, kind: str, after: str
) -> None:
    found = explain(failure, tmp_path, f"starting\n{BAR}{FRAMES}{error}\n{after}")
    assert found["kind"] == kind
    first = error.split("\n")[0]
    assert any(line.startswith(first[:250].rstrip()) for line in found["lines"])
    assert '  File "/workspace/clone/scripts/train.py", line 30, in main'.strip() in found["lines"]
    assert found["title"]
    assert 1 <= len(found["advice"]) <= 3


LINES = [
    ("Killed\n", 137, "killed by SIGKILL, perhaps for want of memory", "host_memory"),
    ("step 5\n", 137, "killed by SIGKILL, perhaps for want of memory", "host_memory"),
    (
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
        134,
        "killed by SIGABRT",
        "host_memory",
    ),
    ("scripts/run.sh: line 3: 4711 Killed\n", 1, "failed", "host_memory"),
    (
        "python: can't open file '/workspace/clone/scripts/trian.py': [Errno 2] No such file or directory\n",
        2,
        "failed",
        "missing_file",
    ),
    (
        "podtasks: cannot start ['/no/python', 'x']: [Errno 2] No such file or directory: '/no/python'\n",
        127,
        "failed",
        "missing_file",
    ),
    (
        "podtasks: cannot start ['/etc/passwd']: [Errno 13] Permission denied: '/etc/passwd'\n",
        126,
        "failed",
        "permission",
    ),
    ("bash: line 1: accelerate: command not found\n", 127, "failed", "missing_file"),
    ("/usr/bin/python: No module named accelerate\n", 1, "failed", "missing_module"),
    (
        "usage: train.py [-h] --config CONFIG\ntrain.py: error: unrecognized arguments: --resume x\n",
        2,
        "failed",
        "usage",
    ),
    (
        "Usage: train.py [OPTIONS]\nTry 'train.py --help' for help.\n\nError: No such option: --confg\n",
        2,
        "failed",
        "usage",
    ),
    ("Loss is nan, stopping training\n", 1, "failed", "nan_loss"),
    ("{'loss': 0.5, 'epoch': 1.0}\n{'loss': nan, 'grad_norm': nan, 'epoch': 2.0}\n", 1, "failed", "nan_loss"),
    ("step 7: loss inf\n", 1, "failed", "nan_loss"),
    ("fatal: not a git repository (or any of the parent directories): .git\n", 128, "failed", "git"),
    ("cp: error writing 'x': No space left on device\n", 1, "failed", "disk_full"),
    ("step 5\n", 139, "killed by SIGSEGV", "crash"),
    ("Fatal Python error: Segmentation fault\n", 139, "killed by SIGSEGV", "crash"),
    ("step 5\n", 135, "killed by SIGBUS", "shared_memory"),
    (
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).\n"
        + FRAMES
        + UNEXPECTED,
        1,
        "failed",
        "host_memory",
    ),
    ('  File "train.py", line 3\n    def (\n        ^\nSyntaxError: invalid syntax\n', 1, "failed", "python_error"),
    ("all was well\n", 3, "failed", "unknown"),
    ("wandb: Network error (ReadTimeout), entering retry loop.\nno such model\n", 1, "failed", "unknown"),
    ("", 143, "killed by SIGTERM", "unknown"),
    # Ends from outside
    ("", 143, "user", "asked_to_end"),
    (f"{FRAMES}KeyboardInterrupt\n", 0, "user", "asked_to_end"),
    ("", 143, "interrupted in tmux", "asked_to_end"),
    ("", 143, "the tmux session was ended", "asked_to_end"),
    ("", 143, "SIGTERM: the pod is ending", "preempted"),
    ("step 5\n", None, "pod lost", "pod_lost"),
    ("", 143, "max_hours", "hours_used_up"),
    ("", 0, "max_hours", "hours_used_up"),
    ("", 137, "max_cost_usd", "money_used_up"),
    ("", 143, "stalled", "stalled"),
    ("step 5\n", 137, "supervisor killed", "supervisor_killed"),
    ("Killed\n", 137, "supervisor killed", "host_memory"),
    ("", 1, "supervisor failed: OSError: [Errno 28] No space left on device", "disk_full"),
    ("", 1, "supervisor failed: KeyError: 'x'", "supervisor_failed"),
]


@pytest.mark.parametrize(("log", "exit_code", "reason", "kind"), LINES)
def test_lines_exit_code_and_reason_tell_the_kind(
    failure: ModuleType, tmp_path: Path, log: str, exit_code: int | None, reason: str, kind: str
) -> None:
    assert explain(failure, tmp_path, log, exit_code, reason)["kind"] == kind


INSTALLATIONS = [
    (
        "ERROR: Could not find a version that satisfies the requirement torhc (from versions: none)\n"
        "ERROR: No matching distribution found for torhc\n",
        "no such package or version",
    ),
    (
        "  \xd7 No solution found when resolving dependencies:\n"
        "  ╰─▶ Because torhc was not found in the package registry and "
        "you require torhc, we can conclude that your requirements are unsatisfiable.\n",
        "no such package or version",
    ),
    (
        "  \xd7 No solution found when resolving dependencies:\n"
        "  ╰─▶ Because there is no version of numpy==9.9 and you "
        "require numpy==9.9, we can conclude that the requirements are unsatisfiable.\n",
        "no such package or version",
    ),
    (
        "  \xd7 No solution found when resolving dependencies:\n"
        "  ╰─▶ Because a==1 depends on numpy<2 and you require a==1 "
        "and numpy>=2, we can conclude that your requirements are unsatisfiable.\n",
        "conflict",
    ),
    (
        "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.\n"
        "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io\n",
        "conflict",
    ),
    (
        "error: Failed to fetch: `https://index.example/simple/numpy/`\n  Caused by: error sending request for url\n"
        "  Caused by: dns error: failed to lookup address information: Temporary failure in name resolution\n",
        "reached",
    ),
    (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(\"Failed to establish a new "
        "connection: [Errno -3] Temporary failure in name resolution\")': /simple/x/\nERROR: Could not find a version "
        "that satisfies the requirement x (from versions: none)\nERROR: No matching distribution found for x\n",
        "reached",
    ),
    (
        "error: Failed to fetch: `https://pypi.example/simple/numpy/`\n"
        "  Caused by: error sending request for url\n  Caused by: invalid peer certificate: UnknownIssuer\n",
        "certificate of the package index",
    ),
    (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'SSLError(SSLCertVerificationError(1, '[SSL: "
        "CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate'))': /simple/x/\n"
        "ERROR: No matching distribution found for x\n",
        "certificate of the package index",
    ),
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "disk is full"),
    ("error: failed to write to file `/x`: No space left on device (os error 28)\n", "disk is full"),
    (
        "error: subprocess-exited-with-error\n  \xd7 Building wheel for x did not run successfully.\n"
        "ERROR: Failed building wheel for x\n",
        "built",
    ),
    ("  \xd7 Failed to build `x==1`\n  ├─▶ The build backend returned an error\n", "built"),
    (
        "  fatal: could not read Username for 'https://github.com': No such device or address\n"
        "error: subprocess-exited-with-error\n",
        "git repository",
    ),
    ("something else\n", "could not be installed"),
]


@pytest.mark.parametrize(("log", "title"), INSTALLATIONS)
def test_why_packages_could_not_be_installed_is_told(failure: ModuleType, tmp_path: Path, log: str, title: str) -> None:
    last = "podtasks: The environment could not be made: `uv pip install` ended with exit code 1.\n"
    found = explain(failure, tmp_path, f"Collecting y\n{log}{last}", 1, "environment failed")
    assert found["kind"] == "pip"
    assert title in found["title"]
    assert found["lines"][-1] == last.strip()
    assert all(line.strip() in f"Collecting y\n{log}{last}" for line in found["lines"])


MISLEADING = [
    # Earlier lines that speak of something else
    ("WARNING: loss is nan, skipping the step\nstep 5\n", "ModuleNotFoundError: No module named 'x'", "missing_module"),
    ("UserWarning: CUDA initialization: " + DRIVER + "\nstep 5: on the CPU\n" * 30, "KeyError: 'x'", "python_error"),
    ("retrying after CUDA out of memory with a smaller batch\n" + "step 5\n" * 30, "KeyError: 'x'", "python_error"),
    (
        f"{FRAMES}ModuleNotFoundError: No module named 'flash_attn'\ncarrying on without it\n",
        "KeyError: 'x'",
        "python_error",
    ),
    ("fatal: not a git repository\nstep 5\n", "KeyError: 'x'", "python_error"),
    ("bash: line 1: module: command not found\n", "KeyError: 'x'", "python_error"),
    ("Failed to initialize NVML: Unknown Error\n", "TypeError: main() takes no arguments", "python_error"),
    (
        "2026-11-23 12:00:00.1: W tensorflow/dso_loader.cc:64] Could not load dynamic library 'libcudart.so.11.0'; "
        "dlerror: libcudart.so.11.0: cannot open shared object file\n",
        "ValueError: no such model",
        "python_error",
    ),
    ("retrying after CUDA out of memory with a smaller batch\n", "ValueError: no such model", "python_error"),
    # Errors that follow from others
    (
        f"{FRAMES}FileNotFoundError: [Errno 2] No such file or directory: 'a.json'\n\nDuring handling of the above "
        "exception, another exception occurred:\n\n",
        "ValueError: no configuration",
        "missing_file",
    ),
    (
        f"{FRAMES}KeyError: 'x'\n\nThe above exception was the direct cause of the following exception:\n\n",
        f"torch.OutOfMemoryError: {OOM}",
        "gpu_memory",
    ),
    (
        "Indexing.cu:1146: block: [1,0,0], thread: [2,0,0] Assertion `srcIndex < srcSelectDimSize` failed.\n",
        "RuntimeError: CUDA error: device-side assert triggered",
        "cuda_error",
    ),
    ("", f"torch.OutOfMemoryError: {OOM}\n[rank1]: NCCL error: remote process exited\n{CHILD_FAILED}", "gpu_memory"),
    (
        "",
        f"torch.OutOfMemoryError: {OOM}\n{FRAMES}torch.distributed.DistBackendError: NCCL error in: x\n{CHILD_FAILED}",
        "gpu_memory",
    ),
    (
        "",
        f"RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed.\nException ignored in: <function x>\n"
        f"{FRAMES}AttributeError: 'NoneType' object has no attribute 'x'\n",
        "host_memory",
    ),
    (
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory.\n",
        "RuntimeError: worker failed",
        "shared_memory",
    ),
    ("", f"torch.distributed.DistBackendError: NCCL error in: x\n{CHILD_FAILED}", "distributed"),
    ("", "KeyError: 'x'\nterminate called after throwing an instance of 'std::bad_alloc'", "host_memory"),
    # Texts of the user's own
    ("", "ValueError: the column 'Killed' holds no numbers", "python_error"),
    ("", "AssertionError: expected a loss", "python_error"),
]


@pytest.mark.parametrize(("before", "error", "kind"), MISLEADING)
def test_a_misleading_log_does_not_mislead(
    failure: ModuleType, tmp_path: Path, before: str, error: str, kind: str
) -> None:
    found = explain(failure, tmp_path, f"{before}{FRAMES}{error}\n")
    assert found["kind"] == kind, found


def test_a_process_that_torchrun_saw_killed_ran_out_of_memory(failure: ModuleType, tmp_path: Path) -> None:
    log = CHILD_FAILED.replace("(exitcode: 1)", "(exitcode: -9)")
    assert explain(failure, tmp_path, log)["kind"] == "host_memory"


def test_the_process_before_each_line_is_no_trouble(failure: ModuleType, tmp_path: Path) -> None:
    log = "".join(f"[rank0]: {line}\n" for line in f"{FRAMES}KeyError: 'x'".split("\n"))
    found = explain(failure, tmp_path, log)
    assert (found["kind"], found["title"]) == ("python_error", "The script failed: KeyError: 'x'")
    assert 'File "/workspace/clone/scripts/train.py", line 30, in main' in found["lines"]


def test_a_traceback_that_rich_draws_is_read(failure: ModuleType, tmp_path: Path) -> None:
    log = (
        "╭───────── Traceback (most recent call last) ─────────╮\n"
        "│ /workspace/clone/train.py:9 in main                  │\n"
        "│ ❱  9 │   load(path)                                  │\n"
        "╰──────────────────────────────────────────────────────╯\n"
        "FileNotFoundError: [Errno 2] No such file or directory: 'data/a b.json'\n"
    )
    found = explain(failure, tmp_path, log)
    assert (found["kind"], found["title"]) == ("missing_file", "A file is missing: data/a b.json.")
    assert "/workspace/clone/train.py:9 in main" in found["lines"][0]


def test_titles_name_what_is_missing(failure: ModuleType, tmp_path: Path) -> None:
    for error, title in [
        ("ModuleNotFoundError: No module named 'librosa.filters'", "A Python module is missing: librosa.filters."),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'data/x'", "A file is missing: data/x."),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "Permission was denied: Permission denied: '/x'."),
        ("ValueError: bad {what} \x1b[31m", "The script failed: ValueError: bad {what} \\x1b[31m"),
    ]:
        assert explain(failure, tmp_path, f"{FRAMES}{error}\n")["title"] == title


def test_a_success_has_no_failure(failure: ModuleType, tmp_path: Path) -> None:
    record = make_record(tmp_path, "CUDA out of memory, caught\n", 0, "finished")
    assert failure.explain(record) is None


@pytest.mark.parametrize(
    ("log", "title"),
    [
        ("configs/digits.yaml: training.num_train_epochs cannot be 'five'\n", "The training ended with exit code 2."),
        (f"{BAR}\n{{'loss': 0.3}}\n", "The training ended with exit code 2 and said nothing of why."),
        ("", "The training ended with exit code 2 and said nothing of why."),
    ],
)
def test_training_that_said_why_is_not_called_silent(
    failure: ModuleType, tmp_path: Path, log: str, title: str
) -> None:
    found = explain(failure, tmp_path, log, 2)
    assert (found["title"], found["lines"]) == (title, [line for line in log.split("\n") if line])


def test_pod_taken_away_may_have_been_by_ones_own_command(failure: ModuleType, tmp_path: Path) -> None:
    found = explain(failure, tmp_path, "", 143, "SIGTERM: the pod is ending")
    assert any("inv terminate" in advice and "inv stop --now" in advice for advice in found["advice"])


def test_other_runs_logs_do_not_count(failure: ModuleType, tmp_path: Path) -> None:
    found = explain(failure, tmp_path, "")
    assert (found["kind"], found["lines"]) == ("unknown", [])
    record = make_record(tmp_path, "step 1\n", 1, "failed")
    record["log_end"] = (tmp_path / "current.log").stat().st_size
    with (tmp_path / "current.log").open("a") as file:
        file.write("Killed\n")
    assert failure.explain(record)["kind"] == "unknown"


def test_lines_are_few_short_and_plain(failure: ModuleType, tmp_path: Path) -> None:
    log = f"{FRAMES}ValueError: \x1b[31m\x07{'x' * 10_000_000}\r\nsecond\n"
    found = explain(failure, tmp_path, log)
    assert found["kind"] == "unknown"  # the traceback itself is further back than what is read
    found = explain(failure, tmp_path, log.replace("x" * 9_900_000, ""))
    assert found["kind"] == "python_error"
    assert len(found["lines"]) <= 6
    assert all(len(line) <= 300 and line.isprintable() for line in [*found["lines"], found["title"]])


@pytest.mark.parametrize(
    "log", [b"", b"\xff\xfe\x00\n", b"\n" * 5000, b"\r" * 5000, b"Traceback (most recent call last):\n"]
)
def test_a_log_that_makes_no_sense_is_no_trouble(failure: ModuleType, tmp_path: Path, log: bytes) -> None:
    assert explain(failure, tmp_path, log)["kind"] == "unknown"


def test_a_record_that_could_not_be_read_is_explained_by_its_end(failure: ModuleType, tmp_path: Path) -> None:
    record = {"run_id": "r", "log": str(tmp_path / "none"), "log_start": None, "exit_code": 137, "reason": "max_hours"}
    assert failure.explain(record)["kind"] == "hours_used_up"


def test_the_kernels_count_of_kills_makes_sure(
    failure: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 5\noom 1\noom_kill 3\noom_group_kill 0\n")
    monkeypatch.setattr(failure.memory_events, "FILES", (str(tmp_path / "none"), str(events)))
    record = make_record(tmp_path, "step 5\n", 137, "supervisor killed")
    assert failure.explain({**record, "memory_kills_before": 3})["kind"] == "supervisor_killed"
    assert failure.explain({**record, "memory_kills_before": 2})["kind"] == "host_memory"
    record["reason"] = "killed by SIGKILL, perhaps for want of memory"
    assert "most likely" in failure.explain({**record, "memory_kills_before": 3})["title"]
    assert "most likely" not in failure.explain({**record, "memory_kills_before": 2})["title"]


def test_a_volume_so_full_that_no_word_fitted_is_told(failure: ModuleType, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    record = make_record(tmp_path, "step 5\n", 1, "failed", volume=str(volume))
    assert failure.explain(record)["kind"] == "unknown"
    program = "import failure, json, sys; print(failure.explain(json.loads(sys.argv[1]))['kind'])"
    small = ["bwrap", "--dev-bind", "/", "/", "--size", "20000", "--tmpfs", str(volume)]
    words = [*small, sys.executable, "-c", program, json.dumps(record)]
    done = subprocess.run(words, env={"PYTHONPATH": str(REMOTE)}, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"disk_full\n"
    assert list(volume.iterdir()) == []


def test_the_worst_log_is_read_quickly(failure: ModuleType, tmp_path: Path) -> None:
    import time

    began = time.process_time()
    explain(failure, tmp_path, ("loss " * 800 + "\n") * 70 + "grad " * 50_000)
    explain(failure, tmp_path, "Traceback (most recent call last):\n  x\n" * 6000)
    explain(failure, tmp_path, ("[gloo]" * 330 + "\n") * 80)
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        (
            {"reason": "max_cost_usd", "max_cost_usd": 3, "pod": {"usd_per_hour": 0.69}, "launched_at": 1000},
            "The money allowed for a run (max_cost_usd) was used up: $3.00 for this run, 4.35 h at $0.69/h cost $3.00.",
        ),
        (
            {
                "reason": "max_cost_usd",
                "max_cost_usd": 3,
                "pod": {"usd_per_hour": 0.69},
                "launched_at": 1000,
                "chain": {"used_usd": 7.5},
            },
            "The money allowed for a run (max_cost_usd) was used up: $3.00 for this run, 4.35 h at $0.69/h cost $3.00, "
            "after $7.50 for the runs before.",
        ),
        (
            {"reason": "max_cost_usd", "max_cost_usd": 10**400, "pod": None, "chain": [], "launched_at": "x"},
            "The money allowed for a run (max_cost_usd) was used up: all of it.",
        ),
        ({"reason": "max_hours", "max_hours": 24}, "The hours allowed for a run (max_hours) were used up: 24 h."),
        (
            {"reason": "stalled", "stall_minutes": 30},
            "The training stalled: no byte of log and no GPU use for 30 minutes.",
        ),
        (
            {"reason": "stalled", "stall_minutes": 1, "stall_gpu_known": False},
            "The training stalled: no byte of log for 1 minute; whether it used its GPU is not known.",
        ),
    ],
)
def test_a_limit_is_told_with_its_setting_and_what_it_cost(
    failure: ModuleType, fields: dict[str, Any], title: str
) -> None:
    record = {"run_id": "r", "log": "/none", "log_start": None, "exit_code": 143, "ended_at": 1000 + 4.35 * 3600}
    found = failure.explain({**record, **fields})
    assert found["title"] == title
    assert any(fields["reason"].partition("_")[0] in advice or "stall_minutes" in advice for advice in found["advice"])
