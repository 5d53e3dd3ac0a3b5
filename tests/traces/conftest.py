from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def public_traces() -> Path:
    """The folder of public traces beside the checkout."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
    if not folder.is_dir():
        pytest.skip("the public traces are not beside this checkout (../shared/data/traces)")
    return folder
