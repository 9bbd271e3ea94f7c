"""What a section of the report is made of; ``page.html`` says how each looks."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image  # as matplotlib writes pictures with

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

COLOURS = 128  # of a picture
DPI = 192  # two pixels of the picture for one of the page: sharp on dense screens
# Names are names, not formulas; bigger letters than in print, for narrow screens shrink them.
STYLE: dict[RcKeyType, Any] = {
    "text.parse_math": False,
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Paragraph:
    """Words."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Hint:
    """What is missing here, and the command that adds it."""

    kind: ClassVar[str] = "hint"
    text: str
    command: str = ""


@dataclass(frozen=True)
class Verdict:
    """Sentences of a verdict."""

    kind: ClassVar[str] = "verdict"
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Doubts:
    """Sentences on what is doubtful."""

    kind: ClassVar[str] = "doubts"
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table; numbers are shown with ``digits`` significant digits.

    Attributes
    ----------
    frame
        Columns as they are to be headed; no index.
    caption
        What it says.
    digits
        Significant digits of fractions; whole numbers are shown as they are.
    """

    kind: ClassVar[str] = "table"
    frame: pd.DataFrame
    caption: str
    digits: int = 3

    @property
    def numeric(self) -> list[bool]:
        """Return which columns are aligned as numbers."""
        return [pd.api.types.is_numeric_dtype(dtype) for dtype in self.frame.dtypes]

    @property
    def rows(self) -> list[list[str]]:
        """Return the cells as text."""
        columns = [self.frame.iloc[:, i].tolist() for i in range(self.frame.shape[1])]
        return [[self._text(value) for value in row] for row in zip(*columns)]

    def _text(self, value: object) -> str:
        if isinstance(value, float) and value != value:
            return "-"
        if type(value) is int or (isinstance(value, float) and abs(value) >= 10**self.digits):
            text = f"{value:,.0f}"
        elif isinstance(value, float):
            text = f"{value:.{self.digits}g}"
        else:
            return str(value)
        return text.replace("-", "\N{MINUS SIGN}", 1) if value < 0 else text


@dataclass(frozen=True)
class Picture:
    """A figure as PNG within the page.

    Attributes
    ----------
    png
        Base64.
    width, height
        Size on the page, in CSS pixels; narrower where the page is.
    caption
        What the picture answers.
    """

    kind: ClassVar[str] = "picture"
    png: str
    width: int
    height: int
    caption: str

    @classmethod
    def drawn(
        cls, draw: Callable[[Axes], object], caption: str, size: tuple[float, float] = (4.6, 3.3)
    ) -> Picture:
        """Return what ``draw`` puts on axes of ``size`` inches."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure.subplots())
            for ax in figure.axes:
                _plain_log(ax.xaxis, ax.get_xlim())
                _plain_log(ax.yaxis, ax.get_ylim())
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=DPI)
        few = io.BytesIO()  # a third of the bytes, and nobody sees a difference
        Image.open(drawn).convert("RGB").quantize(COLOURS).save(few, "png", optimize=True)
        width, height = (round(side * 96) for side in size)
        return cls(base64.b64encode(few.getvalue()).decode(), width, height, caption)


def _plain_log(axis: Axis, limits: tuple[float, float]) -> None:
    """Write 1,000 on a log axis, not a power that is set as a formula; every 2 and 5 if short."""
    if axis.get_scale() == "log":
        short = limits[1] < 200 * limits[0]
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(NullFormatter())


@dataclass(frozen=True)
class Row:
    """Pictures and tables side by side where there is room."""

    kind: ClassVar[str] = "row"
    items: tuple[Picture | Table, ...]


@dataclass(frozen=True)
class Still:
    """Pictures of what the explorer draws: for print, and where it cannot draw."""

    kind: ClassVar[str] = "still"
    items: tuple[Picture, ...]


def alone(frame: pd.DataFrame, caption: str, digits: int = 3) -> Row:
    """Return a table in a row of its own."""
    return Row((Table(frame, caption, digits),))


Block = Paragraph | Hint | Verdict | Doubts | Table | Picture | Row | Still


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes
    ----------
    id
        Its anchor.
    title
        Its heading.
    question
        What it answers.
    blocks
        What it shows.
    """

    id: str
    title: str
    question: str
    blocks: tuple[Block, ...] = ()
