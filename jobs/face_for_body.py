"""Faces for a body: one row for each face that is wanted.

    python jobs/face_for_body.py                                              the demo
    python jobs/face_for_body.py --config run.yaml --manifest M --out URI     your own

A thin launcher of `insetgan-batch demo` and `insetgan-batch run`; it needs no file beside it.
"""

from insetgan_batch.cli.insetgan.jobs import launch

if __name__ == "__main__":
    launch("face_for_body")
