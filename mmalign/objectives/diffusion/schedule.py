"""The noise schedule of latent diffusion models, and the algebra of noising at its levels.

`alpha_bars` is everywhere the cumulative product of 1 - beta at the level of each row, [B]: a
caller takes it from the schedule as `schedule[timesteps]`. The schedule stays in float64, even
where latents are in half precision: at the first levels 1 - alpha_bar has few digits left.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import at_least_float32, require_same_shape

__all__ = [
    "Denoiser",
    "NoiseScales",
    "PredictionType",
    "add_noise",
    "clean_estimate",
    "ddim_move",
    "denoising_target",
    "flow_add_noise",
    "flow_target",
    "implied_noise",
    "noise_further",
    "noise_scales",
    "predicted_noise",
    "scaled_linear_schedule",
]

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(latents [B, ...], timesteps [B], integers) to the predicted noise [B, ...].

The condition is bound by the caller. A network of another prediction type is wrapped with
`predicted_noise`. It should be in eval mode.
"""

PredictionType = Literal["epsilon", "v_prediction"]
"""What a network predicts: the noise, or the velocity alpha * noise - sigma * clean."""


class NoiseScales(NamedTuple):
    """How much of signal and noise a noised latent holds: noisy = alpha * clean + sigma * noise."""

    alpha: Tensor
    """sqrt(alpha_bar), [B, 1, ...]."""
    sigma: Tensor
    """sqrt(1 - alpha_bar), [B, 1, ...]."""


def scaled_linear_schedule(
    *, num_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> Tensor:
    """Cumulative products of 1 - beta of Stable Diffusion's schedule, linear in sqrt(beta).

        beta      = linspace(sqrt(beta_start), sqrt(beta_end), num_timesteps)^2
        alpha_bar = cumprod(1 - beta)

    Args:
        num_timesteps: T, >= 1.
        beta_start: Variance added at the first timestep, in (0, 1).
        beta_end: Variance added at the last timestep, in (0, 1).

    Returns:
        [T], float64, in (0, 1), falling.

    Raises:
        ShapeError: No timestep, or a beta outside (0, 1).

    Source: latent diffusion (Rombach et al., 2022), the code's `scaled_linear`.
    """
    if num_timesteps < 1:
        raise ShapeError(f"num_timesteps is {num_timesteps}, expected at least 1")
    for name, beta in (("beta_start", beta_start), ("beta_end", beta_end)):
        if not 0 < beta < 1:
            raise ShapeError(f"{name} is {beta}, expected a number between 0 and 1")
    roots = torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float64)
    return torch.cumprod(1 - roots.square(), dim=0)


def noise_scales(alpha_bars: Tensor, latents: Tensor) -> NoiseScales:
    """alpha and sigma of each row, ready to be multiplied with its latent.

    Args:
        alpha_bars: [B], in [0, 1]; carries no gradient.
        latents: [B, ...], gives the number of axes, the device and the precision.

    Returns:
        Two tensors [B, 1, ...], at least float32, roots taken before the precision is lowered.

    Raises:
        ShapeError: `alpha_bars` does not hold one number for each latent.
    """
    if alpha_bars.shape != latents.shape[:1]:
        raise ShapeError(
            f"expected one alpha_bar for each latent, found alpha_bars {list(alpha_bars.shape)}, "
            f"latents {list(latents.shape)}"
        )
    bars = alpha_bars.detach().reshape(-1, *[1] * (latents.ndim - 1))
    dtype, device = torch.promote_types(latents.dtype, torch.float32), latents.device
    return NoiseScales(
        alpha=bars.sqrt().to(device, dtype), sigma=(1 - bars).sqrt().to(device, dtype)
    )


def add_noise(clean: Tensor, noise: Tensor, alpha_bars: Tensor) -> Tensor:
    """The noised latent alpha * clean + sigma * noise.

    Args:
        clean: [B, ...], latents times the autoencoder's scaling factor.
        noise: [B, ...], standard normal; both sides of a pair get the same.
        alpha_bars: [B], the same for both sides of a pair.

    Raises:
        ShapeError: Latents and noise differ in shape, or `alpha_bars` is not [B].
    """
    require_same_shape(clean=clean, noise=noise)
    alpha, sigma = noise_scales(alpha_bars, clean)
    return alpha * clean + sigma * noise


def denoising_target(
    clean: Tensor, noise: Tensor, alpha_bars: Tensor, *, prediction_type: PredictionType
) -> Tensor:
    """What the network should have predicted for the noised latent.

        epsilon:      noise
        v_prediction: alpha * noise - sigma * clean

    Args:
        clean: [B, ...].
        noise: [B, ...].
        alpha_bars: [B].
        prediction_type: As the checkpoint's scheduler declares it; scoring a velocity network
            against the noise trains nonsense.

    Raises:
        ShapeError: Latents and noise differ in shape, `alpha_bars` is not [B], or the prediction
            type is unknown.
    """
    require_same_shape(clean=clean, noise=noise)
    _require_prediction_type(prediction_type)
    alpha, sigma = noise_scales(alpha_bars, clean)
    return noise if prediction_type == "epsilon" else alpha * noise - sigma * clean


