"""Measures what importing the client costs beyond importing the library that it wraps."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from runbook.drills.paired_limit import Limit
from runbook.evidence import Finding, judge

LIMIT = Limit("ratio of the import times", 1.5, at_most=True)
CLAIM = f"Importing the client takes at most {LIMIT.value:g} × the CPU time of importing redis-py"
# One behind the other in one interpreter: what slows down one slows down the other. The client imports redis-py itself, so that its own
# share is what comes on top.
_PROGRAM = """
import time
began = time.process_time()
import redis
between = time.process_time()
import cachelib
print(between - began, time.process_time() - began)
"""


@dataclass(frozen=True, slots=True)
class ImportTimes:
    """CPU time of imports in a fresh interpreter.

    Attributes:
        redis_s: of redis-py, in s.
        cachelib_s: of the client with all that it imports, redis-py included, in s.
    """

    redis_s: float
    cachelib_s: float


def measure_imports() -> ImportTimes:
    """Import both in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    return ImportTimes(*map(float, done.stdout.split()))


def judge_imports(times: Sequence[ImportTimes]) -> Finding:
    """Judge the ratio of both times."""
    return judge("bench", CLAIM, lambda: LIMIT.judge([each.cachelib_s / each.redis_s for each in times]))
