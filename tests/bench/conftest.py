import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
from run_files import REPOSITORY


@pytest.fixture(scope="session")
def script() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of bench/ by its name."""
    sys.path.insert(0, str(REPOSITORY / "bench"))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(REPOSITORY / "bench"))
