import pickle
from dataclasses import fields
from pathlib import Path

import pytest

from estimators.devices import MIB, DeviceSpec, device_names, load_device
from estimators.errors import EstimatorError

CATALOGUE = Path(__file__).resolve().parents[3] / "shared" / "data" / "profiles" / "aiconfigurator"


def test_the_devices_of_the_zoo_are_there():
    assert device_names() == ("a100_sxm", "b200_sxm", "h100_sxm", "h200_sxm", "l40s")


@pytest.mark.parametrize("name", device_names())
def test_figures_are_positive_and_the_spec_travels(name):
    device = load_device(name)
    assert device.name == name
    assert all(getattr(device, f.name) > 0 for f in fields(DeviceSpec) if type(getattr(device, f.name)) in (int, float))
    assert pickle.loads(pickle.dumps(device)) == device
    assert hash(device) == hash(load_device(name))


def test_memory_is_what_the_driver_reports():
    assert [load_device(name).memory_bytes / MIB for name in device_names()] == [81920, 183359, 81559, 143771, 46068]


def test_weights_multiply_at_the_rate_of_what_they_are_widened_to():
    b200, l40s = load_device("b200_sxm"), load_device("l40s")
    assert [b200.matrix_rate(dtype) / b200.peak_flops["bf16"] for dtype in b200.matrix_dtypes] == [1, 2, 2, 4, 1, 1]
    assert l40s.matrix_rate("fp8_block") == l40s.peak_flops["fp8"]


@pytest.mark.parametrize(
    ("dtype", "mend"), [("nvfp4", "bf16, fp8, fp8_block, mxfp4, int4"), ("fp7", "nvfp4"), ("fp32", "bf16, fp8")]
)
def test_a_type_without_matrix_units_lists_those_that_have_some(dtype, mend):
    with pytest.raises(EstimatorError, match=f"choose one of .*{mend}") as caught:
        load_device("h100_sxm").matrix_rate(dtype)
    assert (caught.value.field, caught.value.value) == ("dtype", dtype)


def test_names_ignore_case():
    assert load_device("H100_SXM") is load_device("h100_sxm")


@pytest.mark.parametrize("name", ["tpu_v5e", "", None, 3])
def test_an_unknown_device_lists_the_known_ones(name):
    with pytest.raises(EstimatorError, match="a100_sxm, b200_sxm, h100_sxm, h200_sxm, l40s") as caught:
        load_device(name)
    assert caught.value.field == "device"
    assert caught.value.value == name
    assert str(caught.value).endswith("choose one of a100_sxm, b200_sxm, h100_sxm, h200_sxm, l40s.")


def _figure(text, key):
    """Read one number of a catalogue file, which is flat enough to need no YAML parser."""
    line = next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
    return float(line.split(":")[1].split("#")[0])


@pytest.mark.parametrize("name", device_names())
def test_rates_agree_with_an_independent_catalogue(name):
    path = CATALOGUE / f"{name}.yaml"
    if not path.exists():
        pytest.skip("the profile catalogue is not beside this checkout")
    text, device = path.read_text(), load_device(name)
    assert device.memory_bandwidth == _figure(text, "mem_bw")
    assert device.peak_flops["bf16"] == pytest.approx(_figure(text, "bfloat16_tc_flops"), rel=1e-3)
    assert device.power_watts == _figure(text, "power")
    assert device.nvlink_bandwidth == _figure(text, "intra_node_bw")
    if name != "b200_sxm":  # The catalogue gives it the network and the host of the node after the DGX B200.
        assert device.inter_node_bandwidth == _figure(text, "inter_node_bw")
        assert device.pcie_bandwidth == _figure(text, "pcie_bw")
    assert device.gpus_per_node == _figure(text, "num_gpus_per_node")
    # The catalogue rounds to GiB; the driver keeps back some of it on Hopper, and the H200's 141 are decimal.
    assert device.memory_bytes == pytest.approx(_figure(text, "mem_capacity"), rel=0.01)
