import math

import numpy as np
import pytest

from traces import TraceError, Workload, prefix_reuse

LENGTHS = {
    "lengths": "uniform",
    "length_options": {"prompt_min": 1, "prompt_max": 60, "output_min": 1, "output_max": 40},
}


def generate(conversations="geometric", num_requests=2000, seed=0, max_total_tokens=None, more=None, **options):
    """Conversations of 3 turns on average."""
    return Workload.generate(
        num_requests=num_requests,
        seed=seed,
        max_total_tokens=max_total_tokens,
        conversations=conversations,
        conversation_options={"turns": 3, **options},
        **{"qps": 6.0, **LENGTHS, **(more or {})},
    )


def turns_of(workload):
    """Rows of each session."""
    return np.split(np.arange(len(workload)), np.flatnonzero(np.diff(workload.session)) + 1)


@pytest.mark.parametrize("conversations", ["fixed", "geometric"])
@pytest.mark.parametrize("system_prompt_tokens", [0, 40])
def test_each_prompt_is_all_that_was_said_and_more(conversations, system_prompt_tokens):
    workload = generate(conversations, system_prompt_tokens=system_prompt_tokens, think_s=5)
    for session, rows in enumerate(turns_of(workload)):
        assert set(workload.session[rows]) == {session}
        assert len(set(workload.arrival_s[rows])) == 1
        said = system_prompt_tokens
        for row in rows:
            assert said < workload.prompt_tokens[row] <= said + 60
            said = workload.prompt_tokens[row] + workload.output_tokens[row]
        assert math.isnan(workload.think_s[rows[0]])
        assert (workload.think_s[rows[1:]] >= 0).all()


@pytest.mark.parametrize("block_tokens", [1, 16])
def test_ids_name_all_that_was_said(block_tokens):
    """Each turn begins with the blocks of the turn before; sessions share the full ones of the system prompt only."""
    workload = generate(system_prompt_tokens=40, block_tokens=block_tokens)
    shared = list(range(40 // block_tokens))
    ids = np.split(workload.block_ids, workload.block_offsets[1:-1])
    seen = set(shared)
    for rows in turns_of(workload):
        before = shared
        for row in rows:
            of_row = ids[row].tolist()
            assert len(of_row) == -(-(workload.prompt_tokens[row] + workload.output_tokens[row]) // block_tokens)
            assert of_row[: len(before)] == before
            new = of_row[len(before) :]
            assert len(set(new)) == len(new)
            assert not seen & set(new)
            seen.update(new)
            before = of_row
    assert seen == set(range(len(seen)))


def test_reuse_is_what_was_said_before():
    workload = generate("fixed", turns=4, more={"length_options": {"prompt": 32, "output": 64}, "lengths": "fixed"})
    assert workload.prompt_tokens[:4].tolist() == [32, 128, 224, 320]
    assert prefix_reuse(workload) == (96 + 192 + 288) / (32 + 128 + 224 + 320)


def test_number_of_turns():
    assert [len(rows) for rows in turns_of(generate("fixed", num_requests=12))] == [3, 3, 3, 3]
    lengths = [len(rows) for rows in turns_of(generate(num_requests=30_000))[:-1]]
    assert np.mean(lengths) == pytest.approx(3, abs=0.1)  # standard deviation of the mean: 0.024
    assert np.mean(np.equal(lengths, 1)) == pytest.approx(1 / 3, abs=0.02)
    assert [len(rows) for rows in turns_of(generate(turns=1, num_requests=50))] == [1] * 50


def test_think_times():
    drawn = generate(think_s=5.0, num_requests=30_000).think_s
    drawn = drawn[~np.isnan(drawn)]
    assert drawn.mean() == pytest.approx(5, abs=0.15)
    assert drawn.std() == pytest.approx(5, abs=0.3)
    constant = generate(think_s=5.0, think_cv=0, num_requests=300).think_s
    assert set(constant[~np.isnan(constant)]) == {5.0}
    without = generate(num_requests=300).think_s
    assert set(without[~np.isnan(without)]) == {0.0}


def test_rate_is_that_of_requests():
    assert generate(num_requests=30_000).qps == pytest.approx(6, rel=0.05)
    static = generate(num_requests=10, more={"arrivals": "static", "qps": None})
    assert not static.arrival_s.any()


@pytest.mark.parametrize("conversations", ["fixed", "geometric"])
@pytest.mark.parametrize("max_total_tokens", [None, 150])
def test_first_requests_do_not_depend_on_their_number(conversations, max_total_tokens):
    many = generate(conversations, max_total_tokens=max_total_tokens, system_prompt_tokens=33, think_s=2)
    for n in (1, 7, 500):
        few = generate(
            conversations, num_requests=n, max_total_tokens=max_total_tokens, system_prompt_tokens=33, think_s=2
        )
        assert few.hash == many.head(n).hash


def test_conversations_end_before_they_get_too_long():
    free, bounded = generate(num_requests=600), generate(num_requests=600, max_total_tokens=150)
    assert (free.prompt_tokens + free.output_tokens).max() > 150
    assert (bounded.prompt_tokens + bounded.output_tokens).max() <= 150
    number = len(turns_of(bounded))
    assert number > len(turns_of(free))
    ended = int(bounded.notes[0].split()[0])
    assert bounded.notes == (f"{ended} of {number} conversations ended early, at max_total_tokens 150",)
    assert 0 < ended < number


def test_a_turn_that_is_too_long_alone_loses_text_of_the_user():
    workload = generate(num_requests=50, max_total_tokens=70, system_prompt_tokens=20, turns=1)
    assert (workload.prompt_tokens + workload.output_tokens).max() == 70
    assert workload.prompt_tokens.min() > 20
    assert workload.notes[0].endswith(" of 50 turns were cut to max_total_tokens 70")


def test_provenance_says_how_to_draw_it_again():
    workload = generate(num_requests=20, think_s=1)
    generator = workload.provenance["generator"]
    assert generator["conversations"] == "geometric"
    assert Workload.generate(**generator).hash == workload.hash


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({"turns": 0.5}, "turns", "is 0.5; give a number from 1 to 1000"),
        ({"conversations": "fixed", "turns": 2.5}, "turns", "is 2.5; give a whole number from 1 to 1000"),
        ({"think_s": -1}, "think_s", "is -1; give a number from 0 to 1e+09"),
        ({"think_cv": 1e-9}, "think_cv", "is 1e-09; give a number from 0.001 to 100"),
        ({"block_tokens": 0}, "block_tokens", "is 0; give a whole number from 1"),
        ({"system_prompt_tokens": -1}, "system_prompt_tokens", "is -1; give a whole number from 0"),
        (
            {"system_prompt_tokens": 99, "max_total_tokens": 100},
            "system_prompt_tokens",
            "is 99, so max_total_tokens 100 leaves no room for a turn; give less",
        ),
        ({"truns": 2}, "truns", "is not an option of conversations 'geometric'; its options are: turns, think_s,"),
        ({"conversations": "endless"}, "conversations", "is 'endless'; choose one of fixed, geometric"),
    ],
)
def test_refuses_bad_options(options, field, problem):
    with pytest.raises(TraceError) as caught:
        generate(**options)
    assert str(caught.value).startswith(f"{field} {problem}")


def test_options_without_conversations_are_refused():
    with pytest.raises(TraceError, match=r"^conversation_options is given without conversations; choose one of fixed"):
        generate(None)
