import gzip
import hashlib
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import TraceError, Workload, read

AZURE = b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURSTGPT = b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
VIDUR = b"arrived_at,num_prefill_tokens,num_decode_tokens\n"
T = b"2023-11-16 18:15:46"
CELLS = "give a whole number from 1 to 2147483647"
TIME = "give a UTC time such as 2023-11-16 18:15:46.6805900"
SECONDS = "give a finite number of seconds of at least 0"
CLASSES = "give a whole number from 0 to 127"
SESSIONS = "give a whole number from -1 to 9007199254740991"
LINE = "correct or remove that line, or fetch the file again"


def read_bytes(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.csv"
        path.write_bytes(content)
        return read(path)


def rows(workload):
    columns = (workload.arrival_s, workload.prompt_tokens, workload.output_tokens)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize(
    ("name", "num_requests", "duration_s", "mean_prompt", "mean_output"),
    [("conv", 19366, 3501.721937, 1154.6974, 211.1259), ("code", 8819, 3435.948056, 2047.8483, 27.8825)],
)
def test_azure_and_vidur_files_hold_the_same_requests(
    public_traces, name, num_requests, duration_s, mean_prompt, mean_output
):
    azure = read(public_traces / "azure" / f"AzureLLMInferenceTrace_{name}.csv.gz")
    vidur = Workload.read(str(public_traces / "vidur" / f"splitwise_{name}.csv.gz"))
    assert len(azure) == len(vidur) == num_requests
    assert azure.notes == vidur.notes == ()
    np.testing.assert_array_equal(azure.prompt_tokens, vidur.prompt_tokens)
    np.testing.assert_array_equal(azure.output_tokens, vidur.output_tokens)
    assert azure.arrival_s[0] == 0
    assert np.abs(azure.arrival_s - vidur.arrival_s).max() < 1.01e-6  # Vidur's files are rounded to microseconds
    assert azure.duration_s == pytest.approx(duration_s, abs=1e-6)
    assert azure.prompt_tokens.mean() == pytest.approx(mean_prompt, abs=1e-4)
    assert azure.output_tokens.mean() == pytest.approx(mean_output, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "num_requests", "mean_prompt", "longest"),
    [
        ("vidur/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv.gz", 28257, 2588.078, 4096),
        ("sarathi/sharegpt_8k_filtered_stats_llama2_tokenizer.csv.gz", 30731, 2340.033, 8149),
    ],
)
def test_public_files_of_lengths_only_arrive_at_once(public_traces, name, num_requests, mean_prompt, longest):
    workload = read(public_traces / name)
    assert (len(workload), workload.provenance["format"]) == (num_requests, "sarathi")
    assert not workload.arrival_s.any()
    assert workload.prompt_tokens.mean() == pytest.approx(mean_prompt, abs=1e-3)
    assert (workload.prompt_tokens + workload.output_tokens).max() == longest
    assert workload.notes == ("the file has no arrivals: all requests arrive at time 0",)


def test_azure_times_keep_all_decimals_and_count_from_the_earliest():
    workload = read_bytes(AZURE + T + b".0000003,1,2\r\n" + T + b".0000001,3,4\r\n" + T + b".5,5,6")
    assert rows(workload) == [(0.0, 3, 4), (2e-7, 1, 2), (0.4999999, 5, 6)]
    assert workload.notes == ("1 of 3 requests were out of order; sorted by arrival",)


def test_azure_2024_times_have_an_offset_and_may_lack_decimals():
    workload = read_bytes(AZURE + T + b"+00:00,1,2\n" + T + b".250000+00:00,3,4\n")
    assert rows(workload) == [(0.0, 1, 2), (0.25, 3, 4)]


def test_azure_2024_times_load_as_published():
    content = AZURE + b"2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-12 00:00:00+00:00,2399,6\n"
    assert rows(read_bytes(content)) == [(0.0, 2162, 5), (pytest.approx(172799.99007, abs=1e-9), 2399, 6)]


def test_burstgpt_counts_from_the_earliest_and_leaves_failures_out():
    lines = b"5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,0,1087,API log\n118,GPT-4,417,276,693,API log\n"
    workload = read_bytes(BURSTGPT + lines)
    assert rows(workload) == [(0.0, 472, 18), (113.0, 417, 276)]
    assert workload.notes == ("1 of 3 requests failed (they have no tokens) and were left out",)
    assert workload.provenance["format"] == "burstgpt"
    assert (workload.session == -1).all()


