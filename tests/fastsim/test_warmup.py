"""``fastsim warmup``: kernels compiled ahead of time."""

import inspect
from importlib import import_module

import pytest
from cli_calls import Cli

from fastsim import warmup
from fastsim.kernel.jit import DISABLED
from fastsim.options import ROUTERS
from fastsim.schedulers import SCHEDULERS

SMALL = [("routing:round_robin", "ROUTE"), ("routing:random", "ROUTE")]


def test_every_policy_and_every_router_is_among_them():
    kernels = {kernel for kernel, _ in warmup.usual_kernels()}
    assert {choice.kernel for choice in (*SCHEDULERS.values(), *ROUTERS.values())} <= kernels


@pytest.mark.parametrize("kernel", sorted({kernel for kernel, _ in warmup.usual_kernels()} - {"columns"}))
def test_they_are_functions_of_the_kernel(kernel: str):
    module, name = kernel.split(":")
    function = getattr(import_module(f"fastsim.kernel.{module}"), name)
    assert inspect.isfunction(getattr(function, "py_func", function))


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_the_second_call_says_that_all_is_compiled(cli: Cli, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # of the processes that compile
    monkeypatch.setattr(warmup, "usual_kernels", lambda: SMALL)
    first, second = cli("warmup"), cli("warmup")
    assert first.code == second.code == 0
    assert first.out.startswith("2 of 2 kernels compiled; ")
    assert second.out.startswith("all 2 kernels are compiled already")
    kept = sorted(path.name.rpartition("-")[0] for path in tmp_path.rglob("*.kernel"))
    assert kept == ["routing.random", "routing.round_robin"]


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_what_cannot_be_kept_is_refused(cli: Cli, tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "fastsim").write_text("a file, in which there can be no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(warmup, "usual_kernels", lambda: SMALL)
    outcome = cli("warmup")
    assert outcome.code == 2
    sentence = outcome.err.splitlines()[-1]
    assert f"'{tmp_path}/fastsim/jit/" in sentence
    assert "cannot be written (Not a directory); make room, or set XDG_CACHE_HOME to another place." in sentence
