"""Reads and checks the rows of a classification set, by column name.

A `.csv` file is comma separated and quotes fields that need it. In a `.tsv`
file, which is tab separated, a quotation mark is an ordinary character. Both
begin with a header. A `.jsonl` file has one object on each line:

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

from data_prep.base import options
from data_prep.files import tables
from data_prep.text import alignment


@dataclasses.dataclass(frozen=True)
class Row:
  """One text to classify, or a pair of texts.

  Attributes:
    line: the line of the file at which the row begins; a header is line 1.
    text: the text, without white space around it.
    label: the name of the label, or for regression the number as it was
      written; "" if the file has no label.
    text_pair: the second text; "" for a single text.
    labels: the names of a multi-label row, which may be ().
    entities: (start, end, type) of each named entity in order. Start and end
      are characters of `text`; the end is not included.
    indent: the white space that precedes the text in the file.
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
    """Returns the columns to read: text, label and, for pairs, second text.

    Args:
      labelled: whether the file must have the label's column.
    """
    text = tables.Wanted(self.text_column, "--text_column")
    label = tables.Wanted(self.label_column, "--label_column", labelled)
    pair = tables.Wanted(self.text_pair_column, "--text_pair_column")
    return [text, label, *([pair] if self.text_pair_column else [])]


def stream(
  path: str, columns: Columns, labelled: bool = False
) -> Iterator[tuple[int, Row | tables.Bad]]:
  """Returns an iterator over the rows of a file.

  It yields (line, row), where a bad row is a `tables.Bad` with a reason. Only
  the current row is held in memory.

  Args:
    path: .csv, .tsv or .jsonl, compressed or not.
    columns: the names of the columns, and the type of the labels.
    labelled: True: a row without a valid label is bad. False: an invalid label
      is ignored, and the file needs no label column.

  Raises:
    options.InputError: for a missing column or a file without rows, when
      `stream` is called.
  """
  rows = tables.cells(path, columns.wanted(labelled))
  return ((line, _row(line, cells, columns, labelled)) for line, cells in rows)


def read(path: str, text_column: str, label_column: str) -> list[Row]:
  """Returns the rows of a file of texts with one label each.

  Args:
    path: the file.
    text_column, label_column: the headers of the columns.

  Raises:
    options.InputError: for a missing column, an empty file or bad rows.
  """
  return read_rows(path, Columns(text_column, label_column))


