from pathlib import Path

import pytest

from mmalign.testing.demo_run import write_demo_run


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_run(tmp_path_factory.mktemp("run") / "demo", num_pairs=10)
