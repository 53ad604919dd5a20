"""What a run found and under which circumstances, in a folder that can be read without Redis."""

from runbook.evidence.criteria import CRITERIA
from runbook.evidence.store import EvidenceError, RunFolder
from runbook.evidence.verdict import Finding, Measurement, Verdict, combine, judge, verdict_of

__all__ = ["CRITERIA", "EvidenceError", "Finding", "Measurement", "RunFolder", "Verdict", "combine", "judge", "verdict_of"]
