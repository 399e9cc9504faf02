"""The page that shows what a corpus holds: one file, which fetches nothing.

It is drawn from what stats.json and the manifest hold and from nothing else.
"""

import collections
import dataclasses
import html
import itertools
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep import corpus_stats, normalization

_MOST_FILES = 200  # a row each; a corpus can be of as many thousand books
_MOST_LETTERS = 50  # beside the alphabet's; a dump has thousands, most once


@dataclasses.dataclass(frozen=True)
class _Share:
  """A part of a whole, in percent."""

  part: int
  whole: int

  @property
  def percent(self) -> str:
    return f"{100 * self.part / self.whole if self.whole else 0:.2f}"


class _Bar(_Share):
  """The same drawn; its whole is the longest bar of the table."""


_Cell = str | int | _Share


def page(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
  """Returns the page as HTML.

  Args:
    content: what `corpus_stats.Stats.content` returns, or stats.json holds.
    parameters: option → value.
  """
  return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>Corpus report</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>Corpus report</h1>
<p lang="mn">Корпусын тайлан: юу уншиж, юуг үлдээж, юуг яагаад хассан бэ</p>
</header>
<main>
{_section("Kept", _READ, _totals(content), _files(content))}
{_section("Lost", *_losses(content), _copies(content, parameters))}
{_section("Lengths", *_lengths(content))}
{_section("Letters", *_letters(content["letters"]))}
{_section("Settings", _settings(parameters))}
</main>
</body>
</html>
"""


# The page runs nothing and loads nothing, whatever its texts say.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --bar: #2f6db3; --soft: #8883; }
@media (prefers-color-scheme: dark) { :root { --bar: #7db2ef; } }
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
svg { display: block; width: 100%; height: 1rem; margin-top: .25rem; }
rect { fill: var(--bar); }
"""


def _section(title: str, *parts: str) -> str:
  return f"<section>\n<h2>{title}</h2>\n{''.join(parts)}</section>"


def _table(
  caption: str, head: Sequence[str], rows: Sequence[Sequence[_Cell]]
) -> str:
  """Returns a table whose first column names its rows."""
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
  # To be scrolled by keyboard too where it is wider than the screen.
  return (
    f'<div class="table" role="region" aria-label="{_text(caption)}" '
    f'tabindex="0">\n<table>\n<caption>{_text(caption)}</caption>\n'
    f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n"
    "</table>\n</div>\n"
  )


def _cell(value: _Cell) -> str:
  if isinstance(value, _Bar):
    shown = (
      '<svg aria-hidden="true">'
      f'<rect width="{value.percent}%" height="100%"/></svg>'
    )
  elif isinstance(value, _Share):
    shown = f"{value.percent} %"
  elif isinstance(value, int):
    shown = f"{value:,}"
  else:
    shown = f"<bdi>{_text(value)}</bdi>"
  return f"<td{_class(value)}>{shown}</td>"


def _class(value: _Cell) -> str:
  """Returns the attribute by which a cell and its head are set alike."""
  if isinstance(value, _Bar):
    return ' class="bar"'
  return "" if isinstance(value, str) else ' class="number"'


def _text(text: str) -> str:
  """Escapes a text; what has no shape, or turns the line, is made visible."""
  return html.escape("".join(x if x.isprintable() else "\ufffd" for x in text))


_READ = """\
<p>Read is what there was once lines were split into sentences and long
documents cut; kept is what the corpus holds.</p>
"""


def _totals(content: Mapping[str, Any]) -> str:
  return _table(
    "In all",
    ["", "read", "kept", "share"],
    [
      [measure, *_kept(content, measure), _kept_share(content, measure)]
      for measure in corpus_stats.MEASURES
    ],
  )


def _kept(counts: Mapping[str, int], measure: str) -> list[int]:
  return [counts.get(f"{measure} read", 0), counts.get(measure, 0)]


def _kept_share(counts: Mapping[str, int], measure: str) -> _Share:
  read, kept = _kept(counts, measure)
  return _Share(kept, read)


def _files(content: Mapping[str, Any]) -> str:
  return _table(
    "By file",
    [
      "file",
      *(f"{m} {x}" for m in corpus_stats.MEASURES for x in ("read", "kept")),
      "share of words",
    ],
    [
      [
        name,
        *(n for m in corpus_stats.MEASURES for n in _kept(counts, m)),
        _kept_share(counts, "words"),
      ]
      for name, counts in _first_files(content).items()
    ],
  )


def _first_files(content: Mapping[str, Any]) -> dict[str, Mapping[str, int]]:
  """Returns the counts of the first files, and of the others together."""
  files = iter(content["files"].items())
  found = dict(itertools.islice(files, _MOST_FILES))
  if others := [counts for _, counts in files]:
    found[f"{len(others):,} more, see stats.json"] = sum(
      map(collections.Counter, others), collections.Counter()
    )
  return found


def _losses(content: Mapping[str, Any]) -> list[str]:
  return [
    table
    for kind, caption, whole in (
      (corpus_stats.DROPPED, "Documents dropped", "documents"),
      (corpus_stats.LINES, "Sentences dropped or changed", "sentences"),
    )
    for table in (
      _reasons(content, kind, caption, whole),
      _reasons_by_file(content, kind, caption),
    )
  ]


def _reasons(
  content: Mapping[str, Any], kind: str, caption: str, whole: str
) -> str:
  reasons = _of_kind(content, kind)
  read = content.get(f"{whole} read", 0)
  examples = content["examples"]
  return _table(
    caption,
    ["reason", whole, "share of all read", "for example"],
    [
      [name, count, _Share(count, read), next(iter(examples.get(name, [])), "")]
      for name, count in sorted(reasons.items(), key=lambda x: (-x[1], x[0]))
    ],
  )


def _reasons_by_file(
  content: Mapping[str, Any], kind: str, caption: str
) -> str:
  """Says nothing of a single file, whose losses are all there are."""
  reasons = sorted(_of_kind(content, kind))
  if len(content["files"]) < 2 or not reasons:
    return ""
  return _table(
    f"{caption}, by file",
    ["file", *reasons],
    [
      [name, *(counts.get(kind + reason, 0) for reason in reasons)]
      for name, counts in _first_files(content).items()
    ],
  )


def _of_kind(content: Mapping[str, Any], kind: str) -> dict[str, int]:
  return {
    name.removeprefix(kind): count
    for name, count in content.items()
    if name.startswith(kind)
  }


def _copies(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
  """Tells "none found" from "not looked for"."""
  near, sets = parameters["near_duplicates"], parameters["decontaminate"]
  found = collections.Counter(content)
  return _table(
    "Copies and overlap",
    ["", "found", "looked for"],
    [
      ["exact duplicates", found["dropped: exact duplicate"], "yes"],
      [
        "near duplicates",
        found["dropped: near duplicate"],
        f"from a similarity of {near} on" if near else "no",
      ],
      [
        "sentences of evaluation sets",
        found["lines: in an evaluation set"],
        sets or "no",
      ],
    ],
  )


def _lengths(content: Mapping[str, Any]) -> list[str]:
  return [
    _bars(caption, [unit, counted], content[key], sum(content[key].values()))
    for key, caption, unit, counted in (
      ("document_sentences", "Sentences in a document", "sentences",
       "documents"),
      ("sentence_words", "Words in a sentence", "words", "sentences"),
    )
  ]  # fmt: skip


def _bars(
  caption: str, head: Sequence[str], counts: Mapping[str, int], total: int
) -> str:
  most = max(counts.values(), default=0)
  return _table(
    caption,
    [*head, "share", ""],
    [
      [name, count, _Share(count, total), _Bar(count, most)]
      for name, count in counts.items()
    ],
  )


def _letters(letters: Mapping[str, int]) -> list[str]:
  """Shows the alphabet in its order, then what is not of the alphabet."""
  total = sum(letters.values())
  own = {x: letters.get(x, 0) for x in normalization.ALPHABET}
  others = {x: n for x, n in letters.items() if x not in own}
  caption = "The Mongolian alphabet, in either case"
  return [
    _bars(caption, ["letter", "times"], own, total),
    _others(others, total),
  ]


def _others(others: Mapping[str, int], total: int) -> str:
  counts = list(others.values())
  rest = counts[_MOST_LETTERS:]
  rows = [
    ("all of them", f"{len(counts):,} letters", sum(counts)),
    *((x, _name(x), n) for x, n in [*others.items()][:_MOST_LETTERS]),
    *(
      [("others", f"{len(rest):,}, see stats.json", sum(rest))] if rest else []
    ),
  ]
  return _table(
    "Letters outside the Mongolian alphabet",
    ["letter", "times", "share of all letters", "which"],
    [[x, n, _Share(n, total), which] for x, which, n in rows],
  )


def _name(letter: str) -> str:
  """Tells letters apart that look the same, such as Latin c and Cyrillic с."""
  return f"U+{ord(letter):04X} {unicodedata.name(letter, '')}".strip()


def _settings(parameters: Mapping[str, Any]) -> str:
  return _table(
    "What decides the content",
    ["option", "value"],
    [
      [f"--{name}", json.dumps(value, ensure_ascii=False)]
      for name, value in parameters.items()
    ],
  )
