"""Runs under fire: what dies, hangs and lies while a run is under way, and what is left of it."""
