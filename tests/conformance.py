"""Feeds golden cases to the project's own functions and compares every number.

python tests/conformance.py            checks tests/golden/
python tests/conformance.py FILE.json  prints the outputs for a list of {"method", "case"}
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives import (
    PairTerms,
    PreferenceLoss,
    dpo_loss,
    forward_kl,
    masked_sum,
    parse_objective,
    phrase_sums,
)
from mmalign.records.spans import differing_phrases
from mmalign.testing.golden import golden_cases, t64

GOLDEN = Path(__file__).parent / "golden"
DPO_FAMILY = ("dpo", "cdpo", "ipo", "ipo_norm", "hinge", "slic", "simpo", "orpo")


def evaluate(slug: str, case: Mapping[str, Any]) -> dict[str, Any]:
    """Every output that the method's golden file expects; empty for an unknown method."""
    return METHODS[slug](case) if slug in METHODS else {}


def evaluate_dpo(case: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, dict[str, float]] = {
        "dpo": {"beta": case["beta"]},
        "cdpo": {"beta": case["beta"], "label_smoothing": case["label_smoothing"]},
        "ipo": {"beta": case["tau"]},
        "ipo_norm": {"beta": case["tau"]},
        "hinge": {"beta": case["beta"]},
        "slic": {"delta": case["slic_delta"], "sft_weight": case["slic_lambda"]},
        "simpo": {
            "beta": case["simpo_beta"],
            "gamma_beta_ratio": case["simpo_gamma_beta_ratio"],
        },
        "orpo": {"odds_weight": case["orpo_lambda"]},
    }
    chosen_mask, rejected_mask = t64(case["chosen_mask"]), t64(case["rejected_mask"])
    results: dict[str, PreferenceLoss] = {}
    chosen_grads: dict[str, Tensor] = {}
    rejected_grads: dict[str, Tensor] = {}
    for name in DPO_FAMILY:
        policy_chosen = t64(case["policy_chosen_token_logps"], requires_grad=True)
        policy_rejected = t64(case["policy_rejected_token_logps"], requires_grad=True)
        terms = PairTerms(
            policy_chosen_token_logps=policy_chosen,
            policy_rejected_token_logps=policy_rejected,
            chosen_mask=chosen_mask,
            rejected_mask=rejected_mask,
            ref_chosen_token_logps=t64(case["ref_chosen_token_logps"]),
            ref_rejected_token_logps=t64(case["ref_rejected_token_logps"]),
            chosen_tokens_per_pair=chosen_mask.sum() / len(chosen_mask),
        )
        results[name] = parse_objective({"name": name, **settings[name]}).loss(terms)
        chosen_grads[name], rejected_grads[name] = torch.autograd.grad(
            results[name].loss.mean(), (policy_chosen, policy_rejected)
        )
    dpo, simpo, orpo = results["dpo"], results["simpo"], results["orpo"]
    gap = {
        side: masked_sum(
            t64(case[f"policy_{side}_token_logps"]) - t64(case[f"ref_{side}_token_logps"]), mask
        )
        for side, mask in (("chosen", chosen_mask), ("rejected", rejected_mask))
    }
    return _plain(
        {
            "per_example": {name: result.loss for name, result in results.items()},
            "loss": {name: result.loss.mean() for name, result in results.items()},
            "grad_policy_chosen_token_logps": chosen_grads,
            "grad_policy_rejected_token_logps": rejected_grads,
            "margin_h": gap["chosen"] - gap["rejected"],
            "chosen_rewards": dpo.chosen_rewards,
            "rejected_rewards": dpo.rejected_rewards,
            "reward_accuracy": (dpo.chosen_rewards > dpo.rejected_rewards).double().mean(),
            "simpo_chosen_rewards": simpo.chosen_rewards,
            "simpo_rejected_rewards": simpo.rejected_rewards,
            "orpo_log_odds": orpo.chosen_rewards - orpo.rejected_rewards,
            "orpo_nll": orpo.metrics["nll"][0],
        }
    )


