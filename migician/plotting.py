"""What every picture of figures shares: ink, lettering, and PNG bytes that only depend on what is drawn."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#1F2933", "#52606D", "#E4E7EB"
DPI = 110


@contextlib.contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of that many inches, whatever matplotlib's own settings are while the block lasts."""
    # Late, as most of what imports this never draws.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        **{name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"},
        "font.size": 10.5,
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlelocation": "left",
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlepad": 12,
        "axes.titley": 1.0,  # else matplotlib looks for the place, which takes a third of the drawing
        "xtick.color": FAINT,
        "ytick.color": INK,
        "patch.linewidth": 0.8,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), dpi=DPI)
        FigureCanvasAgg(figure)
        yield figure


def over_steps(axes: Axes) -> None:
    """Make the x axis count training steps; a grid, and no frame but the bottom."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(True, color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params("both", length=0, labelsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)


def png(figure: Figure, *, colours: int | None = None) -> bytes:
    """The figure as a PNG, to be called within its `canvas`; the same drawing gives the same bytes.

    With `colours`, only that many: the edges of letters get a little rougher, and the file a third as large.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    if colours is None:
        return drawn.getvalue()
    from PIL import Image

    from migician.draw import encoded

    with Image.open(drawn) as image:
        # Without dithering, which would speckle what is of one colour.
        few = image.convert("RGB").quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        return encoded(few, "PNG", optimize=True)