def test_burstgpt_sessions_are_numbered():
    header = b"Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    names = (b"1722ac82-0a46", b"", b"05e1", b"1722ac82-0a46")
    lines = [b"19440110.0,%s,43,GPT-4,906,446,1352,Conversation log\n" % name for name in names]
    session = read_bytes(header + b"".join(lines)).session.tolist()
    assert session[0] == session[3] != session[2]
    assert session[1] == -1
    assert min(session[0], session[2]) == 0


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            b"5,ChatGPT,-1,18,17,x\n",
            "Request tokens is '-1' on line 2 of {}; give a whole number from 0 to 2147483647.",
        ),
        (
            b"5,ChatGPT,1,1.5,2,x\n",
            "Response tokens is '1.5' on line 2 of {}; give a whole number from 0 to 2147483647.",
        ),
        (b"soon,ChatGPT,1,1,2,x\n", f"Timestamp is 'soon' on line 2 of {{}}; {SECONDS}."),
        (
            b"5,ChatGPT,1\n",
            f"Request tokens is the last column on line 2 of {{}}, which has 3 cells under a header of 6; {LINE}.",
        ),
    ],
)
def test_bad_lines_of_burstgpt(tmp_path, line, sentence):
    path = tmp_path / "burst.csv"
    path.write_bytes(BURSTGPT + line)
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value) == sentence.format(path)


def test_bad_lines_of_lengths_only(tmp_path):
    path = tmp_path / "lengths.csv"
    path.write_bytes(b"num_prefill_tokens,num_decode_tokens,pd_ratio\n74,918,0.08\n290,,0.3\n")
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value) == f"num_decode_tokens is empty on line 3 of {path}; {CELLS}."


def test_layout_is_free_where_it_does_no_harm():
    header = b"\xef\xbb\xbfpd_ratio, num_decode_tokens,arrived_at,num_prefill_tokens\r\n"
    assert rows(read_bytes(header + b"0.5, 2,1.5 ,1e1\r\n,4,2.0,3.0\r\n\r\n")) == [(1.5, 10, 2), (2.0, 3, 4)]


@pytest.mark.parametrize("header", [VIDUR, AZURE])
def test_classes_and_sessions_are_read_where_there_are_columns(header):
    times = (b"1.5", b"0.5") if header is VIDUR else (T + b".5", T + b".1")
    lines = [time + b",10,20," + more for time, more in zip(times, (b"9007199254740991,127", b"-1, 0 "), strict=True)]
    workload = read_bytes(header.strip() + b", session,request_class\n" + b"\n".join(lines))
    assert workload.session.tolist() == [-1, 2**53 - 1]
    assert workload.request_class.tolist() == [0, 127]
    one = read_bytes(header.strip() + b",request_class\n" + times[0] + b",10,20,3\n")
    assert (one.request_class.tolist(), one.session.tolist()) == ([3], [-1])


def test_think_times_are_read_where_there_is_a_column():
    header = VIDUR.strip() + b",think_s,session\n"
    workload = read_bytes(header + b"2.0,1,1, 0.5 ,4\n1.0,2,2,,4\n1.0,3,3, ,-1\n2.0,4,4,1e1,4")
    assert workload.prompt_tokens.tolist() == [2, 3, 1, 4]
    np.testing.assert_array_equal(workload.think_s, [np.nan, np.nan, 0.5, 10])
    assert np.isnan(read_bytes(header + b"1.0,2,2,,4\n").think_s).all()


NOTHING_BEFORE = "leave it empty (nan) for the first request of a session and for those outside one"
THINK = "give a finite number of seconds of at least 0, or nothing"


@pytest.mark.parametrize(
    ("lines", "problem", "mend"),
    [
        (b"0,1,1,,0\n0,1,1,-1,0\n", "is '-1' on line 3 of {}", THINK),
        (b"0,1,1,,0\n0,1,1,nan,0\n", "is 'nan' on line 3 of {}", THINK),
        (b"0,1,1,,0\n0,1,1,inf,0\n", "is 'inf' on line 3 of {}", THINK),
        (b"0,1,1,,0\n0,1,1,soon,0\n", "is 'soon' on line 3 of {}", THINK),
        (
            b"1,1,1,,5\n0,1,1,1.5,5\n",
            "is 1.5 on line 3 of {}, which has no request of its session before it",
            NOTHING_BEFORE,
        ),
        (
            b"0,1,1,,-1\n0,1,1,2,-1\n",
            "is 2 on line 3 of {}, which has no request of its session before it",
            NOTHING_BEFORE,
        ),
    ],
)
def test_bad_think_times(tmp_path, lines, problem, mend):
    path = tmp_path / "trace.csv"
    path.write_bytes(VIDUR.strip() + b",think_s,session\n" + lines)
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value) == f"think_s {problem.format(path)}; {mend}."


def test_think_times_without_sessions_are_refused():
    with pytest.raises(
        TraceError, match=r"^think_s is 2 on line 2 of .*, which has no request of its session before it"
    ):
        read_bytes(VIDUR.strip() + b",think_s\n0,1,1,2\n")