def read_rows(path: str, columns: Columns) -> list[Row]:
  """Returns the labelled rows of a file.

  Raises:
    options.InputError: for a missing column, an empty file or bad rows; the
      message names the line of the first bad row and the number of bad rows.
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
  """Raised for a cell with a wrong value.

  Args:
    expected, got: as in options.InputError.
  """


def _row(
  line: int,
  cells: tables.Cells | tables.Bad,
  columns: Columns,
  labelled: bool,
) -> Row | tables.Bad:
  """Returns the `Row` that cells of a table describe; a `tables.Bad` if wrong.

  Args:
    line: the line of the file at which the row begins.
    cells: the cells of the text, the label and, for pairs, the second text; or
      a `tables.Bad`, which is returned unchanged.
    columns: the names of the columns, and the type of the labels.
    labelled: True: a wrong label makes the row bad. False: a row with a wrong
      label has no label.
  """
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
  """Returns the text of a cell without white space around it.

  Raises:
    _CellError: for a cell that is empty or not a string.
  """
  if not isinstance(cell, str):
    raise _CellError(f"a text under {column!r}", _shown(cell))
  text = cell.strip()
  if not text:
    raise _CellError(f"a text under {column!r}", "an empty one")
  return text


def _shown(cell: Any) -> str:
  """Returns a cell as text for a message: "none", or 60 letters of its repr."""
  return "none" if cell is None else repr(cell)[:60]


def _name(label: Any) -> str:
  """Returns the name of a label, without white space around it.

  A number or a boolean is written as JSON writes it.

  Raises:
    _CellError: for a value that is no string, number or boolean.
  """
  if isinstance(label, str):
    return label.strip()
  if isinstance(label, int | float):
    return json.dumps(label)
  raise _CellError("the name of a label", _shown(label))


def _class(label: Any, _text: str, columns: Columns) -> dict[str, Any]:
  """Parses the label cell of a row with one class; returns {"label": name}.

  Raises:
    _CellError: for a cell without a name.
  """
  name = "" if label is None else _name(label)
  if not name:
    raise _CellError(f"a label under {columns.label_column!r}", "none")
  return {"label": name}


def _number(label: Any, text: str, columns: Columns) -> dict[str, Any]:
  """Parses the label cell of a regression row; returns {"label": text}.

  The text is the number as it was written.

  Raises:
    _CellError: for a cell without a finite number.
  """
  fields = _class(label, text, columns)
  with contextlib.suppress(ValueError):
    if math.isfinite(float(fields["label"])):
      return fields
  raise _CellError("a number such as 3.5", repr(fields["label"]))


def _several(label: Any, _text: str, columns: Columns) -> dict[str, Any]:
  """Parses the label cell of a multi-label row; returns {"labels": names}.

  The names are a tuple in the order of the cell, without repetitions.

  Raises:
    _CellError: for a cell without a list of names.
  """
  if isinstance(label, str) and columns.label_separator:
    label = label.split(columns.label_separator)
  names = map(_name, _list(label, columns))
  # In the order of the cell, without repeated names.
  return {"labels": tuple(dict.fromkeys(filter(None, names)))}


def _entities(label: Any, text: str, columns: Columns) -> dict[str, Any]:
  """Parses the label cell of a row of entities; returns {"entities": spans}.

  The spans are (start, end, type) in ascending order, without white space at
  their ends. Positions in the cell count from the beginning of the text in the
  file; positions in the result count from the first character of the row's
  text, which has no white space before it.

  Raises:
    _CellError: for a malformed, empty or overlapping span.
  """
  indent = len(text) - len(text.lstrip())
  spans = []
  for start, end, kind in map(_span, _list(label, columns)):
    given = 0 <= start < end <= len(text)
    first, last = alignment.trimmed(text, start, end) if given else (0, 0)
    if first == last:
      got = f"{[start, end, kind]} in one of {len(text)} characters"
      raise _CellError("a span with letters of the text", got)
    spans.append((first - indent, last - indent, kind))
  spans = sorted(set(spans))  # repeated spans count once
  for span, following in itertools.pairwise(spans):
    if following[0] < span[1]:
      raise _CellError("spans that do not overlap", f"{span} and {following}")
  return {"entities": tuple(spans)}


def _span(span: Any) -> tuple[int, int, str]:
  """Returns a span of JSON, [start, end, type], as a checked tuple.

  Raises:
    _CellError: for any other value than [start, end, type].
  """
  match span:
    case [int(start), int(end), str(kind)] if kind.strip():
      return start, end, kind.strip()
    case _:
      raise _CellError("[start, end, type]", _shown(span))


def _list(label: Any, columns: Columns) -> list[Any]:
  """Returns the list in a label cell.

  A cell that is a text, as in CSV and TSV files, is parsed as JSON.

  Raises:
    _CellError: when the cell is not a list.
  """
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

  A table must begin with a header. If the header has neither name, the first
  column is the text and the second the label.

  Raises:
    options.InputError: for a bad row, for a label other than 0 and 1, and for a
      missing or unclear header, as `tweet_columns` does.
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
  """Returns the names of the text and the label column of a tweet set.

  If the header has neither a column `text` nor a column `label`, the names are
  those of the first two columns. In JSON lines the names are always `text` and
  `label`.

  Args:
    path: the file.
    labelled: whether the file must have labels; without labels, the first
      column of any header without `text` is the text.

  Raises:
    options.InputError: for a header that names only one of `text` and `label`,
      has a single column, or looks like a row.
  """
  header = tables.header(path)
  if header is None or (
    "text" in header and ("label" in header or not labelled)
  ):
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
  """Returns the names of the labels that occur, sorted, for `class` rows."""
  return sorted({row.label for row in rows})


def label_counts(rows: Iterable[Row], label_type: str) -> dict[str, int]:
  """Returns label → the number of rows with this label, sorted by label.

  For label_type "entities" the labels are the types of the entities, and a row
  counts once for each type. For "regression" the result is empty.
  """
  counts: collections.Counter[str] = collections.Counter()
  for row in rows:
    counts.update(names_of(row, label_type))
  return dict(sorted(counts.items()))


def names_of(row: Row, label_type: str) -> set[str]:
  """Returns the labels of a row: its label, its labels or its entity types.

  For regression the result is empty.
  """
  if label_type == "class":
    return {row.label}
  return {*row.labels, *(kind for _, _, kind in row.entities)}


def check_several_labels(rows: Sequence[Row]) -> None:
  """Raises InputError if the training rows have fewer than two labels."""
  names = label_names(rows)
  if len(names) < 2:
    raise options.InputError(
      "at least two labels in the training rows",
      f"only {', '.join(map(repr, names))}",
      "check --label_column, or add rows of another label",
    )


def fingerprint(rows: Sequence[Row]) -> str:
  """Returns the hexadecimal SHA-256 of all texts and labels, in row order.

  The hash does not depend on the numbers of the rows' lines.
  """
  digest = hashlib.sha256()
  for row in rows:
    digest.update(f"{row.label}\0{row.text}\0".encode())
    more = (row.text_pair, row.labels, row.entities)
    if any(more):  # other rows keep the hash of earlier versions
      digest.update(json.dumps(more).encode())
  return digest.hexdigest()
