"""How quiet the host was, and from when on that leaves a doubt."""

import os

import pytest

from runbook.load.noise import Noise, NoiseMeter


@pytest.mark.parametrize("noise", [Noise(0.0, 0.0, 0.0), Noise(0.25, 0.02, 0.5), Noise(0.1), Noise(0.1, None, None)])
def test_a_host_within_the_limits_leaves_no_doubt(noise: Noise) -> None:
    assert noise.doubts == ()


@pytest.mark.parametrize(
    ("noise", "count"),
    [(Noise(0.26, 0.0, 0.0), 1), (Noise(0.0, 0.021), 1), (Noise(0.0, 0.0, 0.51), 1), (Noise(0.26), 1), (Noise(3, 0.5, 0.6), 3)],
)
def test_each_limit_that_is_exceeded_is_a_doubt_with_its_number(noise: Noise, count: int) -> None:
    assert len(noise.doubts) == count
    assert all("limit" in doubt for doubt in noise.doubts)


def test_the_meter_reads_this_host() -> None:
    meter = NoiseMeter()
    meter.nap(1000)
    noise = meter.read()
    assert noise.idle_late_ms_p99 > 0
    assert 0 <= (noise.stolen or 0) <= 1
    assert 0 <= (noise.cpus_of_others or 0) <= 1.1 * (os.cpu_count() or 1)  # two clocks, read one after the other
