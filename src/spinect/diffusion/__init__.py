"""Diffusion in one convention: x = x0 + sigma * noise, a denoiser, a schedule, a sampler."""
