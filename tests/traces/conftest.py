from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def public_traces() -> Path:
    """The folder of public traces beside the checkout."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
    if not folder.is_dir():
        pytest.skip("the public traces are not beside this checkout (../shared/data/traces)")
    return folder


@pytest.fixture(scope="session")
def vllm_runs() -> Path:
    """The folder of measured vLLM runs beside the checkout."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "groundtruth" / "vllm"
    if not folder.is_dir():
        pytest.skip("the measured runs are not beside this checkout (../shared/data/groundtruth/vllm)")
    return folder
