"""Rows of a classification set: read by column name, and checked.

A `.csv` file is comma separated and quotes fields that need it; a `.tsv` file
is tab separated and a quotation mark in it is text like any other. Both begin
with a header; a `.jsonl` file has an object a line:

    text	label
    Өнөөдөр цас орлоо	weather

    {"text": "Өнөөдөр цас орлоо", "label": "weather"}
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from data_prep import alignment, options, tables


@dataclasses.dataclass(frozen=True)
class Row:
  """One text to classify, or a pair of them.

  Attributes:
    line: where it begins in its file, the header being line 1.
    text: as it stands there, without white space around it.
    indent: the white space that stands there in front of the text.
    label: its name, or for regression the number as it was written; "" where
      the file has none.
    text_pair: the second text; "" where there is none.
    labels: the names of a row that may have several, or none.
    entities: (start, end, type) of each named entity, in characters of `text`,
      in order, the end not included.
  """

  line: int
  text: str
  label: str = ""
  text_pair: str = ""
  labels: tuple[str, ...] = ()
  entities: tuple[tuple[int, int, str], ...] = ()
  indent: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class Columns(options.Group):
  """Columns of a file of labelled rows."""

  text_column: str = options.option(
    "text",
    "Column header, or JSON key, of the texts.",
  )
  label_column: str = options.option(
    "label",
    "Column header, or JSON key, of the labels.",
  )
  text_pair_column: str = options.option(
    "",
    "Column header, or JSON key, of the second texts, for pairs of texts. "
    "By default rows have one text.",
  )
  label_type: str = options.option(
    "class",
    "Kind of the labels. class: one name in each row. multi_label: any "
    "number of names. regression: a number. entities: [[start, end, "
    "type], …], where start and end count characters of the text.",
    choices=("class", "multi_label", "regression", "entities"),
  )
  label_separator: str = options.option(
    "",
    "Characters between the labels of a row, such as a comma, for "
    "--label_type=multi_label. By default the labels of a row are a JSON "
    "list.",
  )

  def wanted(self, labelled: bool) -> list[tables.Wanted]:
    """The columns of the text, the label and, if any, the second text."""
    text = tables.Wanted(self.text_column, "--text_column")
    label = tables.Wanted(self.label_column, "--label_column", labelled)
    pair = tables.Wanted(self.text_pair_column, "--text_pair_column")
    return [text, label, *([pair] if self.text_pair_column else [])]


def stream(
  path: str, columns: Columns, labelled: bool = False
) -> Iterator[tuple[int, Row | tables.Bad]]:
  """Returns the rows of a file one by one, bad ones as what is wrong.

  Nothing but the current row is held. `reason` of a `tables.Bad` says in words
  what is wrong.

  Args:
    path: .csv, .tsv or .jsonl, compressed or not.
    columns: which of its columns are what.
    labelled: a row without a proper label is bad. Else labels are read where
      there are proper ones, and the column may be missing.

  Raises:
    options.InputError: for a missing column or a file without rows, before the
      first row is taken.
  """
  rows = tables.cells(path, columns.wanted(labelled))
  return ((line, _row(line, cells, columns, labelled)) for line, cells in rows)


def read(path: str, text_column: str, label_column: str) -> list[Row]:
  """Returns the rows of a file of texts with one label each."""
  return read_rows(path, Columns(text_column, label_column))


def read_rows(path: str, columns: Columns) -> list[Row]:
  """Returns the labelled rows of a file.

  Raises:
    options.InputError: for a missing column, an empty file, and bad rows, with
      the line of the first and their number.
  """
  rows, bad = [], []
  for line, row in stream(path, columns, labelled=True):
    if isinstance(row, tables.Bad):
      bad.append((line, row))
    else:
      rows.append(row)
  if bad:
    (line, first), *rest = bad
    more = f" (and {len(rest)} bad rows more)" if rest else ""
    raise dataclasses.replace(first, got=first.got + more).error(path, line)
  return rows


class _CellError(Exception):
  """A cell that is not what its column should hold: expected, got."""


def _row(
  line: int,
  cells: tables.Cells | tables.Bad,
  columns: Columns,
  labelled: bool,
) -> Row | tables.Bad:
  if isinstance(cells, tables.Bad):
    return cells
  text, label, *pair = cells
  try:
    row = Row(
      line,
      _text(text, columns.text_column),
      text_pair=_text(pair[0], columns.text_pair_column) if pair else "",
      indent=text[: len(text) - len(text.lstrip())],
    )
    parse = _LABELS[columns.label_type]
    try:
      return dataclasses.replace(row, **parse(label, text, columns))
    except _CellError:
      if labelled:
        raise
      return row
  except _CellError as error:
    expected, got = error.args
    return tables.Bad(expected, got, "mend or remove the row")


def _text(cell: Any, column: str) -> str:
  if not isinstance(cell, str):
    raise _CellError(f"a text under {column!r}", _shown(cell))
  text = cell.strip()
  if not text:
    raise _CellError(f"a text under {column!r}", "an empty one")
  return text


def _shown(cell: Any) -> str:
  return "none" if cell is None else repr(cell)[:60]


def _name(label: Any) -> str:
  """The name of a label: JSON's numbers and true, false as JSON writes them."""
  if isinstance(label, str):
    return label.strip()
  if isinstance(label, int | float):
    return json.dumps(label)
  raise _CellError("the name of a label", _shown(label))


