"""The CPU as a device: what the operating system tells of it, and its peaks, measured."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from estimators.devices import DeviceSpec
from estimators.profiler.hardware import torch_type
from estimators.profiler.peaks import copy_bandwidth, matrix_rate, read_bandwidth

MIB = 1 << 20
# Nominal: nothing is sent between CPUs here. A loopback, and a network card of 10 Gbit/s.
_ASSUMED: Mapping[str, Any] = {
    "nvlink_bandwidth": 10e9,
    "inter_node_bandwidth": 1.25e9,
    "pcie_bandwidth": 10e9,
    "power_watts": 0.0,
    "price_per_hour": 0.0,
}
_UNKNOWN_CACHE = 32 * MIB
_PEAK_SIZE = 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def describe_cpu() -> dict[str, Any]:
    """Fields of ``Hardware`` but ``device``."""
    kept = keep_freed_memory()
    device, cache, threads = torch.device("cpu"), last_level_cache(), torch.get_num_threads()
    types = ("fp32", "bf16") if torch.ops.mkldnn._is_mkldnn_bf16_supported() else ("fp32",)
    spec = DeviceSpec(
        name="cpu",
        memory_bytes=min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_container("memory.max")]),
        peak_flops={name: matrix_rate(device, torch_type(name), _PEAK_SIZE) for name in types},
        memory_bandwidth=max(copy_bandwidth(device, 2 * cache), read_bandwidth(device, 4 * cache)),
        l2_bytes=cache,
        l2_bandwidth=max(copy_bandwidth(device, cache // 16), read_bandwidth(device, cache // 8)),
        num_sms=threads,
        gpus_per_node=1,
        **_ASSUMED,
    )
    about = _from_proc("/proc/cpuinfo")
    provenance = {
        "device": about.get("model name", platform.processor() or platform.machine()),
        "driver": f"{platform.system()} {platform.release()}",
        "libraries": {"torch": str(torch.__version__), "capability": torch.backends.cpu.get_cpu_capability()},
        "clocks": {"mhz_at_start": about.get("cpu MHz", "unknown")},
        "threads": threads,
        "keeps_freed_memory": kept,
        "assumed": list(_ASSUMED),
    }
    return {"spec": spec, "known": False, "cache_bytes": cache, "types": types, "provenance": provenance}


def keep_freed_memory() -> bool:
    """Have the C library hand out freed memory again, for this process; whether it could.

    Else glibc returns large blocks to the operating system, and every operator with a large result pays for fresh
    pages or does not, by what was freed before: 0.54 ms or 0.10 for a norm of 1 MB. Engines on CPUs are run with
    allocators that keep memory (vLLM asks for tcmalloc).
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 (raises where the library is another)
        largest = ctypes.c_int(2**31 - 1)
        return bool(libc.mallopt(_M_MMAP_THRESHOLD, largest) and libc.mallopt(_M_TRIM_THRESHOLD, largest))
    except (OSError, AttributeError):
        return False


def last_level_cache() -> int:
    """Bytes of the largest cache that the first core sees; 32 MiB where the system does not tell."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text(encoding="utf-8").strip()
        units = {"K": 1 << 10, "M": MIB}
        if text[-1:] in units and text[:-1].isdecimal():
            sizes.append(int(text[:-1]) * units[text[-1]])
    return max(sizes, default=_UNKNOWN_CACHE)


def free_memory() -> int:
    """Bytes that the operating system could give now."""
    available = _from_proc("/proc/meminfo").get("MemAvailable", "")
    if available.endswith(" kB"):
        free = int(available.removesuffix(" kB")) * 1024
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    limits = zip(_container("memory.max"), _container("memory.current"), strict=False)
    return min([free, *(most - taken for most, taken in limits)])


def _container(figure: str) -> list[int]:
    """A figure of the container that the process runs in, bytes; nothing where there is none, or it has no limit."""
    try:
        text = (Path("/sys/fs/cgroup") / figure).read_text(encoding="utf-8").strip()
    except OSError:
        return []
    return [int(text)] if text.isdecimal() else []


def _from_proc(path: str) -> dict[str, str]:
    """Lines "key: value" of a file, the first of each key; none where there is no such file."""
    about: dict[str, str] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return about
    for line in lines:
        key, _, value = line.partition(":")
        about.setdefault(key.strip(), value.strip())
    return about
