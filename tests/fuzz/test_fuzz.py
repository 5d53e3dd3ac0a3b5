"""A slice of the campaign, the same beside the same data: every target ends with a result or one sentence."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.campaign import LONG, NOT_RUN, RESULT, SENTENCE, outcome_of
from fuzz.file_targets import TARGETS
from fuzz.mutation import mutated_bytes, mutated_json


@pytest.mark.parametrize("name", TARGETS)
def test_there_is_a_result_or_one_sentence(name: str) -> None:
    @settings(max_examples=3 if name in LONG else 25)
    @given(st.integers(0, 2**32))
    def run(seed: int) -> None:
        outcome = outcome_of(name, seed)
        assert outcome in (RESULT, SENTENCE, NOT_RUN)
        outcomes.add(outcome)

    outcomes: set[str] = set()
    run()
    reaches_one = name in LONG or RESULT in outcomes or any(outcome_of(name, seed) == RESULT for seed in range(100))
    assert reaches_one, "what refuses everything tests nothing"


def test_what_raises_no_sentence_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(rng: random.Random, place: Path) -> object:
        raise KeyError("x")

    def vague(rng: random.Random, place: Path) -> object:
        raise ValueError("bad")

    for run in (fails, vague):
        monkeypatch.setitem(TARGETS, "broken", run)
        assert outcome_of("broken", 0).startswith(("KeyError: 'x' at", "ValueError: bad at"))


def test_most_changes_change_something() -> None:
    content = b'{"a": [1, 2, {"b": "text"}], "c": 1.5}'
    for mutate in (mutated_bytes, mutated_json):
        found = {mutate(random.Random(seed), content) for seed in range(200)}
        assert len(found) > 80
