"""The few numbers that a product owner looks at first, each against its limit and against the run that was last accepted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Headline:
    """Where a number that leads the page comes from.

    Attributes:
        name: what it says, in the words of whoever accepts.
        criterion: that it speaks for.
        claim: how the claim begins under which it was measured.
        measured: its name there.
    """

    name: str
    criterion: str
    claim: str
    measured: str


HEADLINES = (
    Headline("Reads that Redis answers in over 1 ms", "P-2", "At most 1% of GET", "GET over 1 ms beyond the control"),
    Headline("Acknowledged writes lost by a stop", "I-4", "After SIGTERM and a restart no acknowledged write", "acknowledged writes lost"),
    Headline("Age of the oldest write lost by a crash", "I-4", "After SIGKILL and a restart only writes", "window of the loss"),
    Headline("Clients are back after an outage within", "I-5", "From the server's return to the first success", "worst"),
    Headline("Connections served at once", "P-1", "100 callers of one client", "connections busy at once"),
)


def headlines(results: Sequence[Mapping[str, Any]], accepted: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Take the headline numbers from what notebooks found; those that none of them measured are left out.

    Args:
        results: of the notebooks that came to a verdict.
        accepted: the result of the verification that was last accepted on this target; None if there is none.

    Returns:
        one dictionary a number: what `Measurement` holds, with `run` and `notebook`, the finding's `verdict`, and `before`, the number
        of then.
    """
    then = {each["name"]: each["value"] for each in (accepted or {}).get("headlines", ())}
    found = []
    for headline in HEADLINES:
        for result, finding, measured in _measurements(results):
            if measured["name"] == headline.measured and finding["claim"].startswith(headline.claim):
                where = {
                    "criterion": headline.criterion,
                    "run": result["run"],
                    "notebook": result["notebook"],
                    "verdict": finding["verdict"],
                }
                found.append({**measured, "name": headline.name, **where, "before": then.get(headline.name)})
                break
    return found


def _measurements(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]]:
    for result in results:
        for finding in result["findings"] if result["verdict"] else ():
            for measured in finding["measured"]:
                if measured["value"] is not None:
                    yield result, finding, measured
