"""Makes the HTML report of a corpus: one file, which loads no other.

The report is drawn from the content of stats.json and of the manifest alone.
"""

import collections
import itertools
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.base import pages
from data_prep.corpus import corpus_stats
from data_prep.text import normalization

_MOST_FILES = 200  # one row each; a corpus can have thousands of books
_MOST_TEMPLATES = 100  # the rest is in stats.json
_MOST_LETTERS = 50  # outside the alphabet; a dump has thousands, most once


def page(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
  """Returns the report as HTML.

  Args:
    content: the content of stats.json, as `corpus_stats.Stats.content` returns
      it.
    parameters: option → value.
  """
  return pages.page(
    "Corpus report",
    "Корпусын тайлан: юу уншиж, юуг үлдээж, юуг яагаад хассан бэ",
    [
      pages.section("Kept", _READ, _totals(content), _files(content)),
      pages.section(
        "Lost",
        *_losses(content),
        _templates(content),
        _copies(content, parameters),
      ),
      pages.section("Lengths", *_lengths(content)),
      pages.section("Letters", *_letters(content["letters"])),
      pages.section("Settings", _settings(parameters)),
    ],
  )


_READ = """\
<p>"Read" counts the input after lines were split into sentences and long
documents cut; "kept" counts the corpus.</p>
"""


def _totals(content: Mapping[str, Any]) -> str:
  return pages.table(
    "In all",
    ["", "read", "kept", "share"],
    [
      [measure, *_kept(content, measure), _kept_share(content, measure)]
      for measure in corpus_stats.MEASURES
    ],
  )


def _kept(counts: Mapping[str, int], measure: str) -> list[int]:
  """Returns [read, kept]: how much text was read, and how much was kept.

  Args:
    counts: the counts of stats.json, of the corpus or of one file.
    measure: the unit of the result: "documents", "sentences" or "words".
  """
  return [counts.get(f"{measure} read", 0), counts.get(measure, 0)]


def _kept_share(counts: Mapping[str, int], measure: str) -> pages.Share:
  """Returns a table cell with the percentage of the text that was kept.

  Args:
    counts: the counts of stats.json, of the corpus or of one file.
    measure: the unit: "documents", "sentences" or "words".
  """
  read, kept = _kept(counts, measure)
  return pages.Share(kept, read)


def _files(content: Mapping[str, Any]) -> str:
  return pages.table(
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
  """Returns file → counts, for the first 200 files of the corpus.

  The counts of further files are summed in one more entry, whose name states
  the number of these files.
  """
  files = iter(content["files"].items())
  by_file = dict(itertools.islice(files, _MOST_FILES))
  if remaining := [counts for _, counts in files]:
    by_file[f"{len(remaining):,} more, see stats.json"] = sum(
      map(collections.Counter, remaining), collections.Counter()
    )
  return by_file


def _losses(content: Mapping[str, Any]) -> list[str]:
  """Returns the HTML of the tables of losses.

  The tables show the dropped documents by reason and by file, and then the
  dropped or changed sentences by reason and by file.
  """
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
  """Returns a table of the reasons of losses, the most frequent first.

  Args:
    content: the content of stats.json.
    kind: corpus_stats.DROPPED or LINES.
    caption: the caption of the table.
    whole: the unit of the counts: "documents" or "sentences".
  """
  reasons = _of_kind(content, kind)
  read = content.get(f"{whole} read", 0)
  examples = content["examples"]
  return pages.table(
    caption,
    ["reason", whole, "share of all read", "for example"],
    [
      [
        name,
        count,
        pages.Share(count, read),
        next(iter(examples.get(name, [])), ""),
      ]
      for name, count in sorted(reasons.items(), key=lambda x: (-x[1], x[0]))
    ],
  )


def _reasons_by_file(
  content: Mapping[str, Any], kind: str, caption: str
) -> str:
  """Returns a table of losses: a row for each file, a column for each reason.

  The result is "" for a corpus of a single file or without losses.

  Args:
    content: the content of stats.json.
    kind: corpus_stats.DROPPED for documents or LINES for sentences.
    caption: the caption of the table.
  """
  reasons = sorted(_of_kind(content, kind))
  if len(content["files"]) < 2 or not reasons:
    return ""
  return pages.table(
    f"{caption}, by file",
    ["file", *reasons],
    [
      [name, *(counts.get(kind + reason, 0) for reason in reasons)]
      for name, counts in _first_files(content).items()
    ],
  )


def _of_kind(content: Mapping[str, Any], kind: str) -> dict[str, int]:
  """Returns reason → count, for one kind of loss.

  Args:
    content: the content of stats.json.
    kind: corpus_stats.DROPPED for documents or LINES for sentences.
  """
  return {
    name.removeprefix(kind): count
    for name, count in content.items()
    if name.startswith(kind)
  }


def _templates(content: Mapping[str, Any]) -> str:
  """Returns a table of at most 100 unknown templates, the most frequent first.

  The result is "" if there are none.

  These are the templates to add to data_prep/sources/wikitext_templates.py.
  """
  counts = content.get("templates", {})
  if not counts:
    return ""
  read = content.get("sentences read", 0)
  return pages.table(
    "Unknown templates of the wiki, to be added to wikitext_templates.py",
    ["template", "sentences dropped", "share of all read"],
    [
      [name, count, pages.Share(count, read)]
      for name, count in [*counts.items()][:_MOST_TEMPLATES]
    ],
  )


def _copies(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
  """Returns a table of the dropped copies, in three rows.

  The rows are exact duplicates, near duplicates, and sentences of evaluation
  sets. Each row has the number of dropped documents or sentences, and whether
  such copies were looked for.

  Args:
    content: the content of stats.json.
    parameters: option → value.
  """
  near, sets = parameters["near_duplicates"], parameters["decontaminate"]
  counts = collections.Counter(content)
  return pages.table(
    "Copies and overlap",
    ["", "found", "looked for"],
    [
      ["exact duplicates", counts["dropped: exact duplicate"], "yes"],
      [
        "near duplicates",
        counts["dropped: near duplicate"],
        f"from a similarity of {near} on" if near else "no",
      ],
      [
        "sentences of evaluation sets",
        counts["lines: in an evaluation set"],
        sets or "no",
      ],
    ],
  )


def _lengths(content: Mapping[str, Any]) -> list[str]:
  return [
    _bars(caption, [unit, counted], content[key], sum(content[key].values()))
    for key, caption, unit, counted in (
      (
        "document_sentences",
        "Sentences in a document",
        "sentences",
        "documents",
      ),
      ("sentence_words", "Words in a sentence", "words", "sentences"),
    )
  ]


def _bars(
  caption: str, head: Sequence[str], counts: Mapping[str, int], total: int
) -> str:
  """Returns a table with a row for each count: name, count, percentage, bar.

  Args:
    caption: the caption of the table.
    head: the names of the columns.
    counts: name → count.
    total: the number of which the percentages are parts.
  """
  most = max(counts.values(), default=0)
  return pages.table(
    caption,
    [*head, "share", ""],
    [
      [name, count, pages.Share(count, total), pages.Bar(count, most)]
      for name, count in counts.items()
    ],
  )


def _letters(letters: Mapping[str, int]) -> list[str]:
  """Returns the HTML of two tables of counts.

  The first has the letters of the Mongolian alphabet in its order, also those
  that do not occur; the second has all other letters.

  Args:
    letters: lower-case letter → count of both cases, the largest count first.
  """
  total = sum(letters.values())
  own = {x: letters.get(x, 0) for x in normalization.ALPHABET}
  foreign = {x: n for x, n in letters.items() if x not in own}
  caption = "The Mongolian alphabet, in either case"
  return [
    _bars(caption, ["letter", "times"], own, total),
    _foreign_letters(foreign, total),
  ]


def _foreign_letters(foreign: Mapping[str, int], total: int) -> str:
  """Returns a table of the letters outside the Mongolian alphabet.

  The first row sums all of these letters. Then each of the 50 most frequent
  letters has a row, and a last row sums the rest.

  Args:
    foreign: letter → count, the largest count first.
    total: the number of all letters of the corpus.
  """
  counts = list(foreign.values())
  rest = counts[_MOST_LETTERS:]
  rows = [
    ("all of them", f"{len(counts):,} letters", sum(counts)),
    *((x, _name(x), n) for x, n in [*foreign.items()][:_MOST_LETTERS]),
    *(
      [("others", f"{len(rest):,}, see stats.json", sum(rest))] if rest else []
    ),
  ]
  return pages.table(
    "Letters outside the Mongolian alphabet",
    ["letter", "times", "share of all letters", "which"],
    [[x, n, pages.Share(n, total), which] for x, which, n in rows],
  )


def _name(letter: str) -> str:
  """Returns a letter's code point and name, to tell Latin c from Cyrillic с."""
  return f"U+{ord(letter):04X} {unicodedata.name(letter, '')}".strip()


def _settings(parameters: Mapping[str, Any]) -> str:
  return pages.table(
    "What decides the content",
    ["option", "value"],
    [
      [f"--{name}", json.dumps(value, ensure_ascii=False)]
      for name, value in parameters.items()
    ],
  )
