"""Makes the parts of our HTML pages, which run no script and load no file.

A page can be read on a phone and on a wide screen, in light and dark. Texts are
escaped: markup in them is shown as text.
"""

import dataclasses
import html
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Share:
  """A table cell that shows part / whole as a percentage.

  Attributes:
    part, whole: the two counts.
  """

  part: int
  whole: int

  @property
  def percent(self) -> str:
    """The percentage with two decimals, as text; 0.00 if `whole` is 0."""
    return f"{100 * self.part / self.whole if self.whole else 0:.2f}"


class Bar(Share):
  """A table cell with a bar and no number.

  The bar is part / whole of the cell's width, so `whole` is the value of the
  longest bar of the column.
  """


Cell = str | int | float | Share


@dataclasses.dataclass(frozen=True)
class Line:
  """A curve of a chart.

  Attributes:
    name: the name in the legend.
    points: (step, height) of each point, in order of the steps.
    kind: "many" (a plain curve), "few" (dots mark the points) or "limit" (a
      dashed curve).
    spread: the error of each height, drawn as a bar from height − spread to
      height + spread; empty for a line without bars.
  """

  name: str
  points: Sequence[tuple[float, float]]
  kind: str = "many"
  spread: Sequence[float] = ()


# The page runs no script and loads no file, whatever its texts hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --bar: #2f6db3; --soft: #8883;
  --second: #b3541e; --third: #3a7d44; }
