import pytest

from estimators.devices import load_device
from estimators.profiler.hardware import Hardware

CACHE_BYTES = 1 << 20


@pytest.fixture
def cpu() -> Hardware:
    """The CPU, with a cache of 1 MiB and peaks of another device: nothing is measured."""
    import torch

    about = {"device": "a CPU", "driver": "none", "libraries": {}, "clocks": {}, "threads": 1, "assumed": []}
    return Hardware(torch.device("cpu"), load_device("l40s"), False, CACHE_BYTES, ("fp32", "bf16"), about)
