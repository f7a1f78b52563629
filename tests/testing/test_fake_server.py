"""The fake server does what its docstring says, over real sockets."""

import gc
import json
import socket
import threading
import time
import urllib.error
import urllib.request
import warnings
from typing import Any

import pytest

from mmalign.records import ToolCall
from mmalign.testing.fake_server import FakeOpenAIServer, FakeRequest, Reply
from mmalign.testing.faults import Fault


def post(server: FakeOpenAIServer, **body: Any) -> Any:
    messages = [{"role": "user", "content": "one two"}]
    request = urllib.request.Request(
        server.base_url + "/chat/completions",
        json.dumps({"model": "m", "messages": messages, **body}).encode(),
        {"Content-Type": "application/json", "Connection": "close"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        text = answer.read().decode()
    return text if body.get("stream") else json.loads(text)


def test_answers_come_from_a_text_a_script_or_a_function() -> None:
    def shout(request: FakeRequest) -> str:
        return request.text.upper()

    expected: list[tuple[Any, list[str]]] = [
        ("same", ["same", "same", "same"]),
        (["a", Reply("b")], ["a", "b", "b"]),
        (shout, ["ONE TWO"] * 3),
    ]
    for answers, texts in expected:
        with FakeOpenAIServer(answers) as server:
            said = [post(server)["choices"][0]["message"]["content"] for _ in range(3)]
        assert said == texts


def test_usage_counts_words() -> None:
    with FakeOpenAIServer("three more words") as server:
        usage = post(server, n=2)["usage"]
    assert usage == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}


def test_requests_are_recorded_with_their_times() -> None:
    with FakeOpenAIServer() as server:
        start_s = time.monotonic()
        post(server, temperature=0.5)
        post(server)
    assert [request.index for request in server.requests] == [0, 1]
    assert server.requests[0].body["temperature"] == 0.5
    assert start_s <= server.requests[0].received_s <= server.requests[1].received_s


def test_a_stream_ends_with_done_unless_it_is_cut() -> None:
    reply = Reply("a b", tool_calls=(ToolCall(name="f", arguments='{"x": 1}'),))
    with FakeOpenAIServer([reply], faults=[None, Fault.cut_stream()]) as server:
        whole, cut = post(server, stream=True), post(server, stream=True)
    assert whole.endswith("data: [DONE]\n\n")
    assert "[DONE]" not in cut
    assert 0 < cut.count("data: ") < whole.count("data: ")
    assert '"finish_reason": "tool_calls"' in whole


def test_faults_can_depend_on_the_request() -> None:
    def odd(request: FakeRequest) -> Fault | None:
        return Fault.error(503) if request.body.get("seed", 0) % 2 else None

    with FakeOpenAIServer(faults=odd) as server:
        post(server, seed=2)
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            post(server, seed=3)
        caught.value.close()


def test_a_script_that_fails_fails_its_test() -> None:
    def broken(_: FakeRequest) -> str:
        raise KeyError("script")

    with pytest.raises(KeyError, match="script"), FakeOpenAIServer(broken) as server:
        try:
            post(server)
        except urllib.error.HTTPError as error:
            error.close()


def test_stopping_frees_port_thread_and_slow_requests() -> None:
    threads = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with FakeOpenAIServer(faults=[Fault.slow(60)]) as server:
            client = socket.create_connection(
                ("127.0.0.1", int(server.base_url.split(":")[2][:-3]))
            )
            body = b'{"messages": []}'
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: "
                + str(len(body)).encode()
                + b"\r\n\r\n"
                + body
            )
            while not server.requests:
                time.sleep(0.005)
            start_s = time.monotonic()
        client.close()
        gc.collect()
    assert time.monotonic() - start_s < 5
    assert threading.active_count() == threads
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(server.base_url.split(":")[2][:-3])))
