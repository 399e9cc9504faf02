"""Predictions of a file of any size, in its order, in constant memory.

  line  label   sports  weather  text
  2     sports  0.97    0.03     Бөхийн барилдаан боллоо

If there are more than two labels, `likeliest=2` writes the two most probable
labels of each row:

  line  label   label_1  probability_1  label_2  probability_2  text

A number is added to a label that would give a second column the same name:
"text (2)".

A row that cannot be read has an empty label and empty probabilities;
bad_rows.tsv holds the reason for each. Entities are written as JSON lines:

  {"line": 2, "text": "Баянгол дүүрэг", "entities": [{"start": 0, "end": 14,
   "type": "LOC", "text": "Баянгол дүүрэг", "probability": 0.97}]}
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
from absl import logging

from albert_mn.tasks import classifier, problems, tagging
from data_prep.base import shown_text
from data_prep.classification import classifier_data, label_names
from data_prep.encoding import framing
from data_prep.files import storage, tables

NAME, BAD_NAME = "predictions.tsv", "bad_rows.tsv"
ENTITIES_NAME = "predictions.jsonl"

# The columns of predictions.tsv before and after the label columns.
_BEFORE, _BEHIND = ("line", "label"), "text"

# Largest number of characters in memory at a time.
_LETTERS = 4 << 20

_Read = tuple[int, classifier_data.Row | tables.Bad]


def write(
  output_dir: str,
  predictor: classifier.Predictor,
  rows: Iterable[_Read],
  batch_size: int,
  likeliest: int = 0,
) -> None:
  """Writes predictions.tsv, and bad_rows.tsv if any row cannot be read.

  A tagger's entities go to predictions.jsonl instead of predictions.tsv. If all
  rows can be read, a bad_rows.tsv of an earlier run is deleted.

  Args:
    output_dir: the folder of the files.
    predictor: the model.
    rows: (line number, row), with a tables.Bad for an unreadable row.
    batch_size: number of texts that the model reads at once.
    likeliest: number of labels to write for each row, the most probable first;
      0, or a number of all labels or more, writes all labels in their order.
  """
  tags = isinstance(predictor, tagging.TagPredictor)
  path = os.path.join(output_dir, ENTITIES_NAME if tags else NAME)
  count, bad = 0, _BadRows(output_dir)
  predictor.framer.counts = framing.Counts()
  with storage.writing(path) as file, bad:
    columns = _Columns(predictor.names, likeliest)
    if not tags:
      tab_separated(file, [*_BEFORE, *columns.head, _BEHIND])
    for chunk in _chunks(rows, problems.rows_at_once(len(predictor.names))):
      if isinstance(predictor, tagging.TagPredictor):
        _write_entities(file, predictor, chunk, batch_size)
      else:
        _write_chunk(file, predictor, chunk, batch_size, columns)
      for line, row in chunk:
        if isinstance(row, tables.Bad):
          bad.write(line, row.reason)
      count += len(chunk)
      logging.log_every_n_seconds(logging.INFO, "%d rows predicted", 30, count)
  bad.report(count)
  summary = predictor.framer.counts.summary(predictor.max_seq_length)
  if summary:
    logging.info("%s", summary)
  logging.info("%d predictions in %s", count - bad.count, path)


class _Columns:
  """The label columns of predictions.tsv: all labels, or the most probable.

  Args:
    names: the labels.
    likeliest: number of labels to write; 0, or a number of all labels or more,
      writes all in their order.

  Attributes:
    head: the column headers.
    names: the labels as cells show them, each different and on one line.
  """

  def __init__(self, names: Sequence[str], likeliest: int) -> None:
    self.names = label_names.distinct(names)
    self._most = likeliest if 0 < likeliest < len(names) else 0
    ranks = range(1, self._most + 1)
    self.head = [
      f"{what}_{rank}" for rank in ranks for what in ("label", "probability")
    ] or label_names.distinct(self.names, {*_BEFORE, _BEHIND})

  def cells(self, shares: np.ndarray) -> list[str]:
    """Returns the cells of a row, in the order of `head`.

    Args:
      shares: [labels], the probabilities of the row.
    """
    if not self._most:
      return [f"{share:.6f}" for share in shares]
    best = np.argsort(-shares, kind="stable")[: self._most].tolist()
    return [
      cell
      for place in best
      for cell in (self.names[place], f"{shares[place]:.6f}")
    ]


class _BadRows:
  """Writes bad_rows.tsv, the rows that cannot be read; a context manager.

  The file is made for the first bad row. If there is none, a file of an earlier
  run is deleted at the end of the context.

  Args:
    output_dir: the folder of the file.
  """

  def __init__(self, output_dir: str) -> None:
    self._path = os.path.join(output_dir, BAD_NAME)
    self._open = contextlib.ExitStack()
    self._file: IO[str] | None = None
    self._first = ""
    self.count = 0

  def __enter__(self) -> "_BadRows":
    return self

  def __exit__(self, *error: Any) -> None:
    self._open.__exit__(*error)
    if error[0] is None and not self.count:
      storage.remove(self._path)  # left by an earlier run

  def write(self, line: int, reason: str) -> None:
    """Writes the line number and the reason of a bad row."""
    if self._file is None:
      self._file = self._open.enter_context(storage.writing(self._path))
      tab_separated(self._file, ["line", "reason"])
      self._first = f"the first on line {line}: {reason}"
    tab_separated(self._file, [str(line), reason])
    self.count += 1

  def report(self, rows: int) -> None:
    """Logs the number of bad rows and the first reason, if there are bad rows.

    Args:
      rows: number of all rows.
    """
    if self.count:
      logging.warning(
        "%d of %d rows cannot be predicted, %s; see %s",
        self.count,
        rows,
        self._first,
        self._path,
      )


def _chunks(rows: Iterable[_Read], most: int) -> Iterator[list[_Read]]:
  """Yields all rows, in lists of at most `most` rows.

  A list also ends with the row that takes its texts beyond 4,194,304
  characters.
  """
  chunk: list[_Read] = []
  letters = 0
  for line, row in rows:
    chunk.append((line, row))
    if isinstance(row, classifier_data.Row):
      letters += len(row.text) + len(row.text_pair)
    if len(chunk) == most or letters > _LETTERS:
      yield chunk
      chunk, letters = [], 0
  if chunk:
    yield chunk


def _write_chunk(
  file: IO[str],
  predictor: classifier.Predictor,
  chunk: Sequence[_Read],
  batch_size: int,
  columns: _Columns,
) -> None:
  """Predicts a chunk of rows; writes a line for each row, in order.

  The line of an unreadable row has its line number and otherwise empty cells.

  Args:
    file: the open predictions.tsv.
    predictor: the model.
    chunk: (line number, row), with a tables.Bad for an unreadable row.
    batch_size: number of texts that the model reads at once.
    columns: the label columns.
  """
  good = [row for _, row in chunk if isinstance(row, classifier_data.Row)]
  texts = [problems.text_of(row) for row in good]
  probabilities = iter(predictor.probabilities(texts, batch_size))
  for line, row in chunk:
    if isinstance(row, tables.Bad):
      tab_separated(file, [str(line), *[""] * (len(columns.head) + 2)])
      continue
    shares = next(probabilities)
    label = answer_text(predictor.problem, shares, columns.names)
    text = " | ".join(filter(None, (row.text, row.text_pair)))
    tab_separated(file, [str(line), label, *columns.cells(shares), text])


def _write_entities(
  file: IO[str],
  predictor: tagging.TagPredictor,
  chunk: Sequence[_Read],
  batch_size: int,
) -> None:
  """Finds the entities of texts; writes a JSON line for each row.

  The line of an unreadable row holds its reason as "error".
  """
  texts = [r.text for _, r in chunk if isinstance(r, classifier_data.Row)]
  entities = iter(predictor.entities(texts, batch_size))
  for line, row in chunk:
    record: dict[str, Any] = {"line": line}
    if isinstance(row, tables.Bad):
      record["error"] = row.reason
    else:
      record["text"] = row.indent + row.text
      record["entities"] = [_entity(row, entity) for entity in next(entities)]
    file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _entity(row: classifier_data.Row, entity: tagging.Entity) -> dict[str, Any]:
  """Returns an entity as an object for JSON.

  The offsets count from the start of the row's text in the file, which may
  begin with white space.

  Args:
    row: the row.
    entity: the entity, whose offsets count from the start of the stripped text.
  """
  return {
    "start": len(row.indent) + entity.start,
    "end": len(row.indent) + entity.end,
    "type": entity.type,
    "text": row.text[entity.start : entity.end],
    "probability": round(entity.probability, 6),
  }


def answer_text(
  problem: problems.Problem, shares: np.ndarray, names: Sequence[str] = ()
) -> str:
  """Returns the answer as text: a label, a JSON list of labels, or a number.

  The label is the most probable one; the list, of a multi-label problem, holds
  the labels with a probability above 0.5. In the list, white space that a cell
  of a table would lose is escaped. The number, of a regression, has at most 6
  significant digits.

  Args:
    problem: the kind of prediction.
    shares: [outputs], a row of `Problem.probabilities`.
    names: the name to show for each label of a single-label problem; () shows
      the labels themselves.
  """
  if problem.TYPE == problems.REGRESSION:
    return f"{shares[0]:.6g}"
  if problem.TYPE == problems.MULTI_LABEL:
    labels = [n for n, s in zip(problem.names, shares, strict=True) if s > 0.5]
    return _LOST.sub(
      lambda lost: f"\\u{ord(lost[0]):04x}",
      json.dumps(labels, ensure_ascii=False),
    )
  return (names or problem.names)[int(np.argmax(shares))]


# White space that `tab_separated` changes: all except single spaces.
_LOST = re.compile(r"(?<=\s)\s|[^\S ]")


def tab_separated(file: IO[str], fields: Sequence[str]) -> None:
  """Writes fields as one line, separated by tabs.

  Each field is escaped by `shown_text.cell`.
  """
  file.write("\t".join(map(shown_text.cell, fields)) + "\n")
