"""The configurations of the installed package: each is simulated, or refused in a sentence that says why."""

from pathlib import Path

import pytest

from estimators.errors import EstimatorError
from estimators.model_catalogue import catalogued_config, catalogued_configs
from estimators.models import load_model, model_names

ENTRIES = catalogued_configs()
#: Why those that are refused are.
REASONS = (
    "linear attention",
    "state-space layers",
    "sparse attention",
    "attention in chunks",
    "layers that differ from each other",
    "layers whose heads differ",
)
#: An architecture that no release of transformers has yet.
UNKNOWN = "stepfun-ai/Step-3.7-Flash"


def test_the_package_is_there():
    assert len(ENTRIES) > 80
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def refusal(name: str) -> str:
    """The sentence that refuses a model; empty where it is simulated."""
    try:
        load_model(name)
    except EstimatorError as error:
        return str(error)
    return ""


REFUSED = {entry.name: sentence for entry in ENTRIES if (sentence := refusal(entry.name))}
SIMULATED = [entry.name for entry in ENTRIES if entry.name not in REFUSED]


def test_most_of_what_is_no_hybrid_is_simulated():
    assert len(SIMULATED) >= 40


@pytest.mark.parametrize("name", SIMULATED)
def test_those_that_are_simulated_make_sense(name: str):
    model = load_model(name)
    assert model.name.rpartition("/")[2] == name.rpartition("/")[2]
    assert 0 < model.active_parameters <= model.num_parameters
    size = model.weight_bytes() / model.num_parameters
    least, most = {None: (2, 2), "fp8": (1, 1.2), "fp8_block": (1, 1.2)}.get(model.weight_dtype, (0.53, 0.7))
    assert least <= size <= most


@pytest.mark.parametrize(("name", "sentence"), REFUSED.items())
def test_those_that_are_refused_are_so_for_a_reason(name: str, sentence: str):
    assert "\n" not in sentence
    assert sentence.endswith(".")
    known = [reason for reason in REASONS if f" means {reason}" in sentence]
    assert known or (name.startswith(UNKNOWN) and "architectures" in sentence)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((entry.name, entry.name) for entry in ENTRIES if entry.name in model_names()),
        *((f"meta-llama/Meta-Llama-3.1-{size}", f"meta-llama/Llama-3.1-{size}") for size in ("8B", "70B", "405B")),
    ],
)
def test_built_in_models_equal_those_of_the_package(name: str, known: str, monkeypatch: pytest.MonkeyPatch):
    model = load_model(known)
    monkeypatch.setattr("estimators.models._builtin", dict)
    assert vars(load_model(name)) == vars(model) | {"name": name}


@pytest.mark.parametrize("name", ["nvidia/Kimi-K2.5-NVFP4", "KIMI-K2.5-nvfp4"])
def test_a_name_may_be_in_any_case_and_without_its_organisation(name: str):
    model = load_model(name)
    assert model.name == "nvidia/Kimi-K2.5-NVFP4"
    assert (model.weight_dtype, model.kv_dtype) == ("nvfp4", "fp8")


def test_a_file_of_the_package_is_read_with_the_one_beside():
    found = catalogued_config("nvidia/Qwen3-235B-A22B-NVFP4")
    assert found is not None
    model = load_model(str(found.config))
    assert (model.weight_dtype, model.kv_dtype) == ("nvfp4", "fp8")


def test_the_successor_may_have_modules_of_both_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "old_name").mkdir()
    (tmp_path / "old_name" / "__init__.py").write_text("raise ImportError('must not be run')")
    folder = tmp_path / "new_name" / "model_configs"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('must not be run')")
    (folder / "some--Model-1_config.json").write_text("{}")
    (folder / "some--Model-1_hf_quant_config.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("estimators.model_catalogue.PACKAGES", ("old_name", "new_name"))
    assert [entry.name for entry in catalogued_configs()] == ["some/Model-1"]
    with pytest.raises(EstimatorError, match="some/Model-1: architectures is not a list of one name"):
        load_model("model-1")


def test_without_a_package_nothing_is_catalogued(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("estimators.model_catalogue.PACKAGES", ("no_such_module",))
    assert catalogued_configs() == ()
    with pytest.raises(EstimatorError, match="is neither a known name nor a file"):
        load_model("nvidia/Kimi-K2.5-NVFP4")
