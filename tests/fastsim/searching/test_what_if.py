"""What changes from one configuration to another, in words."""

import pytest
from search_frames import frame_of, row, some_frame

from fastsim.errors import ConfigError
from fastsim.searching.what_if import what_if


def test_it_names_what_differs_and_what_becomes_of_it():
    lines = what_if(some_frame(), "s1v64", "s2v256").splitlines()
    assert lines[0] == "s2v256 in place of s1v64: tp 2 instead of 1, max_num_seqs 256 instead of 64"
    on_chat = lines[lines.index("on chat") + 1 : lines.index("on code")]
    assert on_chat[0].split() == ["capacity", "10.0", "QPS", "->", "26.1", "QPS", "(+161.2%)"]
    assert on_chat[2].split() == ["requests", "per", "dollar", "18,000", "->", "23,505", "(+30.6%)"]
    assert "TTFT p90 at capacity" in on_chat[3]
    assert on_chat[3].endswith("1.00 s -> 500.0 ms (-50.0%)")
    assert on_chat[5].split() == ["MFU", "40.0%", "->", "40.0%"]


def test_what_cannot_be_told_apart_is_said():
    frame = frame_of([row("a", 10, batch=1), row("b", 9.9, batch=2, binding="KV blocks"), row("c", 9, batch=3)])
    assert "on chat, which the search cannot tell apart" in what_if(frame, "a", "b")
    assert "apart" not in what_if(frame, "a", "c")
    assert what_if(frame, "a", "b").endswith("KV blocks; before: scheduling delay p99 4.9 s of 5 s")


def test_a_configuration_without_a_capacity_says_why():
    frame = frame_of([row("a", 10, batch=1), row("b", None, batch=2)])
    expected = ["b in place of a: batch 2 instead of 1", "on chat: b has no capacity: weights lack 3 GB"]
    assert what_if(frame, "a", "b").splitlines() == expected


def test_another_model_can_take_the_place():
    assert "model small instead of large" in what_if(some_frame(), "l2v64", "s2v64")


def test_nothing_to_compare_is_refused():
    with pytest.raises(ConfigError, match="before 'x' is no config_id"):
        what_if(some_frame(), "x", "s1v64")
    with pytest.raises(ConfigError, match="was run on no workload that a was run on"):
        what_if(frame_of([row("a", 10, "chat"), row("b", 9, "code")]), "a", "b")
