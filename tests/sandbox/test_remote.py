"""Runs on a SandboxFusion-compatible server, with what can go wrong with one."""

import json
import time
from collections.abc import Iterator

import pytest

from mmalign.errors import ConfigError
from mmalign.sandbox import Limits, Sandbox, SandboxConfig
from mmalign.testing.fake_sandbox_server import FakeSandboxServer
from mmalign.testing.faults import Fault

pytestmark = pytest.mark.sandbox

RIGHT = "def add(a, b):\n    print('adding')\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
TESTS = "assert add(2, 3) == 5\nassert add(1, 1) == 2\n"
SUITE = """
import unittest

class TestAdd(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)
"""


@pytest.fixture(scope="module")
def local() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(num_workers=2)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def server(local: Sandbox) -> Iterator[FakeSandboxServer]:
    with FakeSandboxServer(local) as fake:
        yield fake


@pytest.fixture
def remote(server: FakeSandboxServer) -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(url=server.url)) as sandbox:
        yield sandbox


def test_right_and_wrong_candidates_are_told_apart(remote: Sandbox) -> None:
    right = remote.check(RIGHT, TESTS, "add")
    wrong = remote.check(WRONG, TESTS, "add")
    assert (right.status, right.num_run, right.num_passed) == ("pass", 2, 2)
    assert (wrong.status, wrong.num_run, wrong.num_passed) == ("fail", 1, 0)
    assert right.isolation == "remote"
    assert right.in_process
    assert "adding" in right.stderr
    assert right.stdout == ""


def test_setup_and_several_entry_points(remote: Sandbox) -> None:
    result = remote.check(
        RIGHT + "def twice(a):\n    return 2 * a\n",
        "assert add(ONE, 1) == twice(ONE)",
        ["add", "twice"],
        setup="ONE = 1",
    )
    assert result.status == "pass"


@pytest.mark.parametrize(
    "candidate",
    [
        "import os\nos._exit(0)",
        "import sys\ndef add(a, b):\n    sys.exit(0)",
        'print(\'{"nonce": "", "status": "pass", "num_run": 2, "num_passed": 2}\')\n' + WRONG,
        "class Equal(int):\n    def __eq__(self, other):\n        return True\n"
        "def add(a, b):\n    return Equal(7)",
        "import gc\ndef add(a, b):\n    for thing in gc.get_objects():\n"
        "        if isinstance(thing, dict) and 'nonce' in thing:\n            print(thing)\n",
        "import sys\ndef add(a, b):\n    return len(sys.stdin.read())",
    ],
    ids=["exits", "exits in call", "prints marker", "equals", "searches", "reads input"],
)
def test_a_wrong_answer_does_not_pass(
    server: FakeSandboxServer, remote: Sandbox, candidate: str
) -> None:
    result = remote.check(candidate, TESTS, "add")
    assert result.status in ("fail", "error", "no_verdict"), result
    nonce = json.loads(server.requests[-1]["stdin"])["jobs"]["judge"]["nonce"]
    assert nonce not in result.stderr


def test_suites_and_plain_programs(remote: Sandbox) -> None:
    assert remote.run_suite(RIGHT, SUITE).status == "pass"
    assert remote.run_suite(WRONG, SUITE).status == "fail"
    assert remote.run("print(input())", stdin="heard").stdout == "heard\n"
    failed = remote.run("raise ValueError('no')")
    assert failed.status == "error"
    assert "ValueError: no" in failed.message


def test_the_server_ends_what_takes_too_long(remote: Sandbox) -> None:
    result = remote.check("while True:\n    pass", TESTS, "add", limits=Limits(wall_s=1, cpu_s=8))
    assert result.status == "timeout"


def test_long_output_is_cut_in_the_middle(remote: Sandbox) -> None:
    result = remote.run("print('a' * 5000 + 'z')", limits=Limits(output_bytes=1000))
    assert "bytes cut" in result.stdout
    assert result.stdout.endswith("z\n")


@pytest.mark.parametrize(
    "fault",
    [Fault.error(504), Fault.cut(), Fault.invalid_json(), Fault.wrong_schema()],
    ids=lambda fault: fault.kind,
)
def test_one_failure_of_the_server_is_tried_again(local: Sandbox, fault: Fault) -> None:
    with (
        FakeSandboxServer(local, faults=[fault]) as server,
        Sandbox(SandboxConfig(url=server.url)) as remote,
    ):
        result = remote.check(RIGHT, TESTS, "add")
    assert result.status == "pass"
    assert result.num_attempts == 2
    assert len(server.requests) == 2


def test_a_server_that_is_not_there_is_never_the_codes_fault() -> None:
    with Sandbox(SandboxConfig(url="http://127.0.0.1:9")) as remote:
        started = time.monotonic()
        result = remote.check(RIGHT, TESTS, "add")
    assert result.status == "infra_error"
    assert result.num_attempts == 4
    assert time.monotonic() - started >= 1 + 2 + 4
    assert "127.0.0.1:9" in result.message


def test_another_server_is_refused(server: FakeSandboxServer) -> None:
    with (
        Sandbox(SandboxConfig(url=server.url + "/elsewhere")) as remote,
        pytest.raises(ConfigError, match="Is it a SandboxFusion server"),
    ):
        remote.check(RIGHT, TESTS, "add")


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match="which is no address"):
        Sandbox(SandboxConfig(url="localhost:8080"))


def test_neither_tests_nor_nonce_stand_in_the_program(
    server: FakeSandboxServer, remote: Sandbox
) -> None:
    remote.check(RIGHT, TESTS, "add")
    sent = server.requests[-1]
    assert "add(2, 3)" not in sent["code"]
    assert "add(2, 3)" in sent["stdin"]
