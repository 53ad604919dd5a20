"""What all pictures share: curves that show no more than was measured, labels that stay apart, and axes in plain numbers."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

from runbook.load.histogram import EXACT_BELOW_US, Histogram
from runbook.load.quantile import FEWEST_BEYOND
from runbook.report.canvas import BLUE, canvas, curve, draw_limit, label_ends, log_steps, percentile_ticks, plain_ms

# Values that a histogram keeps as they are.
LATENCIES_US = st.lists(st.integers(1, EXACT_BELOW_US - 1) | st.integers(1, 5), max_size=200)
ENDS_MS = st.lists(st.floats(0.06, 900), min_size=1, max_size=6)


def _at(points: tuple[list[float], list[float]], x: float) -> float:
    """Read a curve of steps: the height that it first reaches at x, or beyond."""
    return next(y for this, y in zip(*points, strict=True) if this >= x - 1e-9)


def _labels(axes: Axes) -> list[Annotation]:
    figure = axes.figure
    FigureCanvasAgg(figure).draw()  # type: ignore[arg-type]
    return [text for text in axes.texts if isinstance(text, Annotation)]


class TestCurve:
    @given(LATENCIES_US)
    def test_it_goes_through_each_sample_of_the_sorted_list(self, latencies_us: list[int]) -> None:
        """At 1 / (1 - rank / n) lies the sample of that rank, as long as ten lie beyond."""
        ordered, count = sorted(latencies_us), len(latencies_us)
        points = curve(Histogram([(us, 1) for us in latencies_us]))
        for rank in range(1, count - FEWEST_BEYOND + 1):
            assert _at(points, count / (count - rank)) == ordered[rank - 1] / 1e3

    @given(LATENCIES_US)
    @pytest.mark.no_cover
    def test_it_never_falls_and_ends_where_fewer_than_ten_lie_beyond(self, latencies_us: list[int]) -> None:
        xs, ys = curve(Histogram([(us, 1) for us in latencies_us]))
        assert len(xs) == len(ys)
        assert (xs, ys) == (sorted(xs), sorted(ys))
        assert all(len(latencies_us) / x > FEWEST_BEYOND - 1e-6 for x in xs)

    @given(LATENCIES_US)
    @pytest.mark.no_cover
    def test_it_is_the_same_however_the_samples_were_counted(self, latencies_us: list[int]) -> None:
        merged = Histogram([(us, 1) for us in latencies_us[::2]])
        merged.merge(Histogram([(us, 1) for us in latencies_us[1::2]]))
        assert curve(merged) == curve(Histogram([(us, 1) for us in latencies_us]))

    @pytest.mark.parametrize("count", [0, 1, FEWEST_BEYOND - 1])
    def test_of_fewer_than_ten_samples_there_is_none(self, count: int) -> None:
        assert curve(Histogram([(200, count)] if count else [])) == ([], [])


class TestLabelEnds:
    @settings(max_examples=8)  # a picture each
    @given(ENDS_MS)
    def test_labels_lie_apart_within_the_picture_and_in_the_order_of_their_lines(self, ends_ms: list[float]) -> None:
        figure, axes = canvas("t", "x", "y")
        axes.set_xlim(0, 10)
        axes.set_yscale("log")
        axes.set_ylim(0.05, 1000)
        label_ends(axes, [(y, 5.0, f"line {number}", BLUE) for number, y in enumerate(ends_ms)])
        labels = sorted(_labels(axes), key=lambda label: label.xy[1])
        texts = [super(Annotation, label).get_window_extent() for label in labels]
        assert len(texts) == len(ends_ms)
        assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(texts))
        assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 and box.x1 <= figure.bbox.x1 for box in texts)

    def test_a_label_with_room_stands_at_the_height_of_its_line(self) -> None:
        _, axes = canvas("t", "x", "y")
        axes.set_ylim(0, 100)
        label_ends(axes, [(20.0, 0.5, "low", BLUE), (80.0, 0.9, "high", BLUE)])
        for label in _labels(axes):
            box = super(Annotation, label).get_window_extent()
            assert (box.y0 + box.y1) / 2 == pytest.approx(axes.transData.transform(label.xy)[1], abs=3)

    def test_without_lines_there_is_nothing_to_label(self) -> None:
        _, axes = canvas("t", "x", "y")
        label_ends(axes, [])
        assert not axes.texts


class TestAxes:
    @pytest.mark.parametrize(("low", "high"), [(0.05, 2), (0.2, 9), (0.01, 60_000), (3, 4)])
    def test_latencies_read_in_plain_numbers_and_one_ms_is_among_them(self, low: float, high: float) -> None:
        _, axes = canvas("t", "x", "y")
        axes.set_ylim(low, high)
        plain_ms(axes)
        texts = [tick.get_text() for tick in axes.get_yticklabels()]
        assert "1" in texts
        assert len(texts) <= 14
        assert not any("e" in text or "$" in text for text in texts)

    @given(st.floats(1e-3, 1e6), st.floats(1.5, 1e6))
    def test_round_numbers_lie_within_ascend_and_are_told_apart(self, low: float, factor: float) -> None:
        steps = log_steps(low, low * factor)
        assert steps == sorted(set(steps))
        assert all(low <= step <= low * factor for step in steps)
        assert len(steps) >= math.floor(math.log10(factor))

    @pytest.mark.parametrize(("reach", "last"), [(1, "99 %"), (999, "99 %"), (1000, "99.9 %"), (1e9, "99.99 %")])
    def test_percentiles_are_named_as_far_as_the_lines_reach(self, reach: float, last: str) -> None:
        _, axes = canvas("t", "x", "y")
        percentile_ticks(axes, reach)
        assert [tick.get_text() for tick in axes.get_xticklabels()][-1] == last

    def test_a_limit_is_drawn_and_named(self) -> None:
        _, axes = canvas("t", "x", "y")
        draw_limit(axes, 1.0, "limit: 1 ms")
        assert list(axes.lines[0].get_ydata()) == [1.0, 1.0]
        assert [text.get_text() for text in axes.texts] == ["limit: 1 ms"]