def test_gzip_is_recognised_by_content_and_provenance_names_the_file(tmp_path):
    content = gzip.compress(VIDUR + b"0.5,1,2\n")
    (tmp_path / "trace.csv").write_bytes(content)
    workload = read(tmp_path / "trace.csv")
    assert rows(workload) == [(0.5, 1, 2)]
    digest = hashlib.sha256(content).hexdigest()
    assert workload.provenance == {"file": "trace.csv", "format": "vidur", "sha256": digest}


requests = st.lists(
    st.tuples(st.floats(0, 1e12), st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1)), min_size=1, max_size=20
)


@settings(max_examples=50, deadline=None)
@given(requests)
def test_vidur_round_trip(wanted):
    text = "".join(f"{arrival!r},{prompt},{output}\n" for arrival, prompt, output in wanted)
    assert rows(read_bytes(VIDUR + text.encode())) == sorted(wanted, key=lambda row: row[0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=20))
def test_azure_round_trip(microseconds):
    start = datetime(2023, 12, 31, 23, 59, 50, tzinfo=UTC)
    stamps = [start + timedelta(microseconds=value) for value in microseconds]
    text = "".join(f"{stamp:%Y-%m-%d %H:%M:%S.%f}0,1,1\n" for stamp in stamps)
    expected = [(value - min(microseconds)) * 1000 / 1e9 for value in sorted(microseconds)]
    assert read_bytes(AZURE + text.encode()).arrival_s.tolist() == expected


