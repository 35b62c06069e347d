"""What a page is made of: frozen values with strings ready to show. Each names the template that writes it."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from markupsafe import Markup, escape

from slipway.report.charts import Drawing, LegendEntry

Kind = Literal["", "n", "c", "d"]  # text, number, centred sign, digest


@dataclass(frozen=True, slots=True)
class TableCell:
    """
    A cell of a table.

    Attributes:
        text: What is shown.
        kind: How it is set.
        mark: CSS class of a pill around it, such as ok or bad.
        full: The whole of what *text* shortens.
        value: What sorting goes by, where the text would not do.
        link: Where the text leads.
    """

    text: str
    kind: Kind = ""
    mark: str = ""
    full: str = ""
    value: float | None = None
    link: str = ""

    @property
    def shown(self) -> Markup:
        """The text, as a link or in its pill if it has one."""
        if self.link:
            return Markup('<a href="{}">{}</a>').format(self.link, self.text)
        if not self.mark:
            return escape(self.text)
        return Markup('<span class="pill {}">{}</span>').format(self.mark, self.text)

    @property
    def attributes(self) -> Markup:
        """Class, full text and sort value, as HTML attributes; nothing for what is not there."""
        named = (
            ("class", self.kind),
            ("title", self.full),
            ("data-value", None if self.value is None else repr(self.value)),
        )
        return Markup().join(Markup(' {}="{}"').format(name, value) for name, value in named if value)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head; the first cell of each row names it."""

    template: ClassVar[str] = "table.html"
    name: str
    head: tuple[TableCell, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    sortable: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing, described for those who cannot see it."""

    id: str
    title: str
    description: str
    drawing: Drawing


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One or more panels with a title that states the finding, a caption that says how to read it, and the data.

    Attributes:
        note: Set apart below, for a figure whose numbers must not be used as they are.
    """

    template: ClassVar[str] = "figure.html"
    id: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[LegendEntry, ...]
    table: Table
    note: str = ""
    class_: Literal["", "wide"] = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two or more blocks side by side where there is room."""

    template: ClassVar[str] = "pair.html"
    blocks: tuple["Block", ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """What most readers do not need, behind a line to open."""

    template: ClassVar[str] = "folded.html"
    summary: str
    blocks: tuple["Block", ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading inside a section."""

    template: ClassVar[str] = "heading.html"
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list; each item is a short word in front and what it says."""

    template: ClassVar[str] = "items.html"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """One big number."""

    value: str
    label: str
    detail: str = ""
    class_: str = ""


@dataclass(frozen=True, slots=True)
class Tiles:
    """The big numbers."""

    template: ClassVar[str] = "tiles.html"
    tiles: tuple[Tile, ...]


class ShownVerdict(Protocol):
    """A verdict of any kind, as it is shown; *state* gives the colour, *sign* and *word* repeat what it says."""

    @property
    def state(self) -> str:
        """CSS class."""

    @property
    def sign(self) -> str:
        """One character."""

    @property
    def word(self) -> str:
        """The state in words."""

    @property
    def headline(self) -> str:
        """One sentence, without its full stop."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it rests on."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before the numbers are used."""


@dataclass(frozen=True, slots=True)
class VerdictBlock:
    """The verdict, beside the picture that says the same."""

    template: ClassVar[str] = "verdict.html"
    verdict: ShownVerdict
    command: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One artefact on the way."""

    name: str
    what: str
    size: str
    digest: str
    full: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Artefacts, each made from the one before."""

    template: ClassVar[str] = "chain.html"
    links: tuple[ChainLink, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A file beside the page."""

    name: str
    target: str
    what: str


@dataclass(frozen=True, slots=True)
class Links:
    """Files beside the page."""

    template: ClassVar[str] = "links.html"
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to copy, as they stand."""

    template: ClassVar[str] = "code.html"
    text: str


Block = Table | Figure | Pair | Folded | Heading | Items | Tiles | VerdictBlock | Chain | Links | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading and a place in the navigation; *short* is what the navigation says, if anything."""

    id: str
    title: str
    short: str
    lead: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Sections about one thing: a measured version, a model, or the run."""

    id: str
    title: str
    subtitle: str
    sections: tuple[Section, ...]


def heads(*names: str, numbers_from: int = 1) -> tuple[TableCell, ...]:
    """Make a table's head: text in front, numbers from the column *numbers_from* on."""
    return tuple(TableCell(name, "n" if place >= numbers_from else "") for place, name in enumerate(names))


def row(name: str, *values: str, full: str = "") -> tuple[TableCell, ...]:
    """Make a table's row of a name and numbers."""
    return (TableCell(name, full=full), *(TableCell(value, "n") for value in values))


def passed(*, ok: bool) -> TableCell:
    """Say whether something holds, by sign, word and colour."""
    return TableCell("✓ pass", "c", "ok") if ok else TableCell("✕ fail", "c", "bad")
