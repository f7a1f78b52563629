"""Looks at a whole recipe before any work: what it names exists and takes these settings."""

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING

import yaml

from mmalign.errors import ConfigError

if TYPE_CHECKING:
    from mmalign.pipeline import RunConfig

__all__ = ["check_recipe", "recipe_text"]


def check_recipe(recipe: "RunConfig") -> None:
    """Import every plug-in and check its settings; nothing is read, asked or loaded.

    Raises:
        ConfigError: A setting of a plug-in, the objective or the metric does not fit.
        PluginError: A plug-in does not exist or is no agent.
    """
    from mmalign.evaluation import METRICS, require_draws, require_judge
    from mmalign.objectives import parse_objective
    from mmalign.pipeline import call_reader
    from mmalign.pipeline.agents import agent_settings, load_agent
    from mmalign.pipeline.config import supervised

    if recipe.agent is not None:
        agent_settings(load_agent(recipe.agent), recipe.agent)
    for plugin in recipe.datasets:
        call_reader(plugin, "dataset")  # a generator: it reads when it is iterated over
    if supervised(recipe.objective) is None:
        parse_objective(recipe.objective)
    if recipe.evaluation is not None:
        section = recipe.evaluation
        for key, metric in (("metric", section.metric), ("beside", section.beside)):
            if metric is not None and metric not in METRICS:
                raise ConfigError(
                    f"evaluation.{key}: no metric is called {metric!r}; {_near(metric)}"
                )
        require_judge(section.metric, has_judge=section.judge is not None, beside=section.beside)
        require_draws(
            section.metric,
            num_samples=section.num_samples,
            k=section.k,
            temperature=section.sampling.temperature,
        )
        call_reader(recipe.evaluation.dataset, "evaluation.dataset")


def recipe_text(recipe: "RunConfig", *, as_json: bool) -> str:
    """The recipe with all its defaults, as the run folder would hold it."""
    values = recipe.model_dump(mode="json")
    if as_json:
        return json.dumps(values, indent=2) + "\n"
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _near(metric: str) -> str:
    from mmalign.evaluation import METRICS

    near = get_close_matches(metric, METRICS, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known ones: {', '.join(METRICS)}"