def predicted_noise(
    noisy: Tensor, prediction: Tensor, alpha_bars: Tensor, *, prediction_type: PredictionType
) -> Tensor:
    """The noise that a network's prediction stands for.

        epsilon:      prediction
        v_prediction: alpha * prediction + sigma * noisy

    Args:
        noisy: [B, ...], what the network saw.
        prediction: [B, ...], what it answered; may carry gradient.
        alpha_bars: [B].
        prediction_type: What the network predicts.

    Raises:
        ShapeError: The tensors differ in shape, `alpha_bars` is not [B], or the prediction type
            is unknown.
    """
    require_same_shape(noisy=noisy, prediction=prediction)
    _require_prediction_type(prediction_type)
    alpha, sigma = noise_scales(alpha_bars, noisy)
    return prediction if prediction_type == "epsilon" else alpha * prediction + sigma * noisy


def clean_estimate(noisy: Tensor, noise: Tensor, alpha_bars: Tensor) -> Tensor:
    """The clean latent under the belief that this noise was added: (noisy - sigma * noise) / alpha.

    Args:
        noisy: [B, ...].
        noise: [B, ...], a network's answer at `noisy`; may carry gradient.
        alpha_bars: [B], > 0.

    Raises:
        ShapeError: The tensors differ in shape, or `alpha_bars` is not [B].
    """
    require_same_shape(noisy=noisy, noise=noise)
    alpha, sigma = noise_scales(alpha_bars, noisy)
    return (noisy - sigma * noise) / alpha


def implied_noise(noisy: Tensor, clean: Tensor, alpha_bars: Tensor) -> Tensor:
    """The noise that leads from the clean to the noised latent: (noisy - alpha * clean) / sigma.

    Args:
        noisy: [B, ...].
        clean: [B, ...].
        alpha_bars: [B], < 1; where it is near 1, rounding is magnified.

    Raises:
        ShapeError: The tensors differ in shape, or `alpha_bars` is not [B].
    """
    require_same_shape(noisy=noisy, clean=clean)
    alpha, sigma = noise_scales(alpha_bars, noisy)
    return (noisy - alpha * clean) / sigma


def ddim_move(
    latents: Tensor, noise: Tensor, from_alpha_bars: Tensor, to_alpha_bars: Tensor
) -> Tensor:
    """One deterministic step of DDIM between two levels, up or down.

        clean   = (latents - sigma_from * noise) / alpha_from
        latents = alpha_to * clean + sigma_to * noise

    Args:
        latents: [B, ...], at the level of `from_alpha_bars`.
        noise: [B, ...], the network's answer for this move.
        from_alpha_bars: [B], > 0.
        to_alpha_bars: [B].

    Raises:
        ShapeError: The tensors differ in shape, or a level is not [B].

    Source: DDIM (Song et al., 2021), without added noise.
    """
    return add_noise(clean_estimate(latents, noise, from_alpha_bars), noise, to_alpha_bars)


def noise_further(
    latents: Tensor, noise: Tensor, from_alpha_bars: Tensor, to_alpha_bars: Tensor
) -> Tensor:
    """Noise a latent on, from its own level to a later one.

        ratio = alpha_to / alpha_from
        noisy = ratio * latents + sqrt(sigma_to^2 - ratio^2 * sigma_from^2) * noise

    The state itself is noised, never its clean estimate: that is an average, and noising it
    does not give the model's distribution. Waits for the device.

    Args:
        latents: [B, ...], at the level of `from_alpha_bars`.
        noise: [B, ...], standard normal.
        from_alpha_bars: [B], > 0.
        to_alpha_bars: [B], below `from_alpha_bars`.

    Raises:
        ShapeError: The tensors differ in shape, or a row's new level is not later than its own.
    """
    require_same_shape(latents=latents, noise=noise)
    require_same_shape(from_alpha_bars=from_alpha_bars, to_alpha_bars=to_alpha_bars)
    backwards = (to_alpha_bars >= from_alpha_bars).nonzero()
    if len(backwards):
        row = int(backwards[0])
        raise ShapeError(
            f"to_alpha_bars[{row}] is {to_alpha_bars[row].item()}, expected less than "
            f"from_alpha_bars[{row}], {from_alpha_bars[row].item()}: noise is added, not taken"
        )
    # sigma_to^2 - ratio^2 * sigma_from^2 is 1 - alpha_bar_to / alpha_bar_from
    ratio, sigma = noise_scales(to_alpha_bars / from_alpha_bars, latents)
    return ratio * latents + sigma * noise


def flow_add_noise(clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """The noised latent of a rectified flow, (1 - s) * clean + s * noise; a reconstruction.

    Args:
        clean: [B, ...].
        noise: [B, ...], standard normal.
        times: s, [B], from 0 (clean) to 1 (noise).

    Raises:
        ShapeError: Latents and noise differ in shape, or `times` is not [B].

    Source: rectified flow (Liu et al., 2022); its use under a preference loss is a
        reconstruction.
    """
    require_same_shape(clean=clean, noise=noise)
    if times.shape != clean.shape[:1]:
        raise ShapeError(
            f"expected one time for each latent, found times {list(times.shape)}, "
            f"clean {list(clean.shape)}"
        )
    shares = at_least_float32(times).reshape(-1, *[1] * (clean.ndim - 1))
    return (1 - shares) * clean + shares * noise


def flow_target(clean: Tensor, noise: Tensor) -> Tensor:
    """The velocity noise - clean that a rectified flow should predict; a reconstruction.

    Args:
        clean: [B, ...].
        noise: [B, ...].

    Raises:
        ShapeError: The two differ in shape.
    """
    require_same_shape(clean=clean, noise=noise)
    return noise - clean


def _require_prediction_type(prediction_type: str) -> None:
    if prediction_type not in ("epsilon", "v_prediction"):
        raise ShapeError(
            f"prediction_type is {prediction_type!r}, expected 'epsilon' or 'v_prediction'"
        )
