"""Figures of an analysis, as PNG and SVG; matplotlib draws them where it is installed.

They have a white background of their own, so that they can be read on a dark page as well.

Source: the figures of arXiv 2305.02176: requested capacity by direction, by frequency of tokens, and by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.analysis.requested_capacity import MEAN
from smoe_ds.analysis.routing_analysis import RoutingAnalysis
from smoe_ds.analysis.routing_use import SIDES
from smoe_ds.report.heat_maps import draw_experts, draw_languages, draw_load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Size = tuple[float, float]
"""Width and height of a figure [inch]."""
COLORS = {"encoder": "#0072B2", "decoder": "#D55E00"}
"""Blue and vermilion of a palette that colour-blind readers can tell apart. Source: Okabe and Ito (2008)."""
HATCHES = {"encoder": None, "decoder": "//"}
"""So that bars differ in print, too."""
NAMES = ("losses", "by_direction", "by_frequency", "by_block", "experts", "load", "languages")
"""Of all figures; a dense model has the first one alone, and one language on each side has no ``languages``."""
FIGURES = tuple(f"{name}.{kind}" for name in NAMES for kind in ("png", "svg"))
"""All files that can be drawn."""
_DPI = 200


def has_matplotlib() -> bool:
    """Whether figures can be drawn here."""
    return find_spec("matplotlib") is not None


def draw_figures(analysis: RoutingAnalysis, folder: Path) -> None:
    """Draws those of `FIGURES` that there is something to draw of into a folder.

    Args:
        analysis: what to draw.
        folder: an existing one.
    """
    import matplotlib

    # Element ids of an SVG are random without a salt, and it would carry the time.
    with matplotlib.rc_context({"svg.hashsalt": "smoe_ds", "svg.fonttype": "none"}):
        for name, figure in _figures(analysis):
            _lay_out(figure)
            figure.savefig(folder / f"{name}.png", dpi=_DPI)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _lay_out(figure: Figure) -> None:
    """Places the axes, rounded: the last digits of a layout differ from time to time, and by them the ids in an SVG."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = (round(edge, 5) for edge in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))


def _figures(analysis: RoutingAnalysis) -> Iterator[tuple[str, Figure]]:
    """The figures with their names."""
    width = max(6.4, 0.28 * len(analysis.texts) + 2)
    yield "losses", _plotted(draw_losses, analysis, (width, 3.6))
    if analysis.is_dense:
        return
    yield "by_direction", _plotted(draw_by_direction, analysis, (width, 3.6))
    yield "by_frequency", _plotted(draw_by_frequency, analysis, (6.4, 3.6))
    yield "by_block", _plotted(draw_by_block, analysis, (6.4, 3.6))
    yield "experts", draw_experts(analysis.shares)
    yield "load", draw_load(analysis.shares)
    several = [one for one in analysis.divergences if len(one.languages) > 1]
    if several:
        yield "languages", draw_languages(several)


def _plotted(draw: Callable[[RoutingAnalysis, Axes], None], analysis: RoutingAnalysis, size: Size) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(analysis, figure.add_subplot())
    return figure


def draw_losses(analysis: RoutingAnalysis, axes: Axes) -> None:
    """Loss of each direction, from most to least training text."""
    losses = analysis.loss("direction")
    names = [one.direction for one in analysis.texts]
    axes.bar(range(len(names)), [losses[name] for name in names], 0.6, color=COLORS["encoder"])
    axes.axhline(analysis.loss("all")["all"], color="black", linestyle="--", label="all tokens")
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 6 else 0)
    axes.set_xlabel("direction, most training text first")
    axes.set_ylabel("loss (nat per token)")
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def draw_by_direction(analysis: RoutingAnalysis, axes: Axes) -> None:
    """Mean requested capacity of each direction, from most to least training text."""
    names = [one.direction for one in analysis.texts]
    found = {side: analysis.capacity(side, "direction", MEAN) for side in SIDES}
    _bars(axes, {side: [of[name] for name in names] for side, of in found.items() if of})
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 6 else 0)
    axes.set_xlabel("direction, most training text first")


def draw_by_block(analysis: RoutingAnalysis, axes: Axes) -> None:
    """Mean requested capacity of each block, from the first to the last of its side."""
    found = {
        side: [
            one.requested_capacity
            for one in analysis.capacities
            if (one.side, one.by) == (side, "all") and one.block != MEAN
        ]
        for side in SIDES
    }
    _bars(axes, {side: values for side, values in found.items() if values})
    longest = max(map(len, found.values()))
    axes.set_xticks(range(longest), [str(place + 1) for place in range(longest)])
    axes.set_xlabel("MoE block, from the input on")


def draw_by_frequency(analysis: RoutingAnalysis, axes: Axes) -> None:
    """Frequency ranks of the pieces of highest and of lowest requested capacity, over all blocks and directions."""
    labels: list[str] = []
    for side in SIDES:
        for end in ("highest", "lowest"):
            ranks = [one.rank for one in analysis.extremes if (one.side, one.end) == (side, end)]
            if not ranks:
                continue
            parts: dict[str, Any] = axes.violinplot(
                [ranks], [len(labels)], widths=0.8, showmedians=True, showextrema=True
            )
            for body in parts["bodies"]:
                body.set(facecolor=COLORS[side], alpha=0.6, hatch="//" if end == "lowest" else None)
            for line in ("cmedians", "cmins", "cmaxes", "cbars"):
                parts[line].set_color("black")
            labels.append(f"{side}\n{end} RC")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("frequency rank")


def _bars(axes: Axes, series: Mapping[str, Sequence[float]]) -> None:
    """Groups of bars, one of each side; they begin at 1, since every token passes a stratum."""
    width = 0.8 / len(series)
    for number, (side, values) in enumerate(series.items()):
        places = [place + (number - (len(series) - 1) / 2) * width for place in range(len(values))]
        heights = [value - 1 for value in values]
        axes.bar(
            places, heights, width, bottom=1, color=COLORS[side], hatch=HATCHES[side], edgecolor="white", label=side
        )
    axes.set_ylim(1, 1 + 1.08 * max(max(max(values) for values in series.values()) - 1, 0.01))
    axes.set_ylabel("requested capacity")
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
