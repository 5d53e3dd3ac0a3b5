"""What a report of a bug needs to say of the machine: versions, the processor, caches, and what of them is damaged.

Nothing is repaired, removed or sent, and nothing that fails here stops the rest: it is a line of its own.
"""

import datetime
import importlib
import importlib.metadata
import locale
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastsim import __version__

#: Module -> distribution of what fastsim needs, and of what its extras need.
NEEDED = {
    "numba": "numba",
    "llvmlite": "llvmlite",
    "numpy": "numpy",
    "polars": "polars",
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "skl2onnx": "skl2onnx",
    "onnxruntime": "onnxruntime",
    "argparse_dataclass": "argparse-dataclass",
    "tomli_w": "tomli-w",
}
EXTRAS = ("torch", "tqdm", "pooch", "ray", "optuna", "aiconfigurator-core")
#: Variables of the environment that change what fastsim does; those of numba besides.
VARIABLES = (
    "XDG_CACHE_HOME",
    "TMPDIR",
    "OMP_NUM_THREADS",
    "PYTHONUTF8",
    "PYTHONIOENCODING",
    "PYTHONHASHSEED",
    "LC_ALL",
    "LC_CTYPE",
    "LC_NUMERIC",
    "LANG",
    "TZ",
)
Section = Mapping[str, Any]


def examine() -> dict[str, Any]:
    """Look at everything.

    Returns:
        By section, facts by name; JSON-able. A section that cannot be looked at is ``{"error": why}``.
    """
    from fastsim.doctor_caches import kernels, tables, traces

    sections: dict[str, Callable[[], Section]] = {
        "versions": versions,
        "extras": lambda: {name: _version(name) for name in EXTRAS},
        "machine": machine,
        "processor": processor,
        "language": language,
        "environment": environment,
        "space": space,
        "kernels": kernels,
        "tables": tables,
        "traces": traces,
    }
    return {name: _told(look) for name, look in sections.items()}


def _told(look: Callable[[], Section]) -> dict[str, Any]:
    try:
        return dict(look())
    except Exception as error:  # whatever is broken is what the report is about
        return {"error": reason(error)}


def reason(error: BaseException) -> str:
    """An error in one line, without the home directory."""
    lines = str(error).splitlines()
    return short(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def short(text: str | os.PathLike[str]) -> str:
    """A text with ``~`` for the user's home directory, whose name is nobody's business."""
    home = os.path.expanduser("~").rstrip(os.sep)
    return os.fspath(text).replace(home, "~") if home and home != "~" else os.fspath(text)


def versions() -> Section:
    """Of fastsim, Python, and what fastsim needs: each is imported, as a package that is there may be broken."""
    found = {"fastsim": __version__, "python": f"{platform.python_implementation()} {platform.python_version()}"}
    return found | {distribution: _imported(module, distribution) for module, distribution in NEEDED.items()}


def _imported(module: str, distribution: str) -> str:
    version = _version(distribution)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # see estimators.onnx
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{version}, which cannot be imported ({reason(error)})"
    return version


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def machine() -> Section:
    """The operating system, and where Python is."""
    return {
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "python": short(sys.executable),
        "fastsim": short(Path(__file__).resolve().parent),
    }


def processor() -> Section:
    """What numba compiles for, and how many threads there may be."""
    import numba
    from llvmlite import binding

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    features = binding.get_host_cpu_features()
    config: Any = numba.config
    return {
        "architecture": platform.machine(),
        "name": _processor_name(),
        "llvm name": binding.get_host_cpu_name(),
        "features": " ".join(sorted(name for name, there in features.items() if there)),
        "cores": os.cpu_count(),
        "cores for this process": allowed,
        "numba threads": config.NUMBA_NUM_THREADS,
        "numba threading layer": config.THREADING_LAYER,
        "compiles": not config.DISABLE_JIT,
    }


def _processor_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def language() -> Section:
    """Encodings, and the clock."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "locale": "/".join(str(part) for part in locale.getlocale()),
        "encoding of files": locale.getpreferredencoding(False),
        "encoding of names": sys.getfilesystemencoding(),
        "encoding of output": getattr(sys.stdout, "encoding", None),
        "clock": now.isoformat(timespec="seconds"),
        "time zone": str(now.astimezone().tzinfo),
    }


def environment() -> Section:
    """Variables that are set, of those that matter."""
    names = [name for name in sorted(os.environ) if name in VARIABLES or name.startswith("NUMBA_")]
    return {name: short(os.environ[name]) for name in names}


def space() -> Section:
    """Free bytes where caches are and where results go by default."""
    from estimators.files import cache_root

    root = cache_root()
    nearest = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    return {
        "cache": short(root),
        "cache free bytes": shutil.disk_usage(nearest).free,
        "cache can be written": os.access(nearest, os.W_OK | os.X_OK),
        "working directory free bytes": shutil.disk_usage(Path.cwd()).free,
    }
