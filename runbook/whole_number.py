"""The type of those options that take how many, or how often."""


def whole_number(text: str) -> int:
    """Take a whole number from 1.

    Raises:
        ValueError: it is none.
    """
    value = int(text)
    if value < 1:
        raise ValueError
    return value


whole_number.__name__ = "whole number from 1"  # argparse names the type in its message
