"""A denoising network that is small enough to follow by hand."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["LinearDenoiser"]


@dataclass(frozen=True)
class LinearDenoiser:
    """Predicts x M + (t / 1000) v + c K, with latents and conditions as rows."""

    M: Tensor
    """[D, D], of the latent."""
    v: Tensor
    """[D], of the timestep, which may be below 0."""
    K: Tensor
    """[C, D], of the condition."""
    condition: Tensor
    """[B, C], c."""

    def __call__(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        """The noise [B, D] of latents [B, D] at timesteps [B]."""
        times = timesteps[:, None].to(latents.dtype) / 1000
        return latents @ self.M + times * self.v + self.condition @ self.K