# The sentence without its file: the cell errors say "on line N of FILE".
@pytest.mark.parametrize(
    ("content", "field", "line", "problem", "mend"),
    [
        (AZURE + T + b",1,2\n" + T + b",x,2\n", "ContextTokens", 3, "is 'x'", CELLS),
        (AZURE + T + b",1,2\n\n" + T + b",1,2\n", "TIMESTAMP", 3, "is the last column", LINE),
        (AZURE + T + b",,2\n", "ContextTokens", 2, "is empty", CELLS),
        (AZURE + T + b",0,2\n", "ContextTokens", 2, "is '0'", CELLS),
        (AZURE + T + b",1,-2\n", "GeneratedTokens", 2, "is '-2'", CELLS),
        (AZURE + T + b",1,2.5\n", "GeneratedTokens", 2, "is '2.5'", CELLS),
        (AZURE + T + b",1,inf\n", "GeneratedTokens", 2, "is 'inf'", CELLS),
        (AZURE + T + b",1,nan\n", "GeneratedTokens", 2, "is 'nan'", CELLS),
        (AZURE + T + b",1,2147483648\n", "GeneratedTokens", 2, "is '2147483648'", CELLS),
        (AZURE + T + b',"1",2\n', "ContextTokens", 2, "is '\"1\"'", CELLS),
        (AZURE + b"0.5,1,2\n", "TIMESTAMP", 2, "is '0.5'", TIME),
        (AZURE + b"2023-13-16 18:15:46,1,2\n", "TIMESTAMP", 2, "is '2023-13-16 18:15:46'", TIME),
        (AZURE + b"2600-01-01 00:00:00,1,2\n", "TIMESTAMP", 2, "is '2600-01-01 00:00:00'", TIME),
        (AZURE + T + b"+02:00,1,2\n", "TIMESTAMP", 2, "is '2023-11-16 18:15:46+02:00'", TIME),
        (AZURE + T + b",1,2\n" + T + b",1", "ContextTokens", 3, "is the last column", LINE),
        (AZURE + T + b",1,2\n2023-11-1", "TIMESTAMP", 3, "is the last column", LINE),
        (AZURE + T + b",1,2,3\n", "GeneratedTokens", 2, "is the last column", LINE),
        (AZURE + T + b",1,2\n" + T + b",\xff\xfe\x00,2\n", "ContextTokens", 3, "is '\ufffd\ufffd\\x00'", CELLS),
        (VIDUR[:-1] + b",session\n0.0,1,2,7\n0.5,1,2,-2\n", "session", 3, "is '-2'", SESSIONS),
        (VIDUR[:-1] + b",session\n0.0,1,2,9007199254740993\n", "session", 2, "is '9007199254740993'", SESSIONS),
        (VIDUR[:-1] + b",session\n0.0,1,2,\n", "session", 2, "is empty", SESSIONS),
        (b"request_class," + VIDUR + b"128,0.0,1,2\n", "request_class", 2, "is '128'", CLASSES),
        (b"request_class," + VIDUR + b"0.5,0.0,1,2\n", "request_class", 2, "is '0.5'", CLASSES),
        (b"request_class," + VIDUR + b"-1,0.0,0,2\n", "num_prefill_tokens", 2, "is '0'", CELLS),
        (VIDUR + b"-0.5,1,2\n", "arrived_at", 2, "is '-0.5'", SECONDS),
        (VIDUR + b"inf,1,2\n", "arrived_at", 2, "is 'inf'", SECONDS),
        (VIDUR + b"nan,1,2\n", "arrived_at", 2, "is 'nan'", SECONDS),
        (VIDUR + b"2023-11-16 18:15:46,1,2\n", "arrived_at", 2, "is '2023-11-16 18:15:46'", SECONDS),
        (VIDUR + b"0.0,1,2\n" * 9999 + b"x,0,y\n", "arrived_at", 10001, "is 'x'", SECONDS),
    ],
)
def test_bad_lines(tmp_path, content, field, line, problem, mend):
    path = tmp_path / "trace.csv"
    path.write_bytes(content)
    with pytest.raises(TraceError) as caught:
        read(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{field} {problem} on line {line} of {path}")
    assert sentence.endswith(f"; {mend}.")
    assert (caught.value.field, caught.value.mend) == (field, mend)


def test_a_line_of_too_few_cells_says_so(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(VIDUR + b"1.0,2")
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value) == (
        f"num_prefill_tokens is the last column on line 2 of {path}, which has 2 cells under a header of 3; {LINE}."
    )


# A fixed time in the header, since contents name the tests: parallel processes must collect the same.
WHOLE = gzip.compress(VIDUR + b"".join(b"%d.5,%d,%d\n" % (i, i * 7919 % 997 + 1, i + 1) for i in range(20000)), mtime=0)


@pytest.mark.parametrize(
    ("content", "problem", "mend"),
    [
        (b"", "is empty", "fetch the file again"),
        (gzip.compress(b"", mtime=0), "is empty", "fetch the file again"),
        (AZURE, "has a header but no requests", "fetch the file again"),
        (VIDUR[:-1], "has a header but no requests", "fetch the file again"),
        (VIDUR + b"\r\n \n", "has a header but no requests", "fetch the file again"),
        (WHOLE[:6], "is a gzip file that is cut short after line 0", "fetch the file again"),
        (b"\x1f\x8bjunk and more junk", "is a damaged gzip file", "fetch the file again"),
        (WHOLE[:500] + b"\x00" * 99 + WHOLE[599:], "is a damaged gzip file", "fetch the file again"),
        (WHOLE[:-8] + b"\x00" * 8, "is a damaged gzip file", "fetch the file again"),
        (
            b"\x00\x01\xff\xfe",
            "starts with '\\x00\\x01\ufffd\ufffd' on line 1",
            "give a file with the header TIMESTAMP,",
        ),
        (b"0.0,1,2\n", "starts with '0.0,1,2' on line 1", "give a file with the header TIMESTAMP,"),
        (b"a\n" * 3, "starts with 'a' on line 1", "give a file with the header TIMESTAMP,ContextTokens,"),
        (
            b"arrived_at,num_prefill_tokens\n0,1\n",
            "starts with 'arrived_at,num_prefill_tokens' on line 1",
            "give a file",
        ),
        (b"ContextTokens,GeneratedTokens\n1,2\n", "has lengths but no arrivals", "add that column, or call the others"),
        (BURSTGPT + b"5,ChatGPT,472,0,472,API log\n", "holds failed requests only", "give another file"),
    ],
)
def test_bad_files(tmp_path, content, problem, mend):
    path = tmp_path / "trace.csv"
    path.write_bytes(content)
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value).startswith(f"path is {str(path)!r}, which {problem}")
    assert caught.value.mend.startswith(mend)
    assert (caught.value.field, caught.value.value) == ("path", str(path))


def test_gzip_cut_short_says_after_which_line(tmp_path):
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(WHOLE[: len(WHOLE) // 2])
    with pytest.raises(
        TraceError, match=r"is a gzip file that is cut short after line \d+; fetch the file again\.$"
    ) as caught:
        read(path)
    assert 5_000 < int(str(caught.value).split("after line ")[1].split(";")[0]) < 15_000


def test_paths_that_cannot_be_read(tmp_path):
    for path, reason in ((tmp_path / "none.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(TraceError) as caught:
            read(path)
        sentence = f"path is {str(path)!r}, which cannot be read ({reason}); give the path of a trace file."
        assert str(caught.value) == sentence


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([AZURE, VIDUR, b"session," + VIDUR, b""]),
    st.binary(max_size=60) | st.text("0123456789.,-\r\n eE\"'", max_size=60),
)
def test_any_content_loads_or_gives_one_sentence(header, content):
    content = content if isinstance(content, bytes) else content.encode()
    try:
        workload = read_bytes(header + content)
    except TraceError as error:
        sentence = str(error)
        assert sentence.endswith(".")
        assert "\n" not in sentence
    else:
        assert len(workload) == len(content.rstrip().split(b"\n"))
