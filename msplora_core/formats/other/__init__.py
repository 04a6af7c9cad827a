"""Adapters in other formats: diffusion models, loralib, plain pairs of factors, full fine-tunes."""
