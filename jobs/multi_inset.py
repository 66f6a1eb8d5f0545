"""Several parts sewn into each body at once: face and shoes.

    python jobs/multi_inset.py                                              the demo
    python jobs/multi_inset.py --config run.yaml --manifest M --out URI     your own

A thin launcher of `insetgan-batch demo` and `insetgan-batch run`; it needs no file beside it.
"""

from insetgan_batch.cli.insetgan.jobs import launch

if __name__ == "__main__":
    launch("multi_inset")
