"""The kinds of failure that a log tells: what each looks like, in a sentence, and what helps.

The texts are those that the libraries print: CPython, PyTorch, CUDA, NCCL, JAX, TensorFlow, transformers,
huggingface_hub, pip, uv, git.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Pattern

RESUME = "inv train again resumes from the newest complete checkpoint."


class Kind(NamedTuple):
    """One kind of failure: its name, a short sentence, and one to three sentences of advice.

    `{what}` in the title stands for what a pattern's group of that name found.
    """

    name: str
    title: str
    advice: tuple[str, ...]


class Sign(NamedTuple):
    """A text that shows a kind of failure. `anywhere`: also in a line that is no exception's own."""

    kind: Kind
    pattern: Pattern[str]
    anywhere: bool


GPU_MEMORY = Kind(
    "gpu_memory",
    "The GPU ran out of memory.",
    (
        "Use a smaller batch size with more gradient accumulation, or gradient checkpointing.",
        "Set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in `env` if much memory is reserved but unallocated.",
        "Or take a GPU with more memory: inv gpus lists them, inv train --gpu names one.",
    ),
)
HOST_MEMORY = Kind(
    "host_memory",
    "The pod ran out of memory (its own, not the GPU's).",
    (
        "Use fewer DataLoader workers, or load less of the data at once.",
        "Or take a GPU type whose pods have more memory: inv train --gpu names one.",
        RESUME,
    ),
)
SHARED_MEMORY = Kind(
    "shared_memory",
    "The shared memory (/dev/shm) of the pod was used up.",
    (
        "Use fewer DataLoader workers or a smaller batch, or set dataloader_num_workers to 0.",
        "torch.multiprocessing.set_sharing_strategy('file_system') does without it.",
    ),
)
CUDA_DRIVER = Kind(
    "cuda_driver",
    "The pod's GPU driver and the CUDA of the training do not fit together, or there is no GPU.",
    (
        "Set `image` to one whose CUDA version fits the driver (nvidia-smi on the pod shows what it supports).",
        "If `requirements` installs its own torch, pin the build that fits the image, or leave torch out of it.",
        "inv terminate and inv train may give another machine with a newer driver.",
    ),
)
CUDA_ERROR = Kind(
    "cuda_error",
    "A program on the GPU failed.",
    (
        "Set CUDA_LAUNCH_BLOCKING=1 in `env` and run again: the traceback then shows the real place.",
        "An index or a label outside its range is the usual cause of a device-side assert.",
        "If it comes without pattern, the GPU may be bad: inv terminate and inv train take another one.",
    ),
)
DISK_FULL = Kind(
    "disk_full",
    "The disk is full.",
    (
        "inv storage shows what takes the space; inv storage clean removes old checkpoints, archives and caches.",
        "Keep fewer checkpoints (save_total_limit), or enlarge the volume; files outside it count "
        "against container_disk_gb.",
        RESUME,
    ),
)
MISSING_MODULE = Kind(
    "missing_module",
    "A Python module is missing: {what}.",
    ("Add it to the requirements file (`requirements`), commit, and run inv train again.",),
)
BROKEN_IMPORT = Kind(
    "missing_module",
    "An import failed: {what}.",
    (
        "The installed version does not have it, or a file of the project shadows it: pin the version that does.",
        "Change the requirements file, commit, and run inv train again.",
    ),
)
MISSING_LIBRARY = Kind(
    "missing_module",
    "A system library is missing: {what}.",
    ("Use an `image` that has it, or a package that brings its own (such as opencv-python-headless).",),
)
MISSING_FILE = Kind(
    "missing_file",
    "A file is missing: {what}.",
    (
        "Check the path in the configuration; on the pod, relative paths begin at the clone.",
        "Data lie on the volume: inv sync-data puts them there, `links` shows them inside the clone.",
    ),
)
NAN_LOSS = Kind(
    "nan_loss",
    "The loss became NaN or infinite.",
    (
        "Lower the learning rate, lengthen the warm-up, or clip gradients (max_grad_norm).",
        "fp16 overflows easily: try bf16.",
        "inv train --resume-from an earlier checkpoint; the newest may hold NaN already.",
    ),
)
PERMISSION = Kind(
    "permission",
    "Permission was denied: {what}.",
    ("Write below the volume or the clone. A network volume refuses chown and some chmod.",),
)
GIT = Kind(
    "git",
    "A git command failed.",
    (
        "The pod has no keys of yours: for private repositories use code: local, or forward_agent: true.",
        "Requirements from private repositories need a token in the address, from `env`.",
    ),
)
NCCL = Kind(
    "distributed",
    "The GPUs' processes lost each other (NCCL or torch.distributed).",
    (
        "Look in the log for the first process that failed: the others only notice.",
        "Set NCCL_DEBUG=INFO in `env`; a slow step needs a longer timeout (ddp_timeout).",
        RESUME,
    ),
)
HUGGINGFACE = Kind(
    "huggingface_access",
    "Hugging Face refused access to a model or data set.",
    (
        "Accept its terms on its page on huggingface.co.",
        "Put a token that may read it into `env`: HF_TOKEN. Also check the name for typing errors.",
    ),
)
NETWORK = Kind(
    "network",
    "A download failed: the network or the server did not answer.",
    ("Run inv train again. Data that are needed each time are better on the volume: inv sync-data.",),
)
USAGE = Kind(
    "usage",
    "The script did not accept its arguments.",
    ("Check `script`, `config_flag`, `args` and `resume_args` in invoke.yaml against the script's --help.",),
)
CRASH = Kind(
    "crash",
    "The training crashed outside Python ({what}).",
    (
        "Set PYTHONFAULTHANDLER=1 in `env` and run again: the log then shows where.",
        "A compiled package that does not fit the image's torch or CUDA is the usual cause.",
    ),
)
PIP_VERSION = Kind(
    "pip",
    "The packages could not be installed: there is no such package or version.",
    (
        "Correct the name or version in the requirements file; it must exist for the image's Python.",
        "Commit, and run inv train again.",
    ),
)
PIP_CONFLICT = Kind(
    "pip",
    "The packages could not be installed: their requirements conflict.",
    ("Loosen one of the versions that the lines name, commit, and run inv train again.",),
)
PIP_NETWORK = Kind(
    "pip",
    "The packages could not be installed: the package index could not be reached.",
    ("Run inv train again. If it lasts, check index addresses in the requirements file and in `env`.",),
)
PIP_CERTIFICATE = Kind(
    "pip",
    "The packages could not be installed: the pod does not trust the certificate of the package index.",
    (
        "Put the path of a bundle with its authority into `env`: SSL_CERT_FILE (for pip also PIP_CERT).",
        "Or set UV_NATIVE_TLS=1 in `env`: uv then trusts what the image trusts.",
    ),
)
PIP_SPACE = Kind(
    "pip",
    "The packages could not be installed: the disk is full.",
    (
        "With venv: container, enlarge container_disk_gb (it takes a new pod: inv terminate first).",
        "With venv: volume, and for the package cache, inv storage clean makes room.",
    ),
)
PIP_BUILD = Kind(
    "pip",
    "The packages could not be installed: one of them could not be built.",
    (
        "Pin a version that has a wheel for the image's Python, or use an `image` with the compilers it needs.",
        "Commit, and run inv train again.",
    ),
)
PIP_GIT = Kind("pip", "The packages could not be installed: a git repository could not be fetched.", GIT.advice)
PIP_OTHER = Kind(
    "pip",
    "The packages could not be installed.",
    ("Correct the requirements file or `python`, commit, and run inv train again.",),
)


