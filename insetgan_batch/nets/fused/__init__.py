"""Kernels for NVIDIA GPUs that do in one pass what torch does in several operations."""
