"""What stands beside every measured number: the commit, the machine, the versions."""

from __future__ import annotations

import os
import platform
import subprocess


def describe() -> dict[str, object]:
    """For the JSON object that a benchmark prints."""
    git = ["git", "describe", "--always", "--dirty"]
    return {
        "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()
