"""The program, as `python -m insetgan_batch` and as `insetgan-batch`."""

from insetgan_batch import stopping


def main() -> None:
    """The command line. Signals are heard before anything else is imported: that takes a second."""
    stopping.listen()
    from insetgan_batch.cli import main as command_line

    command_line.main()


if __name__ == "__main__":
    main()