def _sign(kind: Kind, pattern: str, *, anywhere: bool = True, any_case: bool = False) -> Sign:
    return Sign(kind, re.compile(pattern, re.IGNORECASE if any_case else 0), anywhere)


# The first that fits a text counts: what is more special stands first.
SIGNS = (
    # Shared memory, which speaks of a full device and of lack of memory as well
    _sign(SHARED_MEMORY, r"out of shared memory|insufficient shared memory|Unexpected bus error encountered in worker"),
    _sign(SHARED_MEMORY, r"killed by signal: Bus error|Signal 7 \(SIGBUS\)|^Bus error"),
    _sign(SHARED_MEMORY, r"</torch_\S*>.*(No space left|Cannot allocate|Too many open)|/dev/shm\S*.*No space left"),
    # Memory of the GPU
    _sign(GPU_MEMORY, r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|HIP out of memory"),
    _sign(GPU_MEMORY, r"CU(?:BLAS|DNN|FFT|SPARSE)_STATUS_ALLOC_FAILED|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAlloc"),
    _sign(GPU_MEMORY, r"RESOURCE_EXHAUSTED|ResourceExhaustedError|OOM when allocating tensor"),
    # Memory of the pod
    _sign(HOST_MEMORY, r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: Killed|exited unexp)"),
    _sign(HOST_MEMORY, r"Signal 9 \(SIGKILL\)|\(exitcode: -9\)|exit(?:ed with )?code -?(?:9|137)\b.*SIGKILL"),
    _sign(HOST_MEMORY, r"std::bad_alloc|DefaultCPUAllocator: (?:can't allocate|not enough) memory|^MemoryError\b"),
    _sign(HOST_MEMORY, r"ArrayMemoryError|Unable to allocate [\d.]+ [KMGTP]iB|\[Errno 12\]|Cannot allocate memory"),
    _sign(HOST_MEMORY, r"oom-kill|Out of memory: Kill|(?:^|\s)Killed\s*$|process in the process pool was terminated"),
    # Driver, and whether there is a GPU at all
    _sign(CUDA_DRIVER, r"driver (?:on your system )?is too old|CUDA driver version is insufficient"),
    _sign(
        CUDA_DRIVER, r"no kernel image is available|compiled with an unsupported toolchain|unsupported display driver"
    ),
    _sign(CUDA_DRIVER, r"no CUDA-capable device|No CUDA GPUs are available|Found no NVIDIA driver|no NVIDIA GPU"),
    _sign(CUDA_DRIVER, r"Torch not compiled with CUDA|not compiled with (?:CUDA|GPU) (?:enabled|support)"),
    _sign(
        CUDA_DRIVER, r"lib(?:cuda|cudart|cudnn|cublas|nvrtc|nvidia)\S*\.so\S*:? .*(?:cannot open|not found|undefined)"
    ),
    _sign(CUDA_DRIVER, r"(?:Could not|cannot|Unable to) (?:load|find) \S*lib(?:cuda|cudnn|cublas|nv)", any_case=True),
    _sign(CUDA_DRIVER, r"Failed to initialize NVML|NVML.*(?:mismatch|Not Found)|CUDA_ERROR_NO_DEVICE|forward compat"),
    _sign(CUDA_DRIVER, r"undefined symbol: \S*(?:cuda|cublas|cudnn|nvJitLink)|torch\.cuda\.is_available\(\) is False"),
    _sign(
        CUDA_DRIVER, r"requires? (?:a )?GPU.*(?:not |un)available|(?:bf16|fp16).*requires.*(?:GPU|cuda)", any_case=True
    ),
    # Other errors of the GPU
    _sign(CUDA_ERROR, r"device-side assert|illegal memory access|misaligned address|unspecified launch failure"),
    _sign(CUDA_ERROR, r"CUDA error|CUDA_ERROR_|CU(?:BLAS|DNN|FFT|SPARSE|SOLVER)_STATUS_|cuDNN error|uncorrectable ECC"),
    # The disk
    _sign(DISK_FULL, r"No space left on device|\[Errno 28\]|Disk quota exceeded|\[Errno 122\]|StorageFull"),
    _sign(DISK_FULL, r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+"),
    # Hugging Face, which speaks of files and of the network as well
    _sign(HUGGINGFACE, r"GatedRepoError|gated repo|Access to (?:model|dataset) \S+ is restricted|awaiting a review"),
    _sign(HUGGINGFACE, r"(?:401|403) Client Error.*huggingface\.co|RepositoryNotFoundError|huggingface\S* login"),
    _sign(HUGGINGFACE, r"not a valid model identifier listed on|private repository, make sure to pass a token"),
    # Processes that lost each other
    _sign(
        NCCL, r"NCCL (?:error|WARN|timeout)|nccl\w*Error|DistBackendError|ProcessGroupNCCL.*(?:abort|timed out|taken d)"
    ),
    _sign(NCCL, r"Watchdog caught collective operation timeout|DistNetworkError|DistStoreError|RendezvousTimeout"),
    _sign(NCCL, r"gloo[^\]]*\].*(?:Timed out|Connection)|client socket has timed out|collective.*timed? ?out"),
    # Modules and files
    _sign(MISSING_LIBRARY, r"ImportError: (?P<what>lib\S+?\.so\S*?): cannot open shared object", anywhere=False),
    _sign(MISSING_MODULE, r"No module named '?(?P<what>[^';\s]+)"),
    _sign(BROKEN_IMPORT, r"ImportError: (?P<what>.+)", anywhere=False),
    _sign(MISSING_FILE, r"can't open file '?(?P<what>[^']+?)'?: \[Errno 2\]"),
    _sign(MISSING_FILE, r"cannot start \[.*\]: \[Errno 2\] No such file or directory: '(?P<what>[^']+)'"),
    _sign(
        MISSING_FILE, r"\[Errno (?:2|20)\] (?:No such file|Not a d)[^:]*: [b]?['\"](?P<what>.+?)['\"]", anywhere=False
    ),
    _sign(MISSING_FILE, r"FileNotFoundError: (?P<what>.+)", anywhere=False),
    _sign(MISSING_FILE, r"(?:Error opening|Failed to open|could not open) '?(?P<what>/?[^\s':]+)'?.*", anywhere=False),
    _sign(
        MISSING_FILE,
        r"^\S*(?:sh|env): (?:line \d+: |\d+: )?'?(?P<what>[^':]+)'?: (?:No such file|command not found|not f)",
    ),
    _sign(MISSING_FILE, r"^no such checkpoint: (?P<what>.+)"),
    # Rights
    _sign(PERMISSION, r"cannot start \[.*\]: \[Errno 13\] Permission denied: '(?P<what>[^']+)'"),
    _sign(PERMISSION, r"\[Errno (?:1|13|30)\] (?P<what>.+)", anywhere=False),
    _sign(PERMISSION, r"PermissionError: (?P<what>.+)", anywhere=False),
    _sign(PERMISSION, r"^\S*(?:sh|env): (?:line \d+: |\d+: )?'?(?P<what>[^':]+)'?: Permission denied"),
    # Numbers
    _sign(
        NAN_LOSS,
        r"FloatingPointError|contains? (?:either )?`?(?:NaN|inf|nan)|(?:nan|inf)`? or element < 0",
        anywhere=False,
    ),
    _sign(NAN_LOSS, r"(?:loss|grad\w*)\b.{0,40}\b(?:nan|inf|infinite|infinity|non-finite|not finite)\b", any_case=True),
    _sign(NAN_LOSS, r"\b(?:nan|non-finite|infinite)\b.{0,20}\b(?:loss|grad\w*)\b", any_case=True),
    # Git and the network
    _sign(GIT, r"^fatal: |git\.exc\.|Command '?\[?'git'"),
    _sign(NETWORK, r"Max retries exceeded|NameResolutionError|Temporary failure in name resolution|ReadTimeout"),
    _sign(NETWORK, r"ConnectTimeout|ConnectionError: .*https?|LocalEntryNotFoundError|We couldn't connect to '?https?"),
    _sign(
        NETWORK, r"urllib\.error\.(?:URLError|HTTPError)|HTTPError: (?:429|5\d\d)|(?:429|50\d) (?:Client|Server) Error"
    ),
)
# What a loss is called in the logs of trainings that go on with it: a sign only where nothing else is one.
NAN_METRICS = _sign(NAN_LOSS, r"['\"]?\b(?:\w+_)?loss['\"]?\s*[:=]?\s*['\"]?-?(?:nan|inf)\b", any_case=True)

PIP_SIGNS = (
    _sign(PIP_SPACE, r"No space left on device|\[Errno 28\]|Disk quota exceeded|os error 28"),
    _sign(PIP_GIT, r"git (?:clone|fetch)\b.*(?:exit|did not run|fail)|Git operation failed|^\s*(?:stderr: )?fatal: "),
    _sign(
        PIP_CERTIFICATE, r"invalid peer certificate|UnknownIssuer|CERTIFICATE_VERIFY_FAILED|certificate verify failed"
    ),
    _sign(
        PIP_NETWORK, r"name resolution|Failed to establish a new connection|Could not connect|dns error|os error 11[01]"
    ),
    _sign(
        PIP_NETWORK,
        r"error sending request|Max retries|ReadTimeout|Read timed out|Network is unreachable|operation timed",
    ),
    _sign(
        PIP_CONFLICT,
        r"conflicting dependencies|ResolutionImpossible|are incompatible|have conflicting|depends? on .* and",
    ),
    _sign(PIP_VERSION, r"No matching distribution found|Could not find a version that satisfies|was not found in the"),
    _sign(
        PIP_VERSION,
        r"there (?:is|are) no versions? of|no wheels? with a matching|Requires-Python|requires a different Py",
    ),
    _sign(PIP_CONFLICT, r"No solution found when resolving"),
    _sign(
        PIP_BUILD,
        r"subprocess-exited-with-error|Failed (?:to build|building wheel)|metadata-generation-failed|build backend",
    ),
)
