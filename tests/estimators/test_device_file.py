"""Devices of one's own: written, read, refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from toy_device import CPU

from estimators.device_file import device_path, read_device, write_device
from estimators.devices import load_device
from estimators.errors import EstimatorError

PROVENANCE = {"device": "a CPU", "libraries": {"torch": "2.13"}}


def rewrite(directory: Path, **other: Any) -> None:
    """Change what a finished directory says of its device, or leave a field out that is None."""
    path = device_path(directory)
    content = json.loads(path.read_text())
    content["device"] = {k: v for k, v in (content["device"] | other).items() if v is not None}
    path.write_text(json.dumps(content))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_device(tmp_path / "mine", CPU, PROVENANCE)
    return tmp_path / "mine"


def test_what_is_written_is_read(directory: Path) -> None:
    spec, provenance = read_device(directory)
    assert (spec, provenance) == (CPU, PROVENANCE)
    assert spec.directory == str(directory.resolve())
    assert [path.name for path in directory.iterdir()] == ["device.json"]


def test_a_directory_is_loaded_like_a_name(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_device(directory) == load_device(str(directory)) == CPU
    monkeypatch.chdir(directory.parent)
    assert load_device("mine").directory == str(directory.resolve())
    (directory.parent / "h100_sxm").mkdir()
    assert load_device("h100_sxm").directory is None  # names come first


def test_where_a_device_lies_makes_no_other_of_it(tmp_path: Path) -> None:
    board = load_device("h100_sxm")
    write_device(tmp_path, board, {})
    assert load_device(tmp_path) == board
    assert hash(load_device(tmp_path)) == hash(board)


def test_an_unfinished_profile_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(EstimatorError) as caught:
        load_device(tmp_path)
    assert str(caught.value) == (
        f"device {str(tmp_path)!r} is no finished profile; "
        "run fastsim profile with this --out again, it goes on where it stopped."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory_bytes": 1.5}, "memory_bytes 1.5 is not a whole number above 0"),
        ({"num_sms": 0}, "num_sms 0 is not a whole number above 0"),
        ({"gpus_per_node": True}, "gpus_per_node True is not a whole number above 0"),
        ({"l2_bandwidth": "fast"}, "l2_bandwidth 'fast' is not a number above 0"),
        ({"power_watts": -1}, "power_watts -1 is not a number from 0 on"),
        ({"memory_bandwidth": "1e999"}, "memory_bandwidth '1e999' is not a number above 0"),
        ({"peak_flops": {"fp31": 1e12}}, "peak_flops {'fp31': 1000000000000.0} is no table of rates by type"),
        ({"peak_flops": {"fp32": 0}}, "peak_flops: fp32 0 is not a number above 0"),
        ({"name": "../cpu"}, "name '../cpu' is no name of a device"),
        ({"num_sms": None}, "does not say num_sms"),
        ({"colour": "red"}, "says colour, of which nothing is known"),
    ],
)
def test_a_wrong_figure_is_named(directory: Path, change: dict[str, Any], message: str) -> None:
    rewrite(directory, **change)
    with pytest.raises(EstimatorError) as caught:
        read_device(directory)
    assert message in str(caught.value)
    assert "device.json" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "was not written by fastsim"),
        ('{"format": "fastsim device", "version": 2}', "version 2 is not 1"),
        ('{"format": "fastsim device", "version": 1}', "does not hold a device and its provenance"),
    ],
)
def test_other_files_are_refused(directory: Path, text: str, message: str) -> None:
    device_path(directory).write_text(text)
    with pytest.raises(EstimatorError, match=message):
        load_device(directory)


def test_nothing_is_written_that_could_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(EstimatorError, match="num_sms 0 is not"):
        write_device(tmp_path, replace(CPU, num_sms=0), {})
    with pytest.raises(EstimatorError, match="provenance cannot be written as JSON"):
        write_device(tmp_path, CPU, {"when": object()})
    assert not any(tmp_path.iterdir())


def test_all_fields_are_kept(directory: Path) -> None:
    told = json.loads(device_path(directory).read_text())["device"]
    assert told == {name: value for name, value in asdict(CPU).items() if name != "directory"}
