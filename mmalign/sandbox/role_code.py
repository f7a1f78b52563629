"""The modules of a role, compiled once here and not in every sandbox."""

import marshal
from functools import lru_cache
from pathlib import Path

__all__ = ["role_code"]

IMPORTS = {"judge": ("wire",), "candidate": ("wire",)}
"""What a role imports of the others."""


@lru_cache
def role_code(role: str) -> dict[str, bytes]:
    """Compiled modules by name, each after what it imports, the role's own last."""
    folder = Path(__file__).with_name("roles")
    return {
        name: marshal.dumps(compile((folder / f"{name}.py").read_bytes(), f"<{name}>", "exec"))
        for name in (*IMPORTS.get(role, ()), role)
    }
