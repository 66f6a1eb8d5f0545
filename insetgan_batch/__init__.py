"""Whole people from several generators at once: InsetGAN as a batch job system on Ray."""

__version__ = "0.1.0"
