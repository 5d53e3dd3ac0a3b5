import subprocess
import sys
from pathlib import Path

import pytest

import estimators


def test_the_package_imports_nothing_until_asked():
    code = "import sys, estimators; print('numpy' in sys.modules, estimators.IterationTables.__name__)"
    root = Path(estimators.__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["False", "IterationTables"]


def test_every_public_name_resolves():
    assert all(getattr(estimators, name) is not None for name in estimators.__all__)
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = estimators.nothing_of_that_name