def _class(label: Any, text: str, columns: Columns) -> dict[str, Any]:
  name = "" if label is None else _name(label)
  if not name:
    raise _CellError(f"a label under {columns.label_column!r}", "none")
  return {"label": name}


def _number(label: Any, text: str, columns: Columns) -> dict[str, Any]:
  fields = _class(label, text, columns)
  with contextlib.suppress(ValueError):
    if math.isfinite(float(fields["label"])):
      return fields
  raise _CellError("a number such as 3.5", repr(fields["label"]))


def _several(label: Any, text: str, columns: Columns) -> dict[str, Any]:
  if isinstance(label, str) and columns.label_separator:
    label = label.split(columns.label_separator)
  names = map(_name, _list(label, columns))
  # In their order, each once.
  return {"labels": tuple(dict.fromkeys(filter(None, names)))}


def _entities(label: Any, text: str, columns: Columns) -> dict[str, Any]:
  """Checks spans; they lose what cannot be seen at their ends."""
  indent = len(text) - len(text.lstrip())
  spans = []
  for start, end, kind in map(_span, _list(label, columns)):
    given = 0 <= start < end <= len(text)
    first, last = alignment.trimmed(text, start, end) if given else (0, 0)
    if first == last:
      got = f"{[start, end, kind]} in one of {len(text)} characters"
      raise _CellError("a span with letters of the text", got)
    spans.append((first - indent, last - indent, kind))
  spans = sorted(set(spans))  # a span that is there twice is one
  for span, following in itertools.pairwise(spans):
    if following[0] < span[1]:
      raise _CellError("spans that do not overlap", f"{span} and {following}")
  return {"entities": tuple(spans)}


def _span(span: Any) -> tuple[int, int, str]:
  match span:
    case [int(start), int(end), str(kind)] if kind.strip():
      return start, end, kind.strip()
    case _:
      raise _CellError("[start, end, type]", _shown(span))


def _list(label: Any, columns: Columns) -> list[Any]:
  """What a cell lists: JSON in a CSV or TSV."""
  if isinstance(label, str):
    with contextlib.suppress(ValueError, RecursionError):
      label = json.loads(label)
  if not isinstance(label, list):
    expected = f"a JSON list under {columns.label_column!r}"
    if columns.label_type == "multi_label":
      expected += " (or give --label_separator)"
    raise _CellError(expected, _shown(label))
  return label


_LABELS: dict[str, Callable[[Any, str, Columns], dict[str, Any]]] = {
  "class": _class,
  "multi_label": _several,
  "regression": _number,
  "entities": _entities,
}


def read_tweets(path: str) -> list[Row]:
  """Returns the rows of a tweet set: columns text and label, labels 0 and 1.

  Where the header names neither, the first column is the text and the second
  the label.
  """
  rows = read_rows(path, tweet_columns(path))
  for row in rows:
    if row.label not in ("0", "1"):
      raise options.InputError(
        f"label 0 or 1 at {path}:{row.line}",
        repr(row.label),
        "mend the row, or use --task_name=csv for other labels",
      )
  return rows


def tweet_columns(path: str, labelled: bool = True) -> Columns:
  """Returns which columns of a tweet set are text and label.

  Raises:
    options.InputError: for a file without such a header.
  """
  header = tables.header(path)
  if header is None or "text" in header and ("label" in header or not labelled):
    return Columns()
  if not labelled and header:
    return Columns(header[0])
  named = "text" in header or "label" in header
  if named or len(header) < 2 or header[1] in ("0", "1"):
    raise options.InputError(
      f"a header of at least two columns, text and label, in {path}",
      repr("\t".join(header)),
      "put the line text<TAB>label first",
    )
  return Columns(*header[:2])


def label_names(rows: Sequence[Row]) -> list[str]:
  """Returns the names of the labels that occur, sorted."""
  return sorted({row.label for row in rows})


def label_counts(rows: Iterable[Row], label_type: str) -> dict[str, int]:
  """Returns each label → how many rows have it, sorted by name.

  Of label_type "entities" the types are counted, each once in a row; of
  "regression" the result is empty: numbers are no names.
  """
  counts: collections.Counter[str] = collections.Counter()
  for row in rows:
    counts.update(names_of(row, label_type))
  return dict(sorted(counts.items()))


def names_of(row: Row, label_type: str) -> set[str]:
  """Returns the labels of a row, as `label_counts` counts them."""
  if label_type == "class":
    return {row.label}
  return {*row.labels, *(kind for _, _, kind in row.entities)}


def check_several_labels(rows: Sequence[Row]) -> None:
  """Refuses training rows that all have one label."""
  names = label_names(rows)
  if len(names) < 2:
    raise options.InputError(
      "at least two labels in the training rows",
      f"only {', '.join(map(repr, names))}",
      "check --label_column, or add rows of another label",
    )


def fingerprint(rows: Sequence[Row]) -> str:
  """Returns the hexadecimal SHA-256 of what rows say, in their order."""
  digest = hashlib.sha256()
  for row in rows:
    digest.update(f"{row.label}\0{row.text}\0".encode())
    more = (row.text_pair, row.labels, row.entities)
    if any(more):  # without them the hash is that of earlier versions
      digest.update(json.dumps(more).encode())
  return digest.hexdigest()
