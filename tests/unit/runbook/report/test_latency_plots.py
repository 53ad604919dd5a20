"""The contract of each picture of latencies, what those who cannot see it are told, and that nothing measured can crash it."""

import dataclasses
import functools
import itertools
import re
from array import array

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from runbook.drills import sweep
from runbook.drills.attribution import PARTS, REST, Layers
from runbook.drills.latency import BARE, CLIENT, OPERATIONS, Result
from runbook.drills.sweep import Step
from runbook.load.offered import Mark, Offered
from runbook.load.recording import SECOND_NS, Cell, Recording
from runbook.report.display import Plot
from runbook.report.latency_plots import heat_map, layers, percentiles, rate_sweep
from tests.unit.runbook.drills.loads import MS, excess, offered, recording


def _mixed(count: int, took_ms: float = 0.2) -> Offered:
    made, control = (
        recording((OPERATIONS[number % 3], factor * took_ms * (1 + number / count)) for number in range(count)) for factor in (1, 0.5)
    )
    return Offered({}, dataclasses.replace(made, control=control))


def _measured(count: int, took_ms: float = 0.2) -> Result:
    return Result({BARE: _mixed(count, took_ms), CLIENT: _mixed(count, took_ms * 2)}, ())


def _step(rate_per_s: float, p99_ms: float | None) -> Step:
    p50_ms = p99_ms / 2 if p99_ms else None
    return Step(rate_per_s, rate_per_s, p50_ms, p99_ms, 0.01, excess(0.0 if p99_ms and p99_ms < 1 else 0.5), 0, offered=_mixed(2000))


def _swept(*p99_ms: float | None) -> sweep.Result:
    return sweep.Result(tuple(_step(1000.0 * 2**number, p99) for number, p99 in enumerate(p99_ms)), "", ())


def _layered(whole_ms: float = 1.0, command_ms: float | None = 0.05) -> Result:
    parts = (0.15, command_ms, 0.2, 0.3, 0.02)
    return Result({}, (), tuple(Layers(name, p, whole_ms, parts) for name in OPERATIONS for p in (0.5, 0.99)))


FORK = Mark(240 * MS, 12 * MS, "fork took 12.0 ms")
WAIT = Mark(1220 * MS, 0, "a write waited")
HEATED = offered(*[0.2] * 300, 5.0, marks=(WAIT, FORK))
BEYOND = Offered({}, Recording(SECOND_NS, (Cell(0, "latency", "GET", array("I", [61_000_000]), array("Q", [3])),), seconds=1.0))
NEXT_TO_NOTHING = {
    "no percentiles": lambda: percentiles(Result({}, ())),
    "percentiles of no call": lambda: percentiles(_measured(0)),
    "percentiles of one call": lambda: percentiles(_measured(1)),
    "percentiles of eleven": lambda: percentiles(_measured(11)),
    "percentiles of what failed": lambda: percentiles(Result({BARE: offered(errors={("GET", "OOM"): 4})}, ())),
    "percentiles above 60 s": lambda: percentiles(Result({BARE: BEYOND}, ())),
    "no load": lambda: heat_map(None),
    "a load without calls": lambda: heat_map(offered()),
    "a load of one call": lambda: heat_map(offered(0.2)),
    "all above 60 s": lambda: heat_map(BEYOND),
    "empty sweep": lambda: rate_sweep(_swept()),
    "sweep of one rate": lambda: rate_sweep(_swept(0.2)),
    "sweep without percentiles": lambda: rate_sweep(_swept(None, None)),
    "no layers": lambda: layers(Result({}, ())),
    "layers of nothing": lambda: layers(Result({}, (), (Layers("GET", 0.5, 0.001, (None,) * 5),))),
}
# Each is drawn once for all tests, which only look at it.
WHOLE = {
    "percentiles": functools.cache(lambda: percentiles(_measured(2000))),
    "heat map": functools.cache(lambda: heat_map(HEATED)),
    "sweep": functools.cache(lambda: rate_sweep(_swept(0.2, 0.3, 0.9, 400.0))),
    "layers": functools.cache(lambda: layers(_layered())),
}
OTHERS = {
    "percentiles": lambda: (percentiles(_measured(20, 90.0)), percentiles(Result({}, ()))),
    "heat map": lambda: (heat_map(offered(*[70.0] * 20)), heat_map(None)),
    "sweep": lambda: (rate_sweep(_swept(3.0)), rate_sweep(_swept())),
    "layers": lambda: (layers(_layered(40.0, None)), layers(Result({}, ()))),
}


