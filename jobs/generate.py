"""A data set of one generator's images, from a list of seeds: nothing is optimised.

    python jobs/generate.py                                              the demo
    python jobs/generate.py --config run.yaml --manifest M --out URI     your own

A thin launcher of `insetgan-batch demo` and `insetgan-batch run`; it needs no file beside it.
"""

from insetgan_batch.cli.insetgan.jobs import launch

if __name__ == "__main__":
    launch("generate")