@media (prefers-color-scheme: dark) {
  :root { --bar: #7db2ef; --second: #f0a36b; --third: #86cf92; } }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 56rem;
  margin: 0 auto; padding: 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 2px solid var(--bar); }
.table { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; }
caption { text-align: left; font-weight: bold; padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0;
  border-bottom: 1px solid var(--soft); overflow-wrap: break-word; }
th { font-weight: normal; }
thead th { vertical-align: bottom; opacity: .75; }
td:last-child:not([class]) { min-width: 10rem; max-width: 36rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
tbody th { min-width: 6rem; max-width: 16rem; }
.bar { width: 100%; min-width: 5rem; padding-right: 0; }
.bar svg { display: block; width: 100%; height: 1rem; margin-top: .25rem; }
rect { fill: var(--bar); }
figure { margin: 1.5rem 0; }
figcaption { font-weight: bold; padding-bottom: .5rem; }
.chart { display: block; width: 100%; height: 13rem; overflow: visible; }
.chart line, polyline { fill: none; stroke: var(--line); stroke-width: 2;
  vector-effect: non-scaling-stroke; }
.chart text { font-size: .75rem; fill: currentColor; stroke: Canvas;
  stroke-width: 4px; paint-order: stroke; }
.chart .grid { stroke: var(--soft); stroke-width: 1; }
circle { fill: var(--line); }
.limit { stroke-dasharray: 6 4; }
.line1 { --line: var(--bar); }
.line2 { --line: var(--second); }
.line3 { --line: var(--third); }
.below { display: flex; flex-wrap: wrap; justify-content: space-between;
  gap: 0 1.5rem; margin: .25rem 0; font-size: .875rem; }
.below [class] { border-left: .75rem solid var(--line); padding-left: .5rem; }
"""

# A screen cannot show more points than it is wide.
_MOST_POINTS = 400


def page(title: str, mongolian: str, sections: Sequence[str]) -> str:
  """Returns an HTML page of sections under its title.

  Args:
    title: the title in English.
    mongolian: the title in Mongolian.
    sections: the HTML of each section, as `section` returns it.
  """
  body = "\n".join(sections)
  return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{_text(title)}</h1>
<p lang="mn">{_text(mongolian)}</p>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def section(title: str, *parts: str) -> str:
  """Returns the HTML of a section: a heading, and under it the given HTML.

  Args:
    title: the text of the heading.
    *parts: the HTML of tables, charts and paragraphs.
  """
  return f"<section>\n<h2>{_text(title)}</h2>\n{''.join(parts)}</section>"


def paragraph(text: str) -> str:
  """Returns a paragraph of HTML that shows a text."""
  return f"<p>{_text(text)}</p>\n"


def table(
  caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> str:
  """Returns the HTML of a table whose first column names its rows.

  Without rows the result is a paragraph that says "none".

  Args:
    caption: the text above the table.
    head: the names of the columns.
    rows: the cells of each row, as many as `head` has. The first row decides
      how the names of the columns are aligned.
  """
  if not rows:
    return f"<p>{_text(caption)}: none.</p>\n"
  heads = "".join(
    f'<th scope="col"{_class(cell)}>{_text(name)}</th>'
    for name, cell in zip(head, rows[0], strict=True)
  )
  body = "".join(
    f'<tr><th scope="row"><bdi>{_text(str(first))}</bdi></th>'
    f"{''.join(map(_cell, rest))}</tr>\n"
    for first, *rest in rows
  )
  # tabindex: a table wider than the screen can be scrolled by keyboard too.
  return (
    f'<div class="table" role="region" aria-label="{_text(caption)}" '
    f'tabindex="0">\n<table>\n<caption>{_text(caption)}</caption>\n'
    f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n"
    "</table>\n</div>\n"
  )


def _cell(value: Cell) -> str:
  """Returns the HTML of a cell; a float that is not finite is a dash."""
  if isinstance(value, Bar):
    shown = (
      '<svg aria-hidden="true">'
      f'<rect width="{value.percent}%" height="100%"/></svg>'
    )
  elif isinstance(value, Share):
    shown = f"{value.percent} %"
  elif isinstance(value, int):
    shown = f"{value:,}"
  elif isinstance(value, float):
    shown = f"{value:.4g}" if math.isfinite(value) else "–"
  else:
    shown = f"<bdi>{_text(value)}</bdi>"
  return f"<td{_class(value)}>{shown}</td>"


def _class(value: Cell) -> str:
  """Returns the class attribute of a cell and of the head of its column.

  The class is "bar" or "number"; a text has no class, which gives "".
  """
  if isinstance(value, Bar):
    return ' class="bar"'
  return "" if isinstance(value, str) else ' class="number"'


def chart(caption: str, lines: Sequence[Line]) -> str:
  """Returns the HTML of a chart: curves over the steps of a run.

  The legend states the last height of each curve. Points that are not finite
  are left out, and so are lines without a finite point. The result is "" if no
  line remains, or only lines of the kind "limit".
  """
  lines = [line for line in map(_finite, lines) if line.points]
  if all(line.kind == "limit" for line in lines):
    return ""
  axes = _Axes.around(lines)
  drawn = "".join(
    _drawn(line, f"line{number} {line.kind}", axes)
    for number, line in enumerate(lines, start=1)
  )
  legend = "".join(
    f'<span class="line{number}">{_text(_last(line))}</span>'
    for number, line in enumerate(lines, start=1)
  )
  label = _text("; ".join([caption, *map(_last, lines)]))
  return (
    f"<figure>\n<figcaption>{_text(caption)}</figcaption>\n"
    f'<svg class="chart" role="img" aria-label="{label}">\n'
    f"{axes.grid()}{drawn}</svg>\n"
    f'<p class="below"><span>step {axes.left:,.0f}</span>'
    f"<span>step {axes.right:,.0f}</span></p>\n"
    f'<p class="below">{legend}</p>\n</figure>\n'
  )


def _finite(line: Line) -> Line:
  """Returns a line without the points whose height or spread is not finite.

  For example, the accuracy over no sentence pairs is NaN.
  """
  spread = line.spread or [0.0] * len(line.points)
  kept = [
    (point, off)
    for point, off in zip(line.points, spread, strict=True)
    if math.isfinite(point[1] + off)
  ]
  return dataclasses.replace(
    line,
    points=[point for point, _ in kept],
    spread=[off for _, off in kept] if line.spread else (),
  )


def _last(line: Line) -> str:
  """Returns the legend of a line: its name, its last height and its ± spread."""
  off = f" ± {line.spread[-1]:.2g}" if line.spread else ""
  return f"{line.name}: {line.points[-1][1]:.4g}{off}"


@dataclasses.dataclass(frozen=True)
class _Axes:
  """The area that a chart shows.

  Attributes:
    left, right: the steps at its left and right edge.
    bottom, top: the heights at its lower and upper edge.
  """

  left: float
  right: float
  bottom: float
  top: float

  @classmethod
  def around(cls, lines: Sequence[Line]) -> "_Axes":
    """Returns axes that show all points of the lines, with their spread.

    Above and below the points, a twentieth of the range of the heights is left
    free. If all heights are equal, a twentieth of the height is left free, or 1
    if the height is 0.

    Args:
      lines: one line or more, each with a point or more.
    """
    places = [x for line in lines for x, _ in line.points]
    heights = [
      y + sign * off
      for line in lines
      for (_, y), off in zip(
        line.points, line.spread or [0.0] * len(line.points), strict=True
      )
      for sign in (-1, 1)
    ]
    low, high = min(heights), max(heights)
    room = (high - low) / 20 or abs(high) / 20 or 1.0
    return cls(min(places), max(places), low - room, high + room)

  def x(self, place: float) -> float:
    """Returns the position of the step `place`, in percent from the left.

    On a chart of a single step, the position is 50.
    """
    wide = self.right - self.left
    return 100 * (place - self.left) / wide if wide else 50.0

  def y(self, height: float) -> float:
    """Returns the position of a height, in percent from the top."""
    return 100 * (self.top - height) / (self.top - self.bottom)

  def grid(self) -> str:
    """Returns the SVG of horizontal grid lines, each with its height as text.

    The heights are multiples of 1, 2 or 5 times a power of ten.
    """
    rough = (self.top - self.bottom) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough)
    heights = range(
      math.ceil(self.bottom / step), math.floor(self.top / step) + 1
    )
    return "".join(
      f'<line class="grid" x1="0" x2="100%" y1="{self.y(n * step):.2f}%" '
      f'y2="{self.y(n * step):.2f}%"/>'
      f'<text y="{self.y(n * step):.2f}%" dy="-2">{n * step:.4g}</text>\n'
      for n in heights
    )


def _drawn(line: Line, kind: str, axes: _Axes) -> str:
  """Returns the SVG of a line: its curve, its dots, and its spread as bars.

  Args:
    line: the line.
    kind: the CSS classes, such as "line1 few".
    axes: the axes of the chart.
  """
  points = " ".join(
    f"{axes.x(x):.2f},{axes.y(y):.2f}" for x, y in _thinned(line.points)
  )
  marks = ""
  if line.kind == "few":
    marks = "".join(
      f'<circle class="{kind}" cx="{axes.x(x):.2f}%" cy="{axes.y(y):.2f}%" '
      'r="3"/>'
      for x, y in _thinned(line.points)
    )
  bars = "".join(
    f'<line class="{kind}" x1="{axes.x(x):.2f}%" x2="{axes.x(x):.2f}%" '
    f'y1="{axes.y(y - off):.2f}%" y2="{axes.y(y + off):.2f}%"/>'
    for (x, y), off in zip(line.points, line.spread, strict=False)
  )
  return (
    '<svg viewBox="0 0 100 100" preserveAspectRatio="none">'
    f'<polyline class="{kind}" points="{points}"/></svg>{marks}{bars}\n'
  )


def _thinned(
  points: Sequence[tuple[float, float]],
) -> list[tuple[float, float]]:
  """Returns at most _MOST_POINTS points of a curve, in their order.

  A curve of more points is cut into runs of neighbouring points, and the lowest
  and the highest point of each run are kept, so that spikes show.
  """
  a_stretch = 2 * math.ceil(len(points) / _MOST_POINTS)
  if a_stretch <= 2:
    return list(points)
  kept = []
  for start in range(0, len(points), a_stretch):
    stretch = points[start : start + a_stretch]
    kept += sorted({min(stretch, key=_height), max(stretch, key=_height)})
  return kept


def _height(point: tuple[float, float]) -> float:
  return point[1]


def _text(text: str) -> str:
  """Returns a text escaped for HTML, with U+FFFD for unprintable characters."""
  return html.escape("".join(x if x.isprintable() else "\ufffd" for x in text))
