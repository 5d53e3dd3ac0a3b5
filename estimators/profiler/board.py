"""A CUDA board as a device: the data sheet's figures where it is known, else torch's properties and measured peaks."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections.abc import Mapping
from typing import Any

import torch

from estimators.devices import DeviceSpec, load_device
from estimators.profiler.hardware import torch_type
from estimators.profiler.peaks import copy_bandwidth, matrix_rate

MIB = 1 << 20
#: Names that the driver gives to boards that ``estimators.devices`` knows. A slice of one (MIG) has another name.
BOARDS = {
    "NVIDIA A100-SXM4-80GB": "a100_sxm",
    "NVIDIA H100 80GB HBM3": "h100_sxm",
    "NVIDIA H200": "h200_sxm",
    "NVIDIA B200": "b200_sxm",
    "NVIDIA L40S": "l40s",
}
_FP8_FROM = (8, 9)  # compute capability
# As of a board without NVLink in estimators.devices.
_ASSUMED: Mapping[str, Any] = {
    "nvlink_bandwidth": 32e9,
    "inter_node_bandwidth": 12.5e9,
    "pcie_bandwidth": 32e9,
    "power_watts": 0.0,
    "price_per_hour": 0.0,
}
_LIBRARIES = ("triton", "vllm", "flashinfer-python")
_QUERY = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit")


def describe_board(device: torch.device) -> dict[str, Any]:
    """Fields of ``Hardware`` but ``device``."""
    properties = torch.cuda.get_device_properties(device)
    known = BOARDS.get(properties.name)
    types = ("bf16", "fp8") if (properties.major, properties.minor) >= _FP8_FROM else ("bf16",)
    spec = load_device(known) if known else _measured(device, properties, types)
    told = _driver_says(str(properties.uuid))
    provenance = {
        "device": properties.name,
        "driver": told.pop("driver_version", "unknown"),
        "libraries": {"torch": str(torch.__version__), "cuda": str(torch.version.cuda), **_installed()},
        "clocks": told,
        "threads": torch.get_num_threads(),
        "assumed": [] if known else list(_ASSUMED),
    }
    cache = int(getattr(properties, "L2_cache_size", 0)) or spec.l2_bytes
    return {
        "spec": spec,
        "known": known is not None,
        "cache_bytes": cache,
        "types": types,
        "provenance": provenance,
    }


def _measured(device: torch.device, properties: Any, types: tuple[str, ...]) -> DeviceSpec:
    cache = int(getattr(properties, "L2_cache_size", 0)) or 4 * MIB
    return DeviceSpec(
        name=re.sub(r"[^a-z0-9]+", "_", properties.name.lower().removeprefix("nvidia ")).strip("_"),
        memory_bytes=int(properties.total_memory),
        peak_flops={name: matrix_rate(device, torch_type(name), 8192) for name in types},
        memory_bandwidth=copy_bandwidth(device, max(256 * MIB, 4 * cache)),
        l2_bytes=cache,
        l2_bandwidth=copy_bandwidth(device, cache // 4),
        num_sms=int(properties.multi_processor_count),
        gpus_per_node=torch.cuda.device_count(),
        **_ASSUMED,
    )


def _installed() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _driver_says(uuid: str) -> dict[str, str]:
    """Driver and clocks as nvidia-smi prints them; nothing where it does not run."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader", "-i"]
    try:
        line = subprocess.run([*command, f"GPU-{uuid}"], capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(_QUERY, (value.strip() for value in line.strip().split(",")), strict=False))
