"""The journal: what survives, and what is refused."""

import json
import math
from pathlib import Path

import pytest
from toy_device import PROVENANCE

from estimators import load_device
from estimators.device_file import write_device
from fastsim import ConfigError
from fastsim.searching.capacity import Capacity
from fastsim.searching.journal import NAME, Journal, header_of
from fastsim.searching.probes import Probe
from fastsim.searching.space import Space
from fastsim.searching.tasks import Outcome

#: A small model's config.json.
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
}
HEADER = {"version": "1", "space": "abc", "slo": [{"limit": 5.0}], "tolerance": 0.02}


def some_outcome(number: int) -> Outcome:
    probe = Probe(1.0, True, False, "", {}, 5, 0.1)
    found = Capacity(number / 3, (1.5, math.inf), 0.02, (), True, "", "", probe)
    return Outcome(f"id{number}", "chat", None, "ok", "", found.as_dict(), 0.1)


def write(directory: Path, count: int = 3) -> list[Outcome]:
    outcomes = [some_outcome(number) for number in range(count)]
    with Journal(directory, HEADER, resume=False) as journal:
        for outcome in outcomes:
            journal.add(outcome)
    return outcomes


def test_what_was_added_is_there_to_the_bit(tmp_path: Path):
    outcomes = write(tmp_path / "new" / "directory")
    with Journal(tmp_path / "new" / "directory", HEADER, resume=True) as journal:
        assert list(journal.outcomes.values()) == outcomes


def test_a_torn_line_is_dropped_wherever_the_kill_was(tmp_path: Path):
    outcomes = write(tmp_path)
    whole = (tmp_path / NAME).read_bytes()
    for length in range(len(whole) + 1):
        (tmp_path / NAME).write_bytes(whole[:length])
        with Journal(tmp_path, HEADER, resume=True) as journal:
            ended = whole[:length].count(b"\n") - 1
            assert list(journal.outcomes.values()) == outcomes[: max(ended, 0)]
            journal.add(some_outcome(99))
        with Journal(tmp_path, HEADER, resume=True) as journal:
            assert len(journal.outcomes) == max(ended, 0) + 1


def test_a_run_again_takes_the_place_of_the_first(tmp_path: Path):
    write(tmp_path, 1)
    again = Outcome("id0", "chat", None, "failed", "no memory", None, 0.1)
    with Journal(tmp_path, HEADER, resume=True) as journal:
        journal.add(again)
    with Journal(tmp_path, HEADER, resume=True) as journal:
        assert list(journal.outcomes.values()) == [again]


def test_an_existing_journal_is_not_written_over(tmp_path: Path):
    write(tmp_path)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(ConfigError, match=r"already holds a search, of which 3 runs have ended; give resume"):
        Journal(tmp_path, HEADER, resume=False)
    assert (tmp_path / NAME).read_bytes() == before


def test_the_journal_of_another_search_is_refused(tmp_path: Path):
    write(tmp_path)
    with pytest.raises(ConfigError, match=r"is of another search: it differs in space, tolerance; repeat the search"):
        Journal(tmp_path, HEADER | {"space": "xyz", "tolerance": 0.01}, resume=True)


@pytest.mark.parametrize("line", [b"nonsense", b"[]", b'{"config_id": "a"}', b"\xff\xfe"])
def test_a_damaged_line_is_refused(tmp_path: Path, line: bytes):
    write(tmp_path)
    lines = (tmp_path / NAME).read_bytes().splitlines()
    (tmp_path / NAME).write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]) + b"\n")
    with pytest.raises(ConfigError, match=r"is damaged in line 3; remove that line"):
        Journal(tmp_path, HEADER, resume=True)


def test_two_searches_do_not_write_one_journal(tmp_path: Path):
    pytest.importorskip("fcntl")
    with (
        Journal(tmp_path, HEADER, resume=False),
        pytest.raises(ConfigError, match="is being written by another search"),
    ):
        Journal(tmp_path, HEADER, resume=True)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        Journal(tmp_path / "file", HEADER, resume=False)


def test_what_is_behind_a_path_makes_another_search(tmp_path: Path):
    write_device(tmp_path / "device", load_device("h100_sxm"), PROVENANCE)
    model = tmp_path / "config.json"
    model.write_text(json.dumps(MODEL))
    space = Space({"model": (str(model),), "device": (str(tmp_path / "device"), "h100_sxm")}, {}, ())

    def header() -> dict:
        return json.loads(json.dumps(header_of(space, {}, (), 0.02, 0)))

    first = header()
    assert list(first["profiles"]) == [str(tmp_path / "device")]
    assert header() == first
    (tmp_path / "device" / "gemm.onnx").write_bytes(b"measured anew")
    second = header()
    assert {name for name in first if first[name] != second[name]} == {"profiles"}
    model.write_text(json.dumps(MODEL | {"num_hidden_layers": 3}))
    assert {name for name in second if second[name] != header()[name]} == {"models"}