def evaluate_rrpo(case: Mapping[str, Any]) -> dict[str, Any]:
    beta, alpha = case["beta"], case["alpha"]
    sides = ("chosen", "rejected")
    logits = {s: t64(case[f"policy_{s}_logits"], requires_grad=True) for s in sides}
    ref_logprobs = {s: t64(case[f"ref_{s}_logprobs"]) for s in sides}
    taken = {s: torch.tensor(case[f"{s}_ids"]).unsqueeze(-1) for s in sides}
    masks = {s: torch.tensor(case[f"{s}_mask"]) for s in sides}
    phrases = {s: torch.tensor(case[f"{s}_phrase_ids"]) for s in sides}
    policy = {s: logits[s].log_softmax(-1).gather(-1, taken[s]).squeeze(-1) for s in sides}
    ref = {s: ref_logprobs[s].gather(-1, taken[s]).squeeze(-1) for s in sides}

    def loss(phrase_ids: Mapping[str, Tensor], *, alpha: float) -> PreferenceLoss:
        terms = PairTerms(
            policy_chosen_token_logps=policy["chosen"],
            policy_rejected_token_logps=policy["rejected"],
            chosen_mask=masks["chosen"],
            rejected_mask=masks["rejected"],
            ref_chosen_token_logps=ref["chosen"],
            ref_rejected_token_logps=ref["rejected"],
            chosen_phrase_ids=phrase_ids["chosen"],
            rejected_phrase_ids=phrase_ids["rejected"],
            chosen_token_kl=forward_kl(logits["chosen"], ref_logprobs["chosen"]),
        )
        return parse_objective({"name": "rrpo", "beta": beta, "alpha": alpha}).loss(terms)

    whole = loss(phrases, alpha=alpha)
    rank_only = loss(phrases, alpha=0.0)
    full_span = loss(masks, alpha=alpha)
    dpo = dpo_loss(
        *(masked_sum(policy[s], masks[s]) for s in sides),
        *(masked_sum(ref[s], masks[s]) for s in sides),
        beta=beta,
    )
    num_phrases = int(max(phrases[s].max() for s in sides))
    phrase_rewards = {
        s: beta * phrase_sums(policy[s] - ref[s], phrases[s] * masks[s], num_phrases=num_phrases)
        for s in sides
    }
    logit_grads = torch.autograd.grad(
        whole.loss.mean(), [logits[s] for s in sides], retain_graph=True
    )
    token_grads = torch.autograd.grad(rank_only.loss.mean(), [policy[s] for s in sides])
    return _plain(
        {
            "phrase_rewards_chosen": phrase_rewards["chosen"],
            "phrase_rewards_rejected": phrase_rewards["rejected"],
            "chosen_rewards": whole.chosen_rewards,
            "rejected_rewards": whole.rejected_rewards,
            "reward_accuracies": (whole.chosen_rewards > whole.rejected_rewards).double(),
            "margin_u": whole.chosen_rewards - whole.rejected_rewards,
            "tkl": whole.metrics["kl"],
            "rank_loss": whole.metrics["rank_loss"],
            "loss_per_sample": whole.loss,
            "loss": whole.loss.mean(),
            "ablation_loss_full_span": full_span.loss.mean(),
            "ablation_loss_no_tkl": rank_only.loss.mean(),
            "dpo_loss_full_span_no_tkl": dpo.loss.mean(),
            "grad_policy_chosen_logits": logit_grads[0],
            "grad_policy_rejected_logits": logit_grads[1],
            "grad_policy_chosen_token_logps_rank_only": token_grads[0],
            "grad_policy_rejected_token_logps_rank_only": token_grads[1],
            **_diff(case, "diff", include_indels=False),
            **_diff(case, "diff_with_indels", include_indels=True),
        }
    )


METHODS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "dpo": evaluate_dpo,
    "rrpo": evaluate_rrpo,
}
"""The methods that are done."""


def disagreements(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where two nested values differ: numbers by 1e-9 and 1e-12, all else exactly."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or expected.keys() != found.keys():
            names = sorted(found) if isinstance(found, dict) else found
            return [f"{path}: expected the keys {sorted(expected)}, found {names}"]
        parts = [(expected[key], found[key], f"{path}.{key}") for key in expected]
    elif isinstance(expected, list):
        if not isinstance(found, list) or len(expected) != len(found):
            return [f"{path}: expected a list of {len(expected)}, found {found}"]
        parts = [
            (e, f, f"{path}[{i}]") for i, (e, f) in enumerate(zip(expected, found, strict=True))
        ]
    elif isinstance(expected, float) and isinstance(found, int | float):
        close = math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-12)
        return [] if close else [f"{path}: expected {expected!r}, found {found!r}"]
    else:
        same = type(expected) is type(found) and expected == found
        return [] if same else [f"{path}: expected {expected!r}, found {found!r}"]
    return [line for part in parts for line in disagreements(*part)]


def check(folder: Path) -> tuple[list[str], list[str]]:
    """The methods that agree in all keys, and what is wrong with those that do not."""
    agreeing, problems = [], []
    for path in sorted(folder.glob("*.json")):
        lines = [
            line
            for number, (case, expected) in enumerate(golden_cases(path))
            for line in disagreements(expected, evaluate(path.stem, case), f"{path.stem}[{number}]")
        ]
        if not lines:
            agreeing.append(path.stem)
        elif path.stem in METHODS:
            problems += lines
    missing = sorted(set(METHODS) - {path.stem for path in folder.glob("*.json")})
    return agreeing, problems + [f"{slug}: done, but has no golden file" for slug in missing]


def main(arguments: list[str]) -> int:
    if arguments:
        asked = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        print(json.dumps([evaluate(item["method"], item["case"]) for item in asked]))
        return 0
    agreeing, problems = check(GOLDEN)
    total = len(list(GOLDEN.glob("*.json")))
    print(f"{len(agreeing)} of {total} methods agree in all keys: {', '.join(agreeing)}")
    for line in problems:
        print(line, file=sys.stderr)
    return 1 if problems else 0


def _diff(case: Mapping[str, Any], prefix: str, *, include_indels: bool) -> dict[str, Any]:
    found = [
        differing_phrases(chosen, rejected, include_indels=include_indels)
        for chosen, rejected in zip(case["chosen_text_ids"], case["rejected_text_ids"], strict=True)
    ]
    return {
        f"{prefix}_chosen_phrase_ids": [ids.chosen for ids in found],
        f"{prefix}_rejected_phrase_ids": [ids.rejected for ids in found],
        f"{prefix}_num_phrases": [ids.num_phrases for ids in found],
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.detach().tolist()
        if isinstance(value, Tensor)
        else _plain(value)
        if isinstance(value, dict)
        else value
        for key, value in values.items()
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
