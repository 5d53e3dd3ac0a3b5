"""Fixtures of the tests of the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_calls import Cli, in_this_process

from fastsim.commands import parsing


@pytest.fixture
def cli(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command in this process, without progress lines, whose appearance depends on the machine."""
    monkeypatch.setattr(parsing, "PATIENCE_S", 1e6)
    return in_this_process(capsys)


@pytest.fixture
def make_trace(tmp_path: Path) -> Callable[..., Path]:
    """Write lines below the header of a Vidur trace."""

    def write(*lines: str, header: str = "arrived_at,num_prefill_tokens,num_decode_tokens") -> Path:
        path = tmp_path / "trace.csv"
        path.write_text("\n".join((header, *lines)) + "\n")
        return path

    return write
