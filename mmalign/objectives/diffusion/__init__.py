"""Preference losses of diffusion models, on given noise predictions: no diffusers needed."""
