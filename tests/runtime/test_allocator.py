"""Memory that large tensors leave is there for the next ones, without new pages."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Of twenty tensors of 128 MB, one after the other: pages that were mapped anew for the last five.
_SCRIPT = """
import resource, sys
import torch
from insetgan_batch.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for number in range(20):
    if number == 15:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(what: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, what], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be told")
def test_memory_that_is_kept_needs_no_new_pages() -> None:
    usual, kept = new_pages("leave"), new_pages("keep")
    assert kept < usual / 20
