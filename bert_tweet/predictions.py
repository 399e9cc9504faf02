"""Predicts lines of text, and returns a JSON line for each, in order.

No line is dropped: the answer to a line that cannot be read is the reason.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from albert_mn.tasks import classifier, problems
from data_prep.base import options, shown_text
from data_prep.files import manifest_fields, text_lines

_ROWS = "predict its rows with run_classifier.py --do_predict --predict_file"


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

  def lines(self) -> Iterator[text_lines.Line]:
    """Yields the lines of --input_text, --input_file or the standard input.

    Raises:
      options.InputError: at the first line, as `text_lines.read` does.
    """
    return text_lines.read(self.input_text, self.input_file, _ROWS)


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


def answers(
  batch: Sequence[text_lines.Line],
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
