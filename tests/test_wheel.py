"""The wheel: built from the sdist, it holds the three packages with their data, nothing else, and runs by itself."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("estimators", "fastsim", "traces")
#: What a checkout holds beside the project.
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "*.nbc", "*.nbi", "shared")


def called(*words: object, **options: object) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist of this checkout, and the wheel built from that."""
    pytest.importorskip("build", reason="the extra test is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    called(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source")
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel, which finds the dependencies in this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    called(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    own = Path(called(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def environment(cache: Path) -> dict[str, str]:
    """Nothing of this checkout is on the path, no cache is full, and kernels are not compiled."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"XDG_CACHE_HOME": str(cache), "NUMBA_DISABLE_JIT": "1"}


def test_the_wheel_holds_the_packages_with_all_their_files_and_nothing_else(built: Path):
    (wheel,) = built.glob("*.whl")
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert found == wanted


def test_the_sdist_holds_what_the_wheel_is_tested_with(built: Path):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "CHANGELOG.md", "LICENSE", "NOTICE", "docs/record.json", "bench/__main__.py"} <= names
    assert Path(__file__).relative_to(ROOT).as_posix() in names


def test_it_runs_from_an_empty_folder(installed: Path, tmp_path: Path):
    folder = tmp_path / "empty"
    folder.mkdir()
    options = {"cwd": folder, "env": environment(tmp_path / "cache")}
    command = [installed.with_name("fastsim"), "run", "--requests", 20, "--json"]
    summary = json.loads(called(*command, **options))
    assert summary["simulation"]["completed"] == 20
    assert list(folder.iterdir()) == []
    assert "h100_sxm" in called(installed, "-m", "fastsim", "estimators", "list", **options)


def test_it_is_what_is_imported_and_knows_no_tests_and_no_benches(installed: Path, tmp_path: Path):
    code = (
        "import importlib.util as u, json; "
        f"print(json.dumps({{n: (s := u.find_spec(n)) and s.origin for n in {(*PACKAGES, 'tests', 'bench')!r}}}))"
    )
    origins = json.loads(called(installed, "-c", code, cwd=tmp_path, env=environment(tmp_path / "cache")))
    assert (origins.pop("tests"), origins.pop("bench")) == (None, None)
    for package, origin in origins.items():
        assert Path(origin).is_relative_to(installed.parents[1]), package
