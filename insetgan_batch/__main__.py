"""`python -m insetgan_batch` is the command line."""

from insetgan_batch.cli import main

main()
