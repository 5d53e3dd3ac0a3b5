"""What a GPU can do: memory, peak rates, links, power and price.

Every figure of the built-in ones is the vendor's own or what the vendor's driver prints, but for those that are marked
as assumptions: the price, the bandwidth of the second-level cache, and the latencies of the links. None is fitted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from estimators.dtypes import MATRIX_TYPES
from estimators.errors import EstimatorError

MIB = 1 << 20
CPU = "cpu"  #: name of any device that is no GPU
# Part of a link's nominal bandwidth that long messages reach. Measured, Vidur's profiles of NCCL's send and receive:
# NVLink 0.79 (H100) and 0.95 (A100), the network of H100 nodes 0.72.
LINK_EFFICIENCY = 0.8


@dataclass(frozen=True)
class DeviceSpec:
    """One GPU type and the node it usually sits in, or a CPU, whose cores count as multiprocessors.

    Attributes:
        name: identifier, such as ``"h100_sxm"``.
        memory_bytes: device memory as the driver reports it (``nvidia-smi``), bytes.
        peak_flops: dense (not 2:4 sparse) matrix rate of "bf16", "fp8" and "fp4" where the tensor cores know them,
            floating-point operations per second; ``matrix_rate`` says which of them a type of weights runs at.
        memory_bandwidth: peak of the device memory, bytes per second.
        l2_bytes: second-level cache, bytes.
        l2_bandwidth: what kernels reach from it, bytes per second. Approximate: vendors do not publish it.
        num_sms: streaming multiprocessors.
        nvlink_bandwidth: GPU to all its peers inside a node, one direction, bytes per second; of the host's links where
            there is no NVLink.
        gpus_per_node: GPUs that NVLink, or the host, joins.
        inter_node_bandwidth: network per GPU, one direction, bytes per second.
        pcie_bandwidth: GPU to host, one direction, bytes per second.
        power_watts: thermal design power of one GPU.
        price_per_hour: US dollars per GPU and hour. An assumption: override it with what you pay.
        nvlink_latency_s: a short message from one GPU to another inside a node, seconds. An assumption.
        inter_node_latency_s: a short message from one GPU to another of another node, seconds. An assumption.
        directory: where its own estimators are; None where they are those of the package. Devices that differ in
            nothing else are equal.
    """

    name: str
    memory_bytes: int
    peak_flops: Mapping[str, float] = field(hash=False)
    memory_bandwidth: float
    l2_bytes: int
    l2_bandwidth: float
    num_sms: int
    nvlink_bandwidth: float
    gpus_per_node: int
    inter_node_bandwidth: float
    pcie_bandwidth: float
    power_watts: float
    price_per_hour: float
    nvlink_latency_s: float = 8e-6
    inter_node_latency_s: float = 20e-6
    directory: str | None = field(default=None, compare=False)

    def matrix_rate(self, dtype: str) -> float:
        """Peak rate of products with weights of this type, floating-point operations per second.

        Raises:
            EstimatorError: for an unknown type, or one whose products the device has no matrix unit for.
        """
        if dtype not in MATRIX_TYPES:
            raise EstimatorError("dtype", dtype, "is not known", f"choose one of {', '.join(MATRIX_TYPES)}")
        rate = self.peak_flops.get(MATRIX_TYPES[dtype])
        if rate is None:
            mend = f"choose one of {', '.join(self.matrix_dtypes)}"
            raise EstimatorError("dtype", dtype, f"has no matrix units on {self.name}", mend)
        return rate

    @property
    def matrix_dtypes(self) -> tuple[str, ...]:
        """Types of weights whose products the device has matrix units for."""
        return tuple(dtype for dtype, unit in MATRIX_TYPES.items() if unit in self.peak_flops)

    def figures(self) -> dict[str, Any]:
        """All but the directory, JSON-able: two devices that agree in them are one."""
        return {name: value for name, value in asdict(self).items() if name != "directory"}

    def link(self, inside_node: bool) -> tuple[float, float]:
        """Latency [s], and the bandwidth that long messages reach [bytes/s], between GPUs of one node or of two."""
        if inside_node:
            return self.nvlink_latency_s, LINK_EFFICIENCY * self.nvlink_bandwidth
        return self.inter_node_latency_s, LINK_EFFICIENCY * self.inter_node_bandwidth


# Sources, for every entry:
#   memory: the total that nvidia-smi prints for that board, MiB (a little less than the nominal size on Hopper).
#   peak_flops, memory bandwidth, NVLink, power: the NVIDIA data sheet of the board. It prints NVLink as the sum of both
#     directions (halved here) and the matrix rates since Hopper with 2:4 sparsity (halved here).
#   num_sms, l2_bytes: architecture white paper (A100: GA100, H100 and H200: GH100 in the SXM form, L40S: AD102);
#     of the B200, for which there is none, what the driver reports (cudaGetDeviceProperties).
#   l2_bandwidth: ASSUMPTION, the level that independent micro-benchmarks of these chips report, good to about 20 %.
#   inter_node: one network card per GPU as in the NVIDIA DGX reference node (A100: 200 Gbit/s, Hopper and B200: 400
#     Gbit/s); for the L40S, which no DGX holds, one of 200 Gbit/s for every two GPUs (ASSUMPTION).
#   latencies: ASSUMPTION, near what NCCL's send and receive of 16 to 100 kB took between two GPUs in the profiles that
#     Vidur published (https://github.com/microsoft/vidur): H100 DGX nodes 7 to 9 us over NVLink and 18 to 21 us over
#     the network (the defaults), A100 nodes 8 to 16 us and 16 to 65 us. Networks differ more than GPUs do.
#   pcie: 16 lanes at 16 (gen 4) or 32 (gen 5) GT/s, before protocol overhead.
#   price: ASSUMPTION, a round figure near the on-demand list prices of GPU clouds per GPU of an eight-GPU node, 2025.
_DEVICES: dict[str, DeviceSpec] = {
    device.name: device
    for device in (
        DeviceSpec(
            name="a100_sxm",
            memory_bytes=81920 * MIB,  # nvidia-smi, A100-SXM4-80GB
            peak_flops={"bf16": 312e12},  # data sheet A100 80GB SXM
            memory_bandwidth=2039e9,  # data sheet A100 80GB SXM
            l2_bytes=40 * MIB,  # A100 architecture white paper
            l2_bandwidth=4.5e12,  # assumption
            num_sms=108,  # A100 architecture white paper
            nvlink_bandwidth=300e9,  # data sheet: 600 GB/s both directions
            gpus_per_node=8,
            inter_node_bandwidth=25e9,  # DGX A100: one 200 Gbit/s ConnectX-6 per GPU
            pcie_bandwidth=32e9,  # gen 4 x16
            power_watts=400.0,  # data sheet
            price_per_hour=2.0,  # assumption
            nvlink_latency_s=10e-6,  # assumption
            inter_node_latency_s=25e-6,  # assumption
        ),
        DeviceSpec(
            name="h100_sxm",
            memory_bytes=81559 * MIB,  # nvidia-smi, H100 80GB HBM3
            peak_flops={"bf16": 989.4e12, "fp8": 1978.9e12},  # white paper; data sheet 1979e12, 3958e12 with sparsity
            memory_bandwidth=3.35e12,  # data sheet H100 SXM
            l2_bytes=50 * MIB,  # H100 architecture white paper
            l2_bandwidth=5.5e12,  # assumption
            num_sms=132,  # H100 architecture white paper, SXM5
            nvlink_bandwidth=450e9,  # data sheet: 900 GB/s both directions
            gpus_per_node=8,
            inter_node_bandwidth=50e9,  # DGX H100: one 400 Gbit/s ConnectX-7 per GPU
            pcie_bandwidth=64e9,  # gen 5 x16
            power_watts=700.0,  # data sheet, "up to"
            price_per_hour=3.0,  # assumption
        ),
        DeviceSpec(
            name="h200_sxm",
            memory_bytes=143771 * MIB,  # nvidia-smi, H200
            peak_flops={"bf16": 989.4e12, "fp8": 1978.9e12},  # the H100's chip; data sheet as for it
            memory_bandwidth=4.8e12,  # data sheet H200 SXM
            l2_bytes=50 * MIB,  # H100 architecture white paper
            l2_bandwidth=5.5e12,  # assumption
            num_sms=132,  # the H100's chip
            nvlink_bandwidth=450e9,  # data sheet: 900 GB/s both directions
            gpus_per_node=8,
            inter_node_bandwidth=50e9,  # DGX H200: one 400 Gbit/s ConnectX-7 per GPU
            pcie_bandwidth=64e9,  # gen 5 x16
            power_watts=700.0,  # data sheet, "up to"
            price_per_hour=4.0,  # assumption
        ),
        DeviceSpec(
            name="b200_sxm",
            memory_bytes=183359 * MIB,  # nvidia-smi, B200
            # data sheet Blackwell, HGX B200, per GPU: 4.5, 9 and 18e15 with sparsity
            peak_flops={"bf16": 2250e12, "fp8": 4500e12, "fp4": 9000e12},
            memory_bandwidth=7.7e12,  # data sheet Blackwell, HGX B200; that of the DGX rounds it to 8 TB/s
            l2_bytes=126 * MIB,  # the driver
            l2_bandwidth=10e12,  # assumption: two chips' worth
            num_sms=148,  # the driver
            nvlink_bandwidth=900e9,  # data sheet: 1.8 TB/s both directions
            gpus_per_node=8,
            inter_node_bandwidth=50e9,  # DGX B200: one 400 Gbit/s ConnectX-7 per GPU
            pcie_bandwidth=64e9,  # gen 5 x16 in the DGX B200
            power_watts=1000.0,  # data sheet, "up to"
            price_per_hour=5.5,  # assumption
        ),
        DeviceSpec(
            name="l40s",
            memory_bytes=46068 * MIB,  # nvidia-smi, L40S
            peak_flops={"bf16": 362.05e12, "fp8": 733e12},  # data sheet L40S, without sparsity
            memory_bandwidth=864e9,  # data sheet
            l2_bytes=96 * MIB,  # Ada architecture white paper, AD102
            l2_bandwidth=4.0e12,  # assumption
            num_sms=142,  # Ada architecture white paper, L40S
            nvlink_bandwidth=32e9,  # data sheet: no NVLink, gen 4 x16
            gpus_per_node=8,
            inter_node_bandwidth=12.5e9,  # assumption
            pcie_bandwidth=32e9,  # gen 4 x16
            power_watts=350.0,  # data sheet
            price_per_hour=1.2,  # assumption
            nvlink_latency_s=15e-6,  # assumption: over the host
            inter_node_latency_s=25e-6,  # assumption
        ),
    )
}


def device_names() -> tuple[str, ...]:
    """Names that ``load_device`` knows, sorted."""
    return tuple(sorted(_DEVICES))


def load_device(name: str | os.PathLike[str]) -> DeviceSpec:
    """Return the built-in device called ``name`` (case is ignored), or the one that was profiled into that directory.

    Raises:
        EstimatorError: when there is neither; the sentence lists the built-in ones. When the directory's
            ``device.json`` is missing or wrong.
    """
    given = os.fspath(name) if isinstance(name, os.PathLike) else name
    if isinstance(given, str):
        if given.lower() in _DEVICES:
            return _DEVICES[given.lower()]
        if given and os.path.isdir(given):
            from estimators.device_file import read_device

            return read_device(given)[0]
    mend = f"give a directory that fastsim profile wrote, or choose one of {', '.join(device_names())}"
    raise EstimatorError("device", given, "is neither known nor a directory", mend)
