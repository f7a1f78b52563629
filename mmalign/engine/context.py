"""The only window through which an agent's nodes see the world."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from mmalign.config import Config
from mmalign.errors import ConfigError
from mmalign.models.protocol import ChatModel
from mmalign.records import DroppedSample, PreferencePair, Sample
from mmalign.sandbox import Sandbox

__all__ = ["Context", "draw_seed"]


@dataclass(frozen=True)
class Context:
    """Models, settings and randomness of one sample's pass through a graph.

    An agent with settings derives from it and narrows `config`:

        @dataclass(frozen=True)
        class RRPOContext(Context):
            config: RRPOConfig = field(default_factory=RRPOConfig)
    """

    interrupts: ClassVar[bool] = False
    """Set to True by an agent that asks people with LangGraph's `interrupt`; its samples then wait
    in the run folder until they are answered."""
    policy: ChatModel
    """The model that is to be aligned."""
    models: Mapping[str, ChatModel] = field(default_factory=dict)
    """Others, by the role that the recipe gives them: judge, rewriter ..."""
    config: Config = field(default_factory=Config)
    sample_id: str = ""
    seed: int = 0
    epoch: int = 0
    progress: float = 1.0
    """Share of the training that is done, where a trainer builds its pairs as it goes."""
    neighbours: Sequence[Sample] = ()
    """Other samples of the trainer's step; none where data is built beforehand."""
    code_sandbox: Sandbox | None = None
    """What `sandbox` gives; whoever makes the context closes it."""

    @classmethod
    def warnings(cls, records: Sequence[PreferencePair | DroppedSample]) -> Sequence[str]:
        """What a person should know about records that the agent has written; nothing by default.

        Asked by a trainer every hundred steps about what was written since, and at the end of a
        build about all of it.
        """
        return ()

    def model(self, role: str) -> ChatModel:
        """The model of a role.

        Raises:
            ConfigError: The recipe gives no model this role.
        """
        try:
            return self.models[role]
        except KeyError:
            known = ", ".join(sorted(self.models)) or "none"
            raise ConfigError(
                f"the agent asks for a model in the role {role!r}, the recipe has: {known}. "
                f"Add models.{role} to the recipe"
            ) from None

    @property
    def sandbox(self) -> Sandbox:
        """Where code that a model wrote may run; it starts nothing before its first run.

        Raises:
            ConfigError: Whoever runs the agent gives it none.
        """
        if self.code_sandbox is None:
            raise ConfigError(
                "the agent runs code, but its context has no sandbox. `mmalign build` opens the "
                "one of the recipe's section `sandbox`; code of your own gives "
                "code_sandbox=Sandbox()"
            )
        return self.code_sandbox

    def draw_seed(self, draw: str) -> int:
        """A seed of 63 bits that depends on run seed, sample, epoch and the draw's name only."""
        return draw_seed(self.seed, self.sample_id, self.epoch, draw)

    def rng(self, draw: str) -> random.Random:
        """A random source of its own for one named draw; the same name gives the same draws."""
        return random.Random(self.draw_seed(draw))  # noqa: S311  # not for secrets


def draw_seed(seed: int, record_id: str, epoch: int, draw: str) -> int:
    """63 bits that are a pure function of (seed, record id, epoch, draw)."""
    text = f"{seed}\x1f{record_id}\x1f{epoch}\x1f{draw}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
