"""Faces sewn into bodies, every one into every other.

    python jobs/montage.py                                              the demo: 4 faces x 3 bodies
    python jobs/montage.py --config run.yaml --manifest M --out URI     your own

A thin launcher of `insetgan-batch demo` and `insetgan-batch run`; it needs no file beside it.
"""

from insetgan_batch.cli.insetgan.jobs import launch

if __name__ == "__main__":
    launch("montage")
