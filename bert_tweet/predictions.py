"""Predicts lines of text, and returns a JSON line for each, in order.

No line is dropped: the answer to a line that cannot be read is the reason.
"""

import dataclasses
import json
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from albert_mn.tasks import classifier, problems
from data_prep.base import options, shown_text
from data_prep.files import contents, manifest_fields, storage, tables

# Lines read ahead of the model: memory stays flat, whatever the input.
_AHEAD = 4096


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options: the classifier, and the texts to predict."""

  model_dir: str = options.option(
    "",
    "Model directory of a classifier. Required.",
  )
  input_text: str = options.option(
    "",
    "One text to classify.",
  )
  input_file: str = options.option(
    "",
    "Files with a text in each line, as glob patterns separated by "
    "commas; compressed files (.gz and others) too. Without this flag and "
    "--input_text, texts come from the standard input.",
  )
  predict_batch_size: int = options.option(
    32,
    "Number of texts that the model reads at once.",
    minimum=1,
  )

  def check(self) -> None:
    options.require(self, "model_dir")
    if self.input_text and self.input_file:
      raise options.InputError(
        "one of --input_text and --input_file", "both", "leave one out"
      )


def require_single_texts(predictor: classifier.Predictor) -> None:
  """Raises InputError for a classifier of pairs of texts.

  A line of the input has one text, which is only half of a pair.
  """
  if manifest_fields.Parameters.of(
    predictor.manifest.get("parameters", {})
  ).text_pair:
    raise options.InputError(
      "a classifier of single texts",
      "one of pairs of texts",
      "predict pairs with run_classifier.py --do_predict --text_pair_column",
    )


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of the input: its text, or its error.

  Attributes:
    place: {"line": 3}; of several files, with the file too.
    text: the text of the line; "" if there is an error.
    error: why the line cannot be read; "" if it can.
  """

  place: dict[str, Any]
  text: str = ""
  error: str = ""


def lines(settings: Options) -> Iterator[Line]:
  """Yields the lines of --input_text, --input_file or the standard input.

  --input_text counts as one line.

  Raises:
    options.InputError: at the first line, for a missing file, or a file whose
      lines are no texts, such as a table.
  """
  if settings.input_text:
    yield _line(
      settings.input_text.encode("utf-8", "surrogateescape"), {"line": 1}
    )
  elif settings.input_file:
    files = storage.matching(settings.input_file)
    for path in files:
      _require_lines(path)
    for path in files:
      with storage.decompressed(path) as file:
        yield from _lines_of(file, {"file": path} if len(files) > 1 else {})
  else:
    yield from _lines_of(sys.stdin.buffer, {})


def _require_lines(path: str) -> None:
  """Raises InputError for a file whose lines are not the texts themselves.

  Raises:
    options.InputError: for a table, a web page and such.
  """
  kind = contents.kind(path)
  if kind == contents.JSON_LINES or tables.is_table(path):
    raise options.InputError(
      f"a text in each line of {path}",
      f"a table: {storage.kind(path) or kind}",
      "predict its rows with run_classifier.py --do_predict --predict_file",
    )
  if kind not in (contents.TEXT, contents.BINARY):  # bad lines are answered
    contents.require(path, [contents.TEXT], "a text in each line")


def _lines_of(file: IO[bytes], place: dict[str, Any]) -> Iterator[Line]:
  """Yields the lines of an open file; a line that cannot be read has an error.

  A line cannot be read if it is blank, not UTF-8, or longer than 1 MiB. A byte
  order mark is left out.

  Args:
    file: the file.
    place: the entries of Line.place apart from the line number.
  """
  number, most = 0, storage.MAX_LINE_BYTES
  mark = storage.BYTE_ORDER_MARK
  while raw := storage.read_line(file, most + (0 if number else len(mark))):
    number += 1
    here = {**place, "line": number}
    if number == 1:
      raw = raw.removeprefix(mark)
    line = storage.without_line_end(raw)
    if len(line) > most:
      storage.skip_line(file, raw)
      yield Line(here, error=f"longer than {most:,} bytes")
    else:
      yield _line(line, here)


def _line(raw: bytes, place: dict[str, Any]) -> Line:
  """Decodes a line; the result has an error if it is blank or not UTF-8.

  Args:
    raw: the bytes of the line.
    place: the value of Line.place.
  """
  try:
    text = raw.decode("utf-8")
  except UnicodeDecodeError as error:
    byte = raw[error.start]
    return Line(place, error=f"not UTF-8: byte 0x{byte:02x} at {error.start}")
  return Line(place, text) if text.strip() else Line(place, error="empty")


def gathered(incoming: Iterable[Line], most: int) -> Iterator[list[Line]]:
  """Yields batches of the lines that have come, without waiting for more.

  The function waits only for the first line of a batch. So a person at the
  keyboard gets each answer at once, and the model always works on the lines
  that are there. An error of `incoming` is raised after the lines before it.

  Args:
    incoming: lines, which a separate thread reads.
    most: largest number of lines of a batch.
  """
  waiting: queue.Queue[Line | Exception | None] = queue.Queue(_AHEAD)

  def read() -> None:
    try:
      for line in incoming:
        waiting.put(line)
    except Exception as error:  # noqa: BLE001  raised below, by the consumer
      waiting.put(error)
    waiting.put(None)

  threading.Thread(target=read, name="reader", daemon=True).start()
  while True:
    batch: list[Line] = []
    while len(batch) < most:
      try:
        item = waiting.get(block=not batch)
      except queue.Empty:
        break
      if item is None or isinstance(item, Exception):
        if batch:
          yield batch
        if item:
          raise item
        return
      batch.append(item)
    yield batch


def answers(
  batch: Sequence[Line],
  problem: problems.Problem,
  probabilities: Callable[[Sequence[str]], np.ndarray],
) -> Iterator[str]:
  """Yields a JSON object for each line, as text without a line break.

  The object has the keys of Line.place, then the text and the keys of
  `answer_of`, or "error" with the reason.

  Args:
    batch: the lines.
    problem: the meaning of the model's outputs.
    probabilities: maps texts to outputs, [texts, outputs]. It is called once,
      with the texts of the lines without an error, unless there are none.
  """
  good = [line.text for line in batch if not line.error]
  rows = iter(probabilities(good) if good else [])
  for line in batch:
    if line.error:
      yield _json({**line.place, "error": line.error})
    else:
      answer = answer_of(problem, next(rows))
      yield _json({**line.place, "text": line.text, **answer})


def answer_of(problem: problems.Problem, row: np.ndarray) -> dict[str, Any]:
  """Returns the answer to a text, as values for JSON.

  The keys are label (the most probable label) and probabilities; for several
  labels per text, labels (those above 0.5) and probabilities. For a regression
  the result is output name → number. Numbers have six decimals.

  Args:
    problem: the meaning of the outputs.
    row: [outputs], of `Problem.probabilities`.
  """
  shares = {
    name: round(float(share), 6)
    for name, share in zip(problem.names, row, strict=True)
  }
  if problem.TYPE == problems.REGRESSION:
    return dict(shares)
  if problem.TYPE == problems.MULTI_LABEL:
    likely = [name for name, share in shares.items() if share > 0.5]
    return {"labels": likely, "probabilities": shares}
  label = problem.names[int(row.argmax())]
  return {"label": label, "probabilities": shares}


def _json(content: dict[str, Any]) -> str:
  """Returns an object as one line of JSON, without a line break at its end.

  Invisible characters are escaped, so that no reader ends a line at U+2028.
  """
  return shown_text.json_escaped(json.dumps(content, ensure_ascii=False))