def _contract(plot: Plot) -> str:
    return str(plot._repr_mimebundle_()[0]["text/plain"])


def _texts(plot: Plot) -> list[str]:
    """All texts within the picture: at lines, in its key, beside its scale."""
    keys = [text.get_text() for legend in plot.figure.legends for text in legend.get_texts()]
    return [text.get_text() for axes in plot.figure.axes for text in axes.texts] + keys + [axes.get_ylabel() for axes in plot.figure.axes]


def _upright(plot: Plot) -> list[float]:
    """Where upright lines stand."""
    lines = [list(np.asarray(line.get_xdata(), float)) for line in plot.figure.axes[0].lines]
    return sorted(xs[0] for xs in lines if len(xs) == 2 and xs[0] == xs[1])


@pytest.mark.parametrize("draw", OTHERS)
def test_the_contract_is_the_same_in_each_run(draw: str) -> None:
    assert len({_contract(plot) for plot in (WHOLE[draw](), *OTHERS[draw]())}) == 1


@pytest.mark.parametrize("draw", WHOLE)
def test_axes_are_labelled_with_their_units_and_series_are_named(draw: str) -> None:
    plot = WHOLE[draw]()
    axes = plot.figure.axes[0]
    assert plot.axes == (axes.get_xlabel(), axes.get_ylabel())
    assert any("ms" in label for label in plot.axes)
    assert all(any(name in text for text in _texts(plot)) for name in plot.series)


@pytest.mark.parametrize("draw", ["percentiles", "heat map", "sweep"])
def test_the_limit_is_drawn_and_named_within_the_picture(draw: str) -> None:
    plot = WHOLE[draw]()
    axes = plot.figure.axes[0]
    assert plot.threshold == "1 ms"
    assert [1.0, 1.0] in [list(line.get_ydata()) for line in axes.lines]
    assert any(re.search(r"limit.*: 1 ms", text) for text in _texts(plot))
    assert axes.get_ylim()[0] < 1.0 < axes.get_ylim()[1]


@pytest.mark.parametrize("draw", [*NEXT_TO_NOTHING, *WHOLE])
def test_whatever_was_measured_is_drawn_and_told_in_words(draw: str) -> None:
    plot = (NEXT_TO_NOTHING | WHOLE)[draw]()
    data, metadata = plot._repr_mimebundle_()
    assert data["image/png"]
    assert plot.title in metadata["image/png"]["alt"]
    assert not re.search(r"\b(None|nan|inf)\b", plot.alt)


@pytest.mark.parametrize("draw", WHOLE)
def test_texts_neither_lie_on_each_other_nor_leave_the_picture(draw: str) -> None:
    plot = WHOLE[draw]()
    figure = plot.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    shown = [text for text in [*figure.axes[0].texts, figure.axes[0]._left_title] if text.get_text()]  # type: ignore[attr-defined]
    boxes = [
        super(type(text), text).get_window_extent(renderer) if hasattr(text, "xyann") else text.get_window_extent(renderer)
        for text in shown
    ]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1 for box in boxes)


class TestPercentiles:
    def test_a_line_ends_where_fewer_than_ten_samples_lie_beyond(self) -> None:
        lines = [line for line in percentiles(_measured(6000)).figure.axes[0].lines if len(line.get_xdata()) > 2]  # type: ignore[arg-type]
        assert [max(line.get_xdata()) for line in lines] == [200.0, 200.0, 200.0, 600.0, 600.0]

    def test_lines_that_coincide_are_told_apart_without_colours(self) -> None:
        lines = percentiles(_measured(6000)).figure.axes[0].lines[:4]
        assert len({line.get_linestyle() for line in lines}) == 4

    def test_the_text_tells_each_p99_and_the_limit(self) -> None:
        result = Result({BARE: Offered({}, recording([(name, 0.2) for name in OPERATIONS] * 1000)), CLIENT: offered(0.3)}, ())
        alt = percentiles(result).alt
        assert "GET p99 0.200 ms, SET p99 0.200 ms, PING p99 0.200 ms, cachelib too few calls for p99; the limit is 1 ms." in alt


