"""An absent package skips on a user's machine and fails in CI."""

import pytest
from _pytest.outcomes import Failed, Skipped

from mmalign.testing.packages import package_folder, require_package


def test_absent_skips_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(Skipped, match="no-such-package"):
        require_package("no-such-package")


def test_absent_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(Failed, match="no-such-package"):
        require_package("no-such-package")


def test_present_gives_its_folder() -> None:
    assert (package_folder("pydantic") / "main.py").is_file()
