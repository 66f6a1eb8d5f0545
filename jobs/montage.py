"""The montage as a job: faces sewn into bodies.

    python jobs/montage.py                                              the demo: 4 faces x 3 bodies
    python jobs/montage.py --config run.yaml --manifest M --out URI     your own

A thin launcher of `insetgan-batch demo` and `insetgan-batch run`; it needs no file beside it.
"""

from __future__ import annotations

import argparse

from insetgan_batch import cli


def main() -> None:
    """Translate the options into the command line's and run it."""
    parser = argparse.ArgumentParser(description="Sew faces into bodies.")
    parser.add_argument("--config", help="run configuration, YAML")
    parser.add_argument("--manifest", help="Parquet manifest: path or URI")
    parser.add_argument("--out", help="where the run lives: directory or s3://bucket/prefix")
    parser.add_argument("--run-id", help="a name for the run")
    options = parser.parse_args()
    given = {name: value for name, value in vars(options).items() if value}
    if set(given) <= {"out"}:
        command = ["demo"]
    elif {"config", "manifest", "out"} <= set(given):
        command = ["run", given.pop("config")]
    else:
        parser.error("give --config, --manifest and --out together, or none of them for the demo")
    for name, value in given.items():
        command += [f"--{name.replace('_', '-')}", value]
    cli.app(command)


if __name__ == "__main__":
    main()
