"""Whose trained files are behind a device, and which operators they time."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from model_specs import DEEPSEEK_V3, GEMMA_3, GPT_OSS, MIXTRAL
from roofline_estimators import LAUNCH, RooflineEstimators, build_small
from toy_device import CPU, PROVENANCE, toy_profiles

from estimators.build import Deployment, load_estimators
from estimators.device_estimators import device_files, estimators_of
from estimators.device_file import own_zoo, write_device
from estimators.devices import DeviceSpec, load_device
from estimators.errors import EstimatorError
from estimators.estimator import ZOO, OperatorEstimators
from estimators.features import features_and_roofline
from estimators.features.roofline import Roofline
from estimators.layout import FloatArray
from estimators.lookup import operation_times
from estimators.models import load_model
from estimators.operators import bandwidth_seconds, iteration_calls
from estimators.profiles import ELEMENTWISE
from estimators.row_tables import measured_calls
from estimators.train import train

LLAMA, PHI = load_model("Llama-3.1-8B"), load_model("phi-2")
BYTES_ALONE = Roofline(1.0, 1.0, 1, 1.0, floor_s=0.0, split_kv=True)  # the roofline is the bytes


class Norms(RooflineEstimators):
    """Knows norms, too: a second each."""

    def __init__(self) -> None:
        super().__init__("norms")
        self.profiled["norm"] = {"tokens": [1, 64], "width": [4096, 4096]}

    @staticmethod
    def _norm(tokens: FloatArray, width: FloatArray) -> FloatArray:
        return np.ones(tokens.size) + 0 * width


def board(directory: Path) -> DeviceSpec:
    """An H100 with norms of its own."""
    write_device(directory, load_device("h100_sxm"), PROVENANCE)
    norms = [one for one in toy_profiles(iteration_calls(LLAMA)) if one.operator == "norm"]
    entry = own_zoo(directory) / "h100_sxm-bf16"
    train(CPU, "fp32", directory / "zoo", kind="linear", profiles=norms)
    shutil.move(directory / "zoo" / "cpu-fp32", entry)
    return load_device(directory)


@pytest.mark.parametrize("model", [LLAMA, PHI, GEMMA_3, GPT_OSS, MIXTRAL, DEEPSEEK_V3], ids=lambda model: model.name)
def test_what_is_measured_moves_the_bytes_that_are_modelled(model):
    calls = [call for call in iteration_calls(model, dtype="auto", kv_dtype="auto") if call.operator == "bandwidth"]
    unmeasured = {call.name for call in calls if not call.measured_as}
    assert unmeasured <= {"key_concat", "history_gather", "history_key_concat", "merge"}
    for call in calls:
        if call.measured_as in ("", "gating"):  # what it chooses is written beside what it reads
            continue
        one = call.measured()
        assert (one.count, one.axis, one.dtype) == (call.count, call.axis, "bf16")
        columns = {name: column.astype(float) for name, column in one.columns(np.array([7])).items()}
        _, moved = features_and_roofline(one.operator, columns, BYTES_ALONE)
        assert moved[0] == 7 * call.shape["bytes"], call.name


def test_a_cache_of_another_type_is_written_as_modelled():
    found = {call.name: call for call in iteration_calls(LLAMA, kv_dtype="fp8")}
    assert found["kv_write"].measured_as == ""
    assert found["rope"].measured_as == "rope"


def test_what_was_measured_is_asked_for_and_all_else_modelled():
    plain, known = build_small(max_tokens=64), build_small(Norms(), max_tokens=64)
    modelled = bandwidth_seconds(4 * 4096 * 2 * np.arange(1, 65), load_device("h100_sxm"))
    norms = 2 * 32 + 1  # two in a layer and the last
    np.testing.assert_allclose(known.token_s[1:] - plain.token_s[1:], norms * (1 + LAUNCH - modelled), rtol=1e-9)
    assert known.provenance["profiled"]["tokens"] == [1, 64]
    np.testing.assert_array_equal(known.decode_s, plain.decode_s)


def test_each_says_whether_it_was_measured():
    rows = operation_times(LLAMA, "h100_sxm", decodes=8, kv=800, estimators=Norms())
    sources = {row.name: (row.operator, row.source, row.inside) for row in rows}
    assert sources["input_norm"] == ("norm", "estimators given", True)
    assert sources["rope"] == ("bandwidth", "bandwidth model", None)
    outside = operation_times(load_model("Llama-3.1-70B"), "h100_sxm", decodes=8, kv=800, estimators=Norms())
    assert {row.name: row.inside for row in outside}["input_norm"] is False


def test_the_package_measured_none_and_no_file_is_decoded_to_know():
    calls = iteration_calls(LLAMA, dtype="fp8")
    known = {kind: OperatorEstimators.load("h100_sxm", kind) for kind in ("bf16", "fp8")}
    assert measured_calls(calls, known) == calls
    assert all(of._models == {} for of in known.values())
    assert not any(path.name.split(".")[0] in ELEMENTWISE for path in ZOO.rglob("*.xz"))


def test_types_that_only_moves_have_are_looked_for_in_vain():
    stage = Deployment(dtype="fp8", kv_dtype="fp8", pp=4, stage=1).calls(LLAMA)
    assert {call.dtype for call in stage} == {"fp8", "bf16"}
    assert set(load_estimators(stage, load_device("h100_sxm"))) == {"fp8"}
    assert set(load_estimators(stage, load_device("h100_sxm"), Norms())) == {"fp8", "bf16"}


def test_a_board_profiled_alone_has_the_rest_from_the_package(tmp_path: Path):
    device = board(tmp_path / "mine")
    files, of_package = device_files(device, "bf16"), device_files(load_device("h100_sxm"), "bf16")
    assert {name for name, path in files.items() if path != of_package.get(name)} == {"norm"}
    known = estimators_of(device, "bf16")
    columns = {"gpus": 2, "elements": 4096}
    assert known.predict("all_reduce", columns) == estimators_of(load_device("h100_sxm"), "bf16").predict(
        "all_reduce", columns
    )
    assert known.hash != estimators_of(load_device("h100_sxm"), "bf16").hash
    assert device_files(device, "fp8") == device_files(load_device("h100_sxm"), "fp8")
    rows = {row.name: row.source for row in operation_times(LLAMA, device, Deployment(2), decodes=8, kv=800)}
    assert rows["input_norm"] == "toy engine 1"
    assert rows["attention_all_reduce"].startswith("vllm")
    assert rows["rope"] == "bandwidth model"


def test_files_that_change_are_read_again(tmp_path: Path):
    device = board(tmp_path / "mine")
    before = estimators_of(device, "bf16")
    assert estimators_of(device, "bf16") is before
    file = own_zoo(tmp_path / "mine") / "h100_sxm-bf16" / "norm.onnx.xz"
    file.write_bytes((ZOO / "h100_sxm-bf16" / "all_gather.onnx.xz").read_bytes())
    assert estimators_of(device, "bf16").hash != before.hash


def test_a_device_without_estimators_of_a_type_lists_those_it_has(tmp_path: Path):
    write_device(tmp_path, CPU, PROVENANCE)
    with pytest.raises(EstimatorError, match="'cpu fp32' has no estimators in ") as caught:
        estimators_of(load_device(tmp_path), "fp32")
    assert caught.value.mend == "choose one of nothing, or profile it in fp32"
