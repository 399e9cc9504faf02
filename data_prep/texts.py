"""Documents out of plain text, JSON lines and tables."""

import dataclasses
import json
from collections.abc import Iterable, Iterator

from data_prep import archives, classifier_data, documents, options, storage

Lines = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Options:
  """Where a document begins and ends in a file."""

  documents: str = options.option(
    "blank_line",
    "what parts documents in plain text: a blank line, the end of a line (an "
    "article a line, as in news), the end of the file",
    choices=("blank_line", "line", "file"),
  )
  text_field: str = options.option(
    "text", "the text's key in .jsonl, its column in .csv and .tsv"
  )


def items(path: str, settings: Options) -> Iterator[Lines]:
  """Yields the documents of a file as their lines.

  Args:
    path: .jsonl, .csv, .tsv, anything else being plain text; compressed too,
      or an archive of text files.
    settings: how documents are parted.

  Raises:
    options.InputError: when the file is not what its name says, with the line.
  """
  if archives.is_archive(path):
    return _members(path, settings.documents)
  kind = storage.kind(path)
  if kind == ".jsonl":
    return _json_lines(path, settings.text_field)
  if kind in (".csv", ".tsv"):
    return _cells(path, settings.text_field)
  return parted(storage.lines(path), settings.documents)


def parted(lines: Iterable[str], by: str) -> Iterator[Lines]:
  """Yields the documents of plain text; `by` is --documents."""
  if by == "blank_line":
    yield from documents.split(lines)
  elif by == "line":
    yield from ((line.strip(),) for line in lines if line.strip())
  elif whole := tuple(line.strip() for line in lines if line.strip()):
    yield whole


def _members(path: str, by: str) -> Iterator[Lines]:
  for _, lines in archives.members(path):
    yield from parted(lines, by)


def _json_lines(path: str, field: str) -> Iterator[Lines]:
  for number, line in enumerate(storage.lines(path), start=1):
    if not line.strip():
      continue
    try:
      text = json.loads(line)[field]
      assert isinstance(text, str)
    except (json.JSONDecodeError, KeyError, TypeError, AssertionError) as error:
      raise options.InputError(
        f"a JSON object with a text under {field!r} at {path}:{number}",
        line[:60],
        "mend the line, or name the key with --text_field",
      ) from error
    yield from parted(_whole(text).split("\n"), "file")


def _whole(text: str) -> str:
  r"""Puts U+FFFD for half a character: JSON can say "\ud83d", UTF-8 cannot."""
  return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _cells(path: str, column: str) -> Iterator[Lines]:
  rows = classifier_data.table(path)
  _, header = next(rows, (0, []))
  place = classifier_data.column(header, column, "--text_field", path)
  for line, fields in rows:
    if len(fields) != len(header):
      raise options.InputError(
        f"{len(header)} columns, as in the header, at {path}:{line}",
        str(len(fields)),
        "mend the row (a separator inside a text?)",
      )
    yield from parted(fields[place].split("\n"), "file")
