"""Bodies for a face: one row for each body that is wanted.

    python jobs/body_for_face.py                                              the demo
    python jobs/body_for_face.py --config run.yaml --manifest M --out URI     your own

A thin launcher of `insetgan-batch demo` and `insetgan-batch run`; it needs no file beside it.
"""

from insetgan_batch.cli.insetgan.jobs import launch

if __name__ == "__main__":
    launch("body_for_face")
