"""Predictions of a file of any size: in its order, in constant memory.

    line  label   sports  weather  text
    2     sports  0.97    0.03     Бөхийн барилдаан боллоо

With many labels, `likeliest=2` writes the best two of each row instead:

    line  label   label_1  probability_1  label_2  probability_2  text

A label that would be read as another column or label, because it is named line,
label or text or differs from another label by white space alone, has a number
behind its name: "text (2)".

A row that cannot be read is there too, without label and probabilities, and
bad_rows.tsv says of each what is wrong. Entities are JSON lines:

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

from albert_mn import classifier, problems, tagging
from data_prep import (
  classifier_data,
  framing,
  label_names,
  shown_text,
  storage,
  tables,
)

NAME, BAD_NAME = "predictions.tsv", "bad_rows.tsv"
ENTITIES_NAME = "predictions.jsonl"

# The columns of predictions.tsv that every model has, around its labels'.
_BEFORE, _BEHIND = ("line", "label"), "text"

# In memory at a time, where long texts come before many rows.
_LETTERS = 4 << 20

_Read = tuple[int, classifier_data.Row | tables.Bad]


def write(
  output_dir: str,
  predictor: classifier.Predictor,
  rows: Iterable[_Read],
  batch_size: int,
  likeliest: int = 0,
) -> None:
  """Writes predictions.tsv, and bad_rows.tsv where there are any.

  Args:
    output_dir: where to.
    predictor: what predicts.
    rows: line and row, or what is wrong with it.
    batch_size: texts a batch.
    likeliest: how many labels of a row are written; 0: all.
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
          bad.tell(line, row.reason)
      count += len(chunk)
      logging.log_every_n_seconds(logging.INFO, "%d rows predicted", 30, count)
  bad.report(count)
  said = predictor.framer.counts.said(predictor.max_seq_length)
  if said:
    logging.info("%s", said)
  logging.info("%d predictions in %s", count - bad.count, path)


class _Columns:
  """What stands between label and text: all labels, or the likeliest.

  Args:
    names: of the labels.
    likeliest: how many; 0, or as many as there are: all, in their order.

  Attributes:
    head: the headers.
    names: of the labels, as cells show them: each different, in one line.
  """

  def __init__(self, names: Sequence[str], likeliest: int):
    self.names = label_names.distinct(names)
    self._most = likeliest if 0 < likeliest < len(names) else 0
    ranks = range(1, self._most + 1)
    self.head = [
      f"{what}_{rank}" for rank in ranks for what in ("label", "probability")
    ] or label_names.distinct(self.names, {*_BEFORE, _BEHIND})

  def cells(self, shares: np.ndarray) -> list[str]:
    """Returns a row's, under the headers."""
    if not self._most:
      return [f"{share:.6f}" for share in shares]
    best = np.argsort(-shares, kind="stable")[: self._most].tolist()
    return [
      cell
      for place in best
      for cell in (self.names[place], f"{shares[place]:.6f}")
    ]


class _BadRows:
  """bad_rows.tsv, which is there only where there are any.

  Args:
    output_dir: where to.
  """

  def __init__(self, output_dir: str):
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
      storage.remove(self._path)  # an earlier run's

  def tell(self, line: int, reason: str) -> None:
    """Writes a row."""
    if self._file is None:
      self._file = self._open.enter_context(storage.writing(self._path))
      tab_separated(self._file, ["line", "reason"])
      self._first = f"the first on line {line}: {reason}"
    tab_separated(self._file, [str(line), reason])
    self.count += 1

  def report(self, rows: int) -> None:
    """Says how many there were."""
    if self.count:
      logging.warning(
        "%d of %d rows cannot be predicted, %s; see %s",
        self.count,
        rows,
        self._first,
        self._path,
      )


def _chunks(rows: Iterable[_Read], most: int) -> Iterator[list[_Read]]:
  chunk: list[_Read] = []
  letters = 0
  for line, row in rows:
    chunk.append((line, row))
    letters += len(row.text) if isinstance(row, classifier_data.Row) else 0
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
  good = [row for _, row in chunk if isinstance(row, classifier_data.Row)]
  texts = [problems.text_of(row) for row in good]
  probabilities = iter(predictor.probabilities(texts, batch_size))
  for line, row in chunk:
    if isinstance(row, tables.Bad):
      tab_separated(file, [str(line), *[""] * (len(columns.head) + 2)])
      continue
    shares = next(probabilities)
    label = told(predictor.problem, shares, columns.names)
    text = " | ".join(filter(None, (row.text, row.text_pair)))
    tab_separated(file, [str(line), label, *columns.cells(shares), text])


def _write_entities(
  file: IO[str],
  predictor: tagging.TagPredictor,
  chunk: Sequence[_Read],
  batch_size: int,
) -> None:
  texts = [r.text for _, r in chunk if isinstance(r, classifier_data.Row)]
  entities = iter(predictor.entities(texts, batch_size))
  for line, row in chunk:
    said: dict[str, Any] = {"line": line}
    if isinstance(row, tables.Bad):
      said["error"] = row.reason
    else:
      said["text"] = row.indent + row.text
      said["entities"] = [_entity(row, entity) for entity in next(entities)]
    file.write(json.dumps(said, ensure_ascii=False) + "\n")


def _entity(row: classifier_data.Row, entity: tagging.Entity) -> dict[str, Any]:
  """Describes an entity by its place in the text as the file has it."""
  return {
    "start": len(row.indent) + entity.start,
    "end": len(row.indent) + entity.end,
    "type": entity.type,
    "text": row.text[entity.start : entity.end],
    "probability": round(entity.probability, 6),
  }


def told(
  problem: problems.Problem, shares: np.ndarray, names: Sequence[str] = ()
) -> str:
  """Returns the answer: a name, a JSON list of names, or a number.

  White space in a JSON list that a cell would lose is escaped.

  Args:
    problem: what is predicted.
    shares: [outputs] of `Problem.probabilities`.
    names: what to call each label where a row has one; (): as they are.
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


# White space that `tab_separated` changes: all but a space alone.
_LOST = re.compile(r"(?<=\s)\s|[^\S ]")


def tab_separated(file: IO[str], fields: Sequence[str]) -> None:
  """Writes a row, each field as `shown_text.cell` has it."""
  file.write("\t".join(map(shown_text.cell, fields)) + "\n")
