"""A better part for each canvas: the inset starts at its average and becomes what the canvas shows.

    python jobs/refine.py                                              the demo
    python jobs/refine.py --recipe refine_one_way                      only the inset moves
    python jobs/refine.py --config run.yaml --manifest M --out URI     your own

A thin launcher of `insetgan-batch demo` and `insetgan-batch run`; it needs no file beside it.
"""

from insetgan_batch.cli.insetgan.jobs import launch

if __name__ == "__main__":
    launch("refine", "refine_one_way")
