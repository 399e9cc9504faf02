"""Rows of a classification set: read by column name, checked, split.

A `.csv` file is comma separated and quotes fields that need it; a `.tsv` file
is tab separated and a quotation mark in it is text like any other. Both begin
with a header:

    text	label
    Өнөөдөр цас орлоо	weather
"""

import collections
import csv
import dataclasses
import hashlib
import unicodedata
from collections.abc import Iterator, Sequence

from data_prep import options, storage

# A constant, so that the split depends neither on the seed nor on the order.
_SALT = b"albert-mn held-out rows"


@dataclasses.dataclass(frozen=True)
class Row:
  """One text to classify, or a pair of them.

  Attributes:
    line: where it begins in its file, the header being line 1.
    text: as it stands there, without white space around it.
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


def read(path: str, text_column: str, label_column: str) -> list[Row]:
  """Returns the rows of a file of labelled texts.

  Args:
    path: a `.csv` or `.tsv` file, or one of these with `.gz`.
    text_column: the header of the texts.
    label_column: the header of the label names.

  Raises:
    options.InputError: for a missing column, a row of another width than the
      header (with its line), an empty file, text or label.
  """
  header, body = _header_and_body(path)
  text = column(header, text_column, "--text_column", path)
  label = column(header, label_column, "--label_column", path)
  return _labelled(path, body, text, label)


def read_tweets(path: str) -> list[Row]:
  """Returns the rows of a tweet set: columns text and label, labels 0 and 1.

  Where the header names neither, the first column is the text and the second
  the label.
  """
  header, body = _header_and_body(path)
  rows = _labelled(path, body, *_tweet_columns(header, path))
  for row in rows:
    if row.label not in ("0", "1"):
      raise options.InputError(
        f"label 0 or 1 at {path}:{row.line}",
        repr(row.label),
        "mend the row, or use --task_name=csv for other labels",
      )
  return rows


def read_texts(path: str, text_column: str) -> list[Row]:
  """Returns the rows of a file to predict, labels unread; empty texts stay."""
  header, body = _header_and_body(path)
  text = column(header, text_column, "--text_column", path)
  return [Row(line, fields[text].strip()) for line, fields in body]


def read_tweet_texts(path: str) -> list[Row]:
  """Returns the texts of a tweet set to predict, labels unread.

  As in `read_tweets`, but a column `text`, or a single column, is enough.
  """
  header, body = _header_and_body(path)
  text = header.index("text") if "text" in header else 0
  return [Row(line, fields[text].strip()) for line, fields in body]


def _header_and_body(
  path: str,
) -> tuple[list[str], list[tuple[int, list[str]]]]:
  """Returns the column names, and the line and fields of every row."""
  rows = list(table(path))
  if len(rows) < 2:
    raise options.InputError(
      f"a header and at least one row in {path}",
      "a header only" if rows else "an empty file",
      "give a file with rows",
    )
  (_, header), *body = rows
  for line, fields in body:
    if len(fields) != len(header):
      raise options.InputError(
        f"{len(header)} columns, as in the header, at {path}:{line}",
        str(len(fields)),
        "mend the row (a separator inside a text?)",
      )
  return [name.strip() for name in header], body


def table(path: str) -> Iterator[tuple[int, list[str]]]:
  """Yields the line and the fields of every row that is not blank.

  Args:
    path: a `.csv` or `.tsv` file, compressed or not.

  Raises:
    options.InputError: for another name, or a CSV that is not well-formed.
  """
  kind = storage.kind(path)
  if kind == ".tsv":
    for line, row in enumerate(storage.lines(path), start=1):
      if row.strip():
        yield line, row.split("\t")
  elif kind == ".csv":
    yield from _comma_separated(path)
  else:
    raise options.InputError(
      "a file that ends in .csv or .tsv (.gz and such too)",
      path,
      "rename it after what separates its columns",
    )


def _comma_separated(path: str) -> Iterator[tuple[int, list[str]]]:
  # strict: an unclosed quotation mark is an error, not a text that swallows
  # the rest of the file. A quoted field keeps its line breaks.
  reader = csv.reader(
    (f"{line}\n" for line in storage.lines(path)), strict=True
  )
  csv.field_size_limit(storage.MAX_LINE_BYTES)
  line = 1
  try:
    for fields in reader:
      if fields:
        yield line, fields
      line = reader.line_num + 1
  except csv.Error as error:
    raise options.InputError(
      f"a well-formed CSV row at {path}:{line}",
      str(error),
      "mend its quotation marks; a .tsv file needs none",
    ) from error


def column(header: Sequence[str], name: str, flag: str, path: str) -> int:
  """Returns the place of a column; `flag` is what names it."""
  if header.count(name) != 1:
    columns = ", ".join(map(repr, header))
    raise options.InputError(
      f"one column {name!r} in {path}",
      f"columns {columns}",
      f"name the column with {flag}",
    )
  return header.index(name)


def _tweet_columns(header: Sequence[str], path: str) -> tuple[int, int]:
  if "text" in header and "label" in header:
    return header.index("text"), header.index("label")
  named = "text" in header or "label" in header
  if named or len(header) < 2 or header[1] in ("0", "1"):
    raise options.InputError(
      f"a header of at least two columns, text and label, in {path}",
      repr("\t".join(header)),
      "put the line text<TAB>label first",
    )
  return 0, 1


def _labelled(
  path: str, body: Sequence[tuple[int, list[str]]], text: int, label: int
) -> list[Row]:
  rows = [
    Row(line, fields[text].strip(), fields[label].strip())
    for line, fields in body
  ]
  bad = [row.line for row in rows if not (row.text and row.label)]
  if bad:
    raise options.InputError(
      f"a text and a label in every row of {path}",
      f"{len(bad)} rows without, the first on line {bad[0]}",
      "fill or remove them",
    )
  return rows


def label_names(rows: Sequence[Row]) -> list[str]:
  """Returns the names of the labels that occur, sorted."""
  return sorted({row.label for row in rows})


def split(
  rows: Sequence[Row], fraction: float = 0.1
) -> tuple[list[Row], list[Row]]:
  """Holds out a fraction of the rows of each label, by the hash of the text.

  The same rows give the same split in any order and with any seed. Rows with
  the same text (letter case and white space aside) stay on one side: a copy
  of a training row in the evaluation would be counted as understood.

  Args:
    rows: labelled rows.
    fraction: how many of each label's rows to hold out, at least one text.

  Returns:
    The training and the held-out rows, each in their given order.

  Raises:
    options.InputError: for a label with a single text, which cannot stand on
      both sides.
  """
  by_label: dict[str, list[list[int]]] = collections.defaultdict(list)
  for group in _copies(rows):
    # Copies that contradict each other count for one of their labels.
    by_label[min(rows[index].label for index in group)].append(group)
  _check_divisible(rows, by_label)
  held_out: set[int] = set()
  for groups in by_label.values():
    held_out.update(_lowest_hashes(rows, groups, fraction))
  return (
    [row for index, row in enumerate(rows) if index not in held_out],
    [row for index, row in enumerate(rows) if index in held_out],
  )


def text_key(text: str) -> str:
  """What copies of a text have in common: its composed lower-case words."""
  return " ".join(unicodedata.normalize("NFC", text).lower().split())


def _copies(rows: Sequence[Row]) -> list[list[int]]:
  """Groups the indices of the rows that have the same text."""
  groups: dict[str, list[int]] = collections.defaultdict(list)
  for index, row in enumerate(rows):
    groups[text_key(row.text)].append(index)
  return list(groups.values())


def _check_divisible(
  rows: Sequence[Row], by_label: dict[str, list[list[int]]]
) -> None:
  lone = [name for name in label_names(rows) if len(by_label[name]) < 2]
  if lone:
    count = sum(row.label == lone[0] for row in rows)
    times = "once" if count == 1 else f"{count} times, with one text"
    more = f" (and {len(lone) - 1} labels more)" if len(lone) > 1 else ""
    raise options.InputError(
      "at least two texts of every label, to train on one and evaluate on "
      "the other",
      f"label {lone[0]!r} {times}{more}",
      "merge or remove it, or give --eval_file",
    )


def _lowest_hashes(
  rows: Sequence[Row], groups: Sequence[list[int]], fraction: float
) -> list[int]:
  """Takes groups in the order of their hashes, never the last one."""
  wanted = round(fraction * sum(map(len, groups)))
  ordered = sorted(groups, key=lambda group: _hash(rows[group[0]].text))
  taken = list(ordered[0])
  for group in ordered[1:-1]:
    if len(taken) >= wanted:
      break
    taken += group
  return taken


def _hash(text: str) -> bytes:
  return hashlib.sha256(_SALT + text_key(text).encode()).digest()


def check_several_labels(rows: Sequence[Row]) -> None:
  """Refuses training rows that all have one label."""
  names = label_names(rows)
  if len(names) < 2:
    raise options.InputError(
      "at least two labels in the training rows",
      f"only {', '.join(map(repr, names))}",
      "check --label_column, or add rows of another label",
    )


def check_known_labels(names: Sequence[str], held_out: Sequence[Row]) -> None:
  """Refuses rows to evaluate whose label is none of the trained `names`."""
  for row in held_out:
    if row.label not in names:
      raise options.InputError(
        f"labels that were trained ({', '.join(map(repr, names))})",
        f"{row.label!r} on line {row.line} of the evaluation rows",
        "train on rows of that label too, or remove it",
      )


def fingerprint(rows: Sequence[Row]) -> str:
  """Returns the hexadecimal SHA-256 of texts and labels, in their order."""
  digest = hashlib.sha256()
  for row in rows:
    digest.update(f"{row.label}\0{row.text}\0".encode())
  return digest.hexdigest()
