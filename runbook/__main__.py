"""The command, and `python -m runbook`."""

import sys


def main() -> int:
    """Run the command line; an interruption while it is loaded is one like any other."""
    try:
        # Not at the top: loading takes a good part of a second, in which a user may press Ctrl-C.
        from runbook import cli

        return cli.main()
    except KeyboardInterrupt:
        print("runbook: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
