"""Every program of the attack corpus fails, as root and as an ordinary user."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sandbox.corpus import HONEST, LIMITS, LINES, LOOP, load_attacks, run_corpus

from mmalign.sandbox import Sandbox
from mmalign.sandbox.runtime import readable_by_all
from mmalign.sandbox.written_tests import test_problem as problem_of

pytestmark = pytest.mark.sandbox

ATTACKS = {attack.name: attack for attack in load_attacks()}
RUN = [attack for attack in ATTACKS.values() if attack.kind != "test"]
NEVER_END = (
    "block_signals",
    "hang_on_import",
    "raise_own_limits",
    "reset_alarms",
    "slow_digits",
    "stop_everyone",
    "swallow_everything",
)
NAIVE_RUNNER = """
import os
if os.fork():
    print("code", os.wait()[1], flush=True)
    os._exit(0)
"""
NOBODY = 65534


@pytest.fixture(scope="module", params=["this user", "nobody"])
def corpus(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What became of the whole corpus."""
    if request.param == "this user":
        return run_corpus(RUN)
    if os.getuid() != 0:
        pytest.skip("only root can become another user; this one is ordinary already")
    return _as_nobody()


def _as_nobody() -> dict[str, Any]:
    """Run the corpus as a user who owns nothing, by an interpreter that he may read."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    places = [Path(sys.executable).resolve(), shutil.which(f"python{version}", path="/usr/bin")]
    interpreters = [place for place in places if place and readable_by_all(Path(place))]
    if not interpreters:
        pytest.skip(f"no Python {version} that every user may read")
    folders = [Path(__file__).parents[2], Path(json.__file__).parent, *map(Path, sys.path)]
    packages = [str(folder) for folder in folders if folder.name == "site-packages"]
    done = subprocess.run(
        [str(interpreters[0]), str(Path(__file__).with_name("corpus.py"))],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": "/tmp",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *packages]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd="/tmp",
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["user"] == NOBODY
    return found


@pytest.mark.parametrize("name", [attack.name for attack in RUN])
def test_attack_fails(corpus: dict[str, Any], name: str) -> None:
    attack = ATTACKS[name]
    if attack.needs and not corpus["level"].get(attack.needs):
        pytest.skip(f"this machine has no {attack.needs}")
    outcome = corpus["outcomes"][name]
    assert outcome["escapes"] == [], attack.seen
    if name in NEVER_END:
        assert outcome["statuses"] == ["timeout"]
        assert outcome["seconds"] < LIMITS.wall_s + 1


def test_the_host_is_unharmed(corpus: dict[str, Any]) -> None:
    assert corpus["harm"] == []


def test_no_process_remains(corpus: dict[str, Any]) -> None:
    assert corpus["remaining"] == []


def test_the_pool_works_before_and_after(corpus: dict[str, Any]) -> None:
    assert corpus["honest"] == ["pass"] * 4


@pytest.mark.parametrize("name", [name for name, one in ATTACKS.items() if one.kind == "test"])
def test_empty_tests_are_refused(name: str) -> None:
    assert problem_of(ATTACKS[name].source, "add") is not None


def test_every_class_is_attacked_in_several_ways() -> None:
    counts = Counter(attack.number for attack in ATTACKS.values())
    assert sorted(counts) == list(range(1, 14))
    assert min(counts.values()) >= 3
    assert len(RUN) >= 60


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("exit_on_import", LINES),
        ("exit_in_call", LINES),
        ("exit_by_exception_in_call", LINES),
        ("exit_ends_loop", LOOP),
        ("equal_object", LINES),
        ("equal_int", LINES),
        ("equal_any", LINES),
    ],
    ids=lambda value: value if len(value) < 40 else "",
)
def test_attacks_beat_a_runner_that_trusts_exit_codes(name: str, tests: str) -> None:
    """Where tests and code share a process, the same program passes: the attack is a real one."""
    naive = f"{NAIVE_RUNNER}{ATTACKS[name].source}\n{tests}"
    with Sandbox() as sandbox:
        assert sandbox.run(naive, limits=LIMITS).stdout.strip().endswith("code 0")


def test_the_same_program_has_the_same_status_twenty_times() -> None:
    programs = {
        HONEST: "pass",
        ATTACKS["hard_coded_inputs"].source: "fail",
        ATTACKS["exit_in_call"].source: "error",
    }
    with Sandbox() as sandbox:
        for program, status in programs.items():
            found = Counter(sandbox.check(program, LINES, "add").status for _ in range(20))
            assert found == {status: 20}
