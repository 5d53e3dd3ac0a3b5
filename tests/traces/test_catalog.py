"""Fetching, from a server on this machine."""

import gzip
import hashlib
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from traces import TraceError, read
from traces.catalog import fetch, located
from traces.public_traces import CATALOG, PublicTrace

CONTENT = b"arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,3,4\n1.5,5,6\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one content, perhaps cut short, and counts how often."""

    content, length, status, asked = CONTENT, None, 200, 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server
        server.asked += 1
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(server.content) if server.length is None else server.length))
        self.end_headers()
        self.wfile.write(server.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def toy(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Adds a trace named toy with this hash to the catalogue."""
    pytest.importorskip("pooch", reason="pooch is not installed (the extra 'fetch')")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def add(sha256: str | None) -> Path:
        trace = PublicTrace("a toy", f"http://127.0.0.1:{server.server_port}/toy.csv", "none", sha256)
        monkeypatch.setitem(CATALOG, "toy", trace)
        return tmp_path / "cache" / "fastsim" / "traces" / "toy.csv"

    return add


def assert_nothing_is_left(path: Path) -> None:
    assert not path.parent.exists() or not list(path.parent.iterdir())


def test_a_trace_is_fetched_once_and_checked(server, toy):
    path = toy(SHA256)
    with pytest.raises(TraceError, match=r"which|not fetched yet; run fastsim traces fetch toy\.$"):
        located("toy")
    assert fetch("toy") == located("toy") == path
    assert read(path).prompt_tokens.tolist() == [3, 5]
    assert fetch("toy") == path
    assert server.asked == 1


def test_a_wrong_hash_is_refused_and_leaves_nothing(server, toy):
    path = toy("0" * 64)
    with pytest.raises(TraceError) as caught:
        fetch("toy")
    assert str(caught.value) == (
        f"trace is 'toy', for which http://127.0.0.1:{server.server_port}/toy.csv has bytes of another sha256 than "
        f"{'0' * 64}, the one published; try again; if it stays so, the file there has changed."
    )
    assert_nothing_is_left(path)


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_truncated_download_is_refused_and_leaves_nothing(server, toy, sha256):
    path = toy(sha256)
    server.content, server.length = CONTENT[:30], len(CONTENT)
    with pytest.raises(TraceError, match=r"^trace is 'toy', (which cannot be fetched from|for which) ") as caught:
        fetch("toy")
    assert "\n" not in str(caught.value)
    assert_nothing_is_left(path)
    server.content, server.length = CONTENT, None
    assert read(fetch("toy")).prompt_tokens.tolist() == [3, 5]


def test_a_file_that_was_spoilt_is_fetched_again(server, toy):
    path = toy(SHA256)
    fetch("toy")
    path.write_bytes(CONTENT[:-5])
    assert fetch("toy").read_bytes() == CONTENT
    assert server.asked == 2


def test_without_a_published_hash_the_first_one_is_recorded(server, toy):
    path = toy(None)
    fetch("toy")
    assert path.with_name("toy.csv.sha256").read_text().strip() == SHA256
    path.unlink()
    server.content = CONTENT + b"2.0,7,8\n"
    with pytest.raises(TraceError, match="the one recorded when it was first fetched"):
        fetch("toy")


def test_servers_that_refuse_or_are_not_there(server, toy, monkeypatch):
    path = toy(SHA256)
    server.status = 404
    with pytest.raises(TraceError, match=r"^trace is 'toy', which cannot be fetched from http://127\.0\.0\.1.*404"):
        fetch("toy")
    monkeypatch.setitem(CATALOG, "toy", replace(CATALOG["toy"], url="http://127.0.0.1:1/toy.csv"))
    with pytest.raises(TraceError, match=r"; try again, or fetch it by other means and give the path of the file\.$"):
        fetch("toy")
    assert_nothing_is_left(path)


def test_without_pooch_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(TraceError) as caught:
        fetch("azure-2023-conv", tmp_path)
    assert str(caught.value) == (
        "trace needs the package pooch to be fetched; run python -m pip install 'fastsim-llm[fetch]'."
    )


def test_names():
    with pytest.raises(TraceError, match=r"^trace is 'azure'; choose one of azure-2023-conv, azure-2023-code,"):
        fetch("azure")
    assert located("azure") == Path("azure")


@pytest.mark.parametrize("name", CATALOG)
def test_entries_are_whole(name):
    trace = CATALOG[name]
    assert re.fullmatch(r"https://[\w./-]+", trace.url)
    assert trace.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", trace.sha256)
    assert trace.what
    assert trace.license
    assert [other.file_name for other in CATALOG.values()].count(trace.file_name) == 1


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("azure-2023-conv", "azure/AzureLLMInferenceTrace_conv.csv.gz"),
        ("azure-2023-code", "azure/AzureLLMInferenceTrace_code.csv.gz"),
        ("mooncake-conversation", "mooncake/conversation_trace.jsonl.gz"),
        ("mooncake-synthetic", "mooncake/synthetic_trace.jsonl.gz"),
        ("vidur-arxiv", "vidur/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv.gz"),
        ("vidur-splitwise-conv", "vidur/splitwise_conv.csv.gz"),
        ("vidur-splitwise-code", "vidur/splitwise_code.csv.gz"),
        ("sarathi-sharegpt", "sarathi/sharegpt_8k_filtered_stats_llama2_tokenizer.csv.gz"),
    ],
)
def test_hashes_are_those_of_the_files_at_hand(public_traces, name, file):
    content = gzip.decompress((public_traces / file).read_bytes())
    assert hashlib.sha256(content).hexdigest() == CATALOG[name].sha256
