"""Parameters of tests: a few combinations that meet each code path run always, all other combinations nightly."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def pairs(chosen: Iterable[Sequence[Any]], *axes: Iterable[Any]) -> list[Any]:
    """Return every combination of the axes as a `pytest.param`; those that are not among `chosen` carry the mark `nightly`.

    Args:
        chosen: combinations that run always.
        axes: the values of each parameter; their `str` is part of the test's id.
    """
    always = {tuple(combination) for combination in chosen}
    product = list(itertools.product(*axes))
    assert always <= set(product), f"not a combination of the axes: {always - set(product)}"
    return [
        pytest.param(*combination, id="-".join(map(str, combination)), marks=() if combination in always else pytest.mark.nightly)
        for combination in product
    ]
