"""Whether two evaluations may stand in one table."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["comparison_problem"]

_MUST_AGREE = ("sampling", "num_samples", "prompt_templates", "benchmark", "sandbox", "rollouts")
"""Settings; frames and weights are what arms may differ in."""


def comparison_problem(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """Why two reports, as `eval/NAME.json` holds them, cannot be compared; None where they can.

    Metric, profile, sampling, prompt template and benchmark must be the same. What a report of an
    earlier version does not state is not held against it.
    """
    stated = [
        {
            **{key: report[key] for key in ("scorer", "profile") if key in report},
            **{
                key: value
                for key, value in (report.get("settings") or {}).items()
                if key in _MUST_AGREE
            },
        }
        for report in (first, second)
    ]
    different = [
        f"{key}: {_short(value)} against {_short(stated[1][key])}"
        for key, value in stated[0].items()
        if key in stated[1] and stated[1][key] != value
    ]
    if not different:
        return None
    names = [str(report.get("name", "unnamed")) for report in (first, second)]
    return (
        f"{names[0]} and {names[1]} were evaluated in different ways ({'; '.join(different)}), so "
        f"they are not compared; evaluate both in the same way"
    )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
