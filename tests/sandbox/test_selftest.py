"""The sandbox attacks itself, and is refused where an attack gets through."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mmalign.errors import SandboxError
from mmalign.sandbox import Limits, RunResult, Sandbox, SandboxConfig
from mmalign.sandbox.selftest import require_self_test, self_test

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


@pytest.fixture(scope="module")
def bare() -> Iterator[Sandbox]:
    """Limits and two processes, but no namespaces."""
    with Sandbox(SandboxConfig(isolation="process", trusted=True)) as opened:
        yield opened


def test_every_attack_comes_to_nothing(sandbox: Sandbox) -> None:
    results = sandbox.self_test()
    assert [result for result in results if not result.holds] == []
    assert {result.number for result in results} == {None, *range(1, 14)}


def test_without_namespaces_the_attacks_on_them_get_through(bare: Sandbox) -> None:
    """The probes see what they are made for; asked for what it can hold, this level holds it."""
    found = {result.name: result for result in self_test(bare, "namespaces")}
    for name in ("reading the host's files", "connecting out"):
        assert not found[name].holds
    assert "secret of the host" in found["reading the host's files"].found
    assert "reached a server" in found["connecting out"].found
    assert all(result.holds for result in bare.self_test())


def test_what_does_not_hold_is_refused(bare: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r"does not hold: .*connecting out"):
        require_self_test(bare, "namespaces", "nothing at all")


class Lenient:
    """A runner that believes whoever says that he passed."""

    def run(self, program: str, *, limits: Limits | None = None) -> RunResult:
        return RunResult(status="pass", stdout="ESCAPED: everything")

    def check(
        self, candidate: str, tests: str, entry_point: str, *, limits: Limits | None = None
    ) -> RunResult:
        return RunResult(status="pass")


def test_each_kind_of_hole_is_named() -> None:
    failed = [result for result in self_test(Lenient(), "gvisor") if not result.holds]
    assert len(failed) >= 15
    with pytest.raises(SandboxError, match="ending early: pass instead of fail or error"):
        require_self_test(Lenient(), "gvisor", "a lenient runner")


def test_an_isolation_is_attacked_once(sandbox: Sandbox) -> None:
    """A second call asks nothing of the runner, whoever that is."""
    program = sandbox.describe()["program"]
    sandbox.check("def f(): return 1", "assert f() == 1", "f")
    require_self_test(Lenient(), "namespaces", program)


def test_nothing_of_the_host_stays_laid_out(sandbox: Sandbox, tmp_path: Path) -> None:
    import tempfile

    before = set(Path(tempfile.gettempdir()).glob("mmalign-probe-*"))
    sandbox.self_test()
    assert set(Path(tempfile.gettempdir()).glob("mmalign-probe-*")) <= before