class TestHeatMap:
    def test_marks_are_drawn_and_named_and_those_outside_of_the_load_are_not(self) -> None:
        outside = Mark(50 * SECOND_NS, 0, "much later")
        plot = heat_map(dataclasses.replace(HEATED, marks=(outside, WAIT, FORK)))
        assert _upright(plot) == pytest.approx([0.24, 1.22])
        assert {"1", "2", "1: at 0.2 s fork took 12.0 ms", "2: at 1.2 s a write waited"} <= set(_texts(plot))
        assert "fork took 12.0 ms at 0.2 s, a write waited at 1.2 s" in plot.alt
        assert "much later" not in plot.alt + "".join(_texts(plot))

    def test_of_many_marks_the_longest_and_one_of_each_kind_are_named_and_the_rest_counted(self) -> None:
        forks = tuple(Mark(number * 60 * MS, number * MS, f"fork took {number}.0 ms") for number in range(40))
        plot = heat_map(dataclasses.replace(HEATED, marks=(*forks, WAIT)))
        assert len(_upright(plot)) == 41
        assert all(text in plot.alt for text in ("fork took 39.0 ms", "a write waited", "and 33 more"))

    def test_the_text_tells_how_many_calls_and_how_slow(self) -> None:
        assert "301 calls, the slowest 5.00 ms;" in heat_map(HEATED).alt
        assert "3 calls, the slowest above 60 s" in heat_map(BEYOND).alt


class TestRateSweep:
    def test_the_knee_and_the_highest_rate_are_drawn_and_told(self) -> None:
        plot = rate_sweep(_swept(0.2, 0.3, 0.9, 400.0))
        assert _upright(plot) == [2000.0, 4000.0]
        assert {"knee", "highest that keeps it", "p50", "p99"} <= set(_texts(plot))
        assert "Of 4 rates the highest rate that keeps the limit is 4,000 calls a second; the knee is at 2,000." in plot.alt

    def test_one_rate_that_is_both_has_one_line(self) -> None:
        assert _upright(rate_sweep(_swept(0.2, 0.3, 40.0))) == [2000.0]

    @pytest.mark.parametrize("rates", [(3000.0,), (2100.0, 4200.0), tuple(100.0 * 2**n for n in range(14))], ids=["one", "two", "many"])
    def test_rates_can_be_read_from_the_axis_and_do_not_collide(self, rates: tuple[float, ...]) -> None:
        figure = rate_sweep(sweep.Result(tuple(_step(rate, 0.2) for rate in rates), "", ())).figure
        FigureCanvasAgg(figure).draw()
        ticks = [tick.get_window_extent() for tick in figure.axes[0].get_xticklabels()]
        assert ticks
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(ticks))


class TestLayers:
    def test_parts_are_stacked_up_to_the_whole_and_numbered(self) -> None:
        plot = layers(_layered())
        ends = {round(bar.get_x() + bar.get_width(), 6) for bar in plot.figure.axes[0].patches}  # type: ignore[attr-defined]
        assert max(ends) == 1.0
        assert [f"{number} {name}" for number, name in enumerate((*PARTS, REST), 1)] == [
            text.get_text() for text in plot.figure.legends[0].get_texts()
        ]

    def test_the_text_tells_the_largest_part_the_rest_included_and_what_was_not_measured(self) -> None:
        assert "GET p99 1.000 ms, the largest part waiting for a free connection (0.300 ms);" in layers(_layered()).alt
        assert "the largest part not attributed (39.330 ms), server: the command, at most not measured" in layers(_layered(40.0, None)).alt
