import builtins
import json
import subprocess
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the profiler's hardware is described by torch")

from estimators.devices import load_device  # noqa: E402
from estimators.errors import EstimatorError  # noqa: E402
from estimators.profiler import board, host_machine  # noqa: E402
from estimators.profiler.hardware import open_hardware, torch_type  # noqa: E402


@pytest.fixture
def quick(monkeypatch):
    """Peaks that nobody has to wait for."""
    for module in (host_machine, board):
        for name, rate in (("matrix_rate", 1e11), ("copy_bandwidth", 8e9), ("read_bandwidth", 9e9)):
            monkeypatch.setattr(module, name, lambda *arguments, rate=rate: rate, raising=False)


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_cpu_is_a_device_like_any_other(quick, no_cuda):
    hardware = open_hardware()
    assert (hardware.spec.name, hardware.known, hardware.is_cuda) == ("cpu", False, False)
    assert hardware.dtypes()[0] == "fp32"
    assert set(hardware.spec.peak_flops) == set(hardware.dtypes())
    assert hardware.spec.memory_bandwidth == 9e9
    assert hardware.spec.num_sms == torch.get_num_threads()
    assert hardware.spec.l2_bytes == hardware.cache_bytes >= 1 << 18
    assert 1 << 28 < hardware.free_bytes() <= hardware.spec.memory_bytes
    assert {"device", "driver", "libraries", "clocks", "threads"} <= set(json.loads(json.dumps(hardware.provenance)))
    hardware.synchronize()


def test_peaks_are_measured():
    from estimators.profiler import peaks

    device = torch.device("cpu")
    assert 1e6 < peaks.matrix_rate(device, torch.float32, 128) < 1e14
    assert 1e6 < peaks.copy_bandwidth(device, 1 << 20) < 1e13
    assert 1e6 < peaks.read_bandwidth(device, 1 << 20) < 1e13


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("cuda", "is not there"), ("cuda:3", "is not there"), ("tpu", "is none that"), ("cpu:1", "is none that")],
)
def test_devices_that_are_not_there_are_refused(no_cuda, name: str, wrong: str):
    with pytest.raises(EstimatorError, match=wrong) as error:
        open_hardware(name)
    assert (error.value.field, error.value.value) == ("device", name)


def test_without_torch_a_sentence_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name: str, *others):
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EstimatorError, match="torch is not installed; run pip install"):
        open_hardware("cpu")


def test_boards_that_are_known_are_devices():
    for name in board.BOARDS.values():
        load_device(name)


@pytest.fixture
def properties(quick, monkeypatch):
    """A CUDA board, changed by its fields."""
    about = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, uuid="1234", total_memory=1 << 34)
    about.multi_processor_count, about.L2_cache_size = 100, 60 << 20
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    return about


def test_a_known_board_has_the_figures_of_its_data_sheet(properties, monkeypatch):
    def smi(command, **options):
        assert command[-1] == "GPU-1234"
        return SimpleNamespace(stdout="570.1, 1980 MHz, 3201 MHz, 1980 MHz, 700.00 W\n")

    monkeypatch.setattr(subprocess, "run", smi)
    hardware = open_hardware("cuda:1")
    assert hardware.spec == load_device("h200_sxm")
    assert hardware.known
    assert hardware.device == torch.device("cuda", 1)
    assert hardware.dtypes() == ("bf16", "fp8")
    assert hardware.cache_bytes == 60 << 20
    assert hardware.provenance["driver"] == "570.1"
    assert hardware.provenance["clocks"]["clocks.sm"] == "1980 MHz"
    assert hardware.provenance["assumed"] == []


def test_an_unknown_board_is_measured(properties, monkeypatch):
    properties.name, properties.minor, properties.major = "NVIDIA GeForce RTX 3090 Ti", 6, 8

    def missing(*arguments, **options):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", missing)
    hardware = open_hardware("auto")
    assert (hardware.spec.name, hardware.known) == ("geforce_rtx_3090_ti", False)
    assert hardware.dtypes() == ("bf16",)
    assert hardware.spec.peak_flops == {"bf16": 1e11}
    assert (hardware.spec.memory_bytes, hardware.spec.num_sms, hardware.spec.gpus_per_node) == (1 << 34, 100, 2)
    assert "power_watts" in hardware.provenance["assumed"]
    assert hardware.provenance["driver"] == "unknown"


def test_a_slice_of_a_known_board_is_another_board(properties, monkeypatch):
    properties.name = "NVIDIA H200 MIG 1g.18gb"
    assert not open_hardware("cuda").known


def test_memory_of_a_container_counts(tmp_path, monkeypatch):
    real = host_machine.Path
    monkeypatch.setattr(host_machine, "Path", lambda path: tmp_path if path == "/sys/fs/cgroup" else real(path))
    assert host_machine._container("memory.max") == []
    (tmp_path / "memory.max").write_text("max\n")
    assert host_machine._container("memory.max") == []
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert host_machine.free_memory() == 600


def test_types_are_torchs():
    assert [torch_type(name) for name in ("fp32", "bf16", "fp8")] == [
        torch.float32,
        torch.bfloat16,
        torch.float8_e4m3fn,
    ]
    with pytest.raises(EstimatorError, match="is not measured"):
        torch_type("nvfp4")
