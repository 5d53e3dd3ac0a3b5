import gzip
import json

import numpy as np
import pytest

from traces import TraceError, prefix_reuse, read, read_sharegpt

HUMAN, GPT = "human", "gpt"


def conversation(*messages):
    return {"id": "x", "conversations": [{"from": speaker, "value": text} for speaker, text in messages]}


RECORDS = [
    conversation((HUMAN, "a" * 10), (GPT, "b" * 5), (HUMAN, "c" * 4), (GPT, "d" * 9)),
    conversation((GPT, "unasked"), (HUMAN, "e" * 3)),
    conversation(("system", "f" * 8), (HUMAN, "g" * 4), ("chatgpt", "h" * 4), (GPT, "goes on")),
    conversation(),
]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "sharegpt.json"
    file.write_text(json.dumps(RECORDS), encoding="utf-8")
    return file


def test_read_takes_first_turns_by_the_stated_rule(path):
    workload = read(path)
    assert workload.prompt_tokens.tolist() == [3, 3]
    assert workload.output_tokens.tolist() == [2, 1]
    assert not workload.arrival_s.any()
    assert workload.provenance["format"] == "sharegpt"
    assert workload.notes == (
        "the file has no arrivals: all requests arrive at time 0",
        "the file has texts, not lengths: 4 characters are a token",
        "2 of 4 conversations have no answered prompt: left out",
    )


def test_all_turns_are_sessions_that_share_their_text(path):
    workload = read_sharegpt(path, tokenizer=len, turns="all")
    assert workload.prompt_tokens.tolist() == [10, 19, 12]
    assert workload.output_tokens.tolist() == [5, 9, 4]
    assert workload.session.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(workload.think_s, [np.nan, 0.0, np.nan])
    assert workload.block_ids.tolist() == [0, 0, 1]
    assert prefix_reuse(workload) == pytest.approx(15 / 41)


@pytest.mark.parametrize(
    "tokenizer", [str.split, lambda text: {"input_ids": text.split()}, lambda text: len(text.split())]
)
def test_a_tokenizer_counts(tmp_path, tokenizer):
    file = tmp_path / "sharegpt.json.gz"
    file.write_bytes(gzip.compress(json.dumps([conversation((HUMAN, "one two three"), (GPT, "four five"))]).encode()))
    workload = read_sharegpt(file, tokenizer)
    assert (workload.prompt_tokens.tolist(), workload.output_tokens.tolist()) == ([3], [2])
    assert "tokens of the given tokenizer" in workload.notes[1]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[{]", "path is {path!r}, which cannot be read as JSON ("),
        ("[]", "path is {path!r}, which is no list of conversations; give a file of ShareGPT's form."),
        ('[{"id": 1}]', "conversations is None in conversation 1 of {path}; give a list of objects"),
        ('[{"conversations": 5}]', "conversations is 5 in conversation 1 of {path}; give a list of objects"),
        ('[{"conversations": ["x"]}]', "from is None in conversation 1 of {path}; give a text."),
        ('[{"conversations": [{"from": "gpt", "value": 7}]}]', "value is 7 in conversation 1 of {path}; give a text."),
        ('[{"conversations": []}]', "path is {path!r}, which holds no conversation with a prompt and an answer;"),
    ],
)
def test_bad_files(tmp_path, content, sentence):
    file = tmp_path / "sharegpt.json"
    file.write_text(content)
    with pytest.raises(TraceError) as caught:
        read(file)
    assert str(caught.value).startswith(sentence.format(path=str(file)).replace("path is PosixPath", "path is"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"turns": "last"}, "turns is 'last'; choose one of first, all."),
        ({"chars_per_token": 0}, "chars_per_token is 0; give a number from 0.1 to 100."),
        (
            {"tokenizer": lambda text: None},
            "tokenizer gave None; give a function from a text to its number of tokens, or to a list of them.",
        ),
    ],
)
def test_bad_options(path, options, words):
    with pytest.raises(TraceError) as caught:
        read_sharegpt(path, **options)
    assert str(caught.value) == words
