"""Exports of TensorFlow graphs: SavedModels of strings, TFLite files of ids.

Each writer fills a folder, reads it back, compares the outputs with the
model's, and returns lines on the comparison.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from albert_mn.export import (
  export_checkpoints,
  export_source,
  lite,
  serving,
  text_graph,
)
from albert_mn.models import plain_paths
from albert_mn.tasks import problems
from data_prep.base import options
from data_prep.classification import classifier_data
from data_prep.encoding import framing
from data_prep.files import storage

_BATCH = 32  # batch size of the original in a comparison
# Share of a quantized model's answers that should be the original's (guess).
_LEAST_AGREEMENT = 0.9


def saved_model(
  folder: str, source: export_source.Source, settings: export_source.Options
) -> list[str]:
  """Writes a SavedModel of a classifier of strings, or of pairs of strings.

  Returns lines on the comparison.

  Raises:
    options.InputError: when labels or outputs differ, and for a model that is
      no text classifier.
  """
  problem, framer = _classifier(source, settings)
  text_to_ids = text_graph.TextToIds(
    framer.tokenizer,
    source.tokenizer_file,
    framer.max_seq_length,
    framer.long_text,
  )
  serving.save_classifier(
    folder,
    source.exported_parts,
    text_to_ids,
    problem,
    source.of_pairs,
    source.pooled_by,
  )
  served = tf.saved_model.load(plain_paths.plain(folder)).signatures[
    "serving_default"
  ]
  texts = _asked(source)
  served_answers = served(**_columns(texts, source.of_pairs))
  logits = _answered(framer, texts, _original(source, framer))
  expected = problem.answers(tf.constant(logits))
  names = "labels"
  if names in expected and tf.reduce_any(
    expected[names] != served_answers[names]
  ):
    raise options.InputError("the model's labels", "others", "report it")
  ours, expected_arrays = (
    {name: value.numpy() for name, value in answers.items() if name != names}
    for answers in (served_answers, expected)
  )
  return [
    export_source.compared("serving_default", ours, expected_arrays),
    *export_source.ties(framer.tokenizer),
  ]


def _classifier(
  source: export_source.Source, settings: export_source.Options
) -> tuple[problems.Problem, framing.Framer]:
  """Returns a classifier's problem, and the framer of its texts.

  Raises:
    options.InputError: for a pretrained model or a tagger.
  """
  if not source.problem or source.of_pieces:
    raise options.InputError(
      "a classifier of texts",
      "a tagger of pieces"
      if source.problem
      else f"a pretrained model in {source.folder}",
      "export it as huggingface"
      if source.problem
      else "give a classifier, or --to=encoder",
    )
  return source.problem, framing.Framer(
    source.tokenizer(), source.length(settings), source.long_text
  )


def _asked(source: export_source.Source) -> list[framing.Text]:
  """Returns the texts, or pairs of texts, on which an export is compared.

  The last text is so long that most models must cut it: it repeats all others
  three times. The pairs include a pair of two such texts, and some pairs whose
  second text is empty.
  """
  texts = export_source.texts()
  texts.append(" ".join(texts * 3))
  if not source.of_pairs:
    return [*texts]
  second_texts = texts[::-1]
  second_texts[0] = second_texts[0][::-1]  # so that two long texts form a pair
  pairs = zip([*texts, texts[-1]], [*second_texts, texts[-1]], strict=True)
  return [(first, second) if second else first for first, second in pairs]


def _columns(
  texts: Sequence[framing.Text], pairs: bool
) -> dict[str, tf.Tensor]:
  """Returns a SavedModel's inputs: name → strings [texts].

  The names are "texts" and, for a classifier of pairs, "text_pairs". The second
  text of a single text is "".
  """
  rows = [(text, "") if isinstance(text, str) else text for text in texts]
  names = ("texts", "text_pairs") if pairs else ("texts",)
  return {
    name: tf.constant([row[place] for row in rows])
    for place, name in enumerate(names)
  }


def encoder(
  folder: str, source: export_source.Source, settings: export_source.Options
) -> list[str]:
  """Writes a SavedModel of the encoder for strings and ids, like TF Hub's.

  Returns lines on the comparison.

  Raises:
    options.InputError: when the outputs differ, and for an ensemble.
  """
  source.require_single(settings.to)
  length = source.length(settings)
  text_to_ids = None
  if source.tokenizer_file:
    text_to_ids = text_graph.TextToIds(
      source.tokenizer(), source.tokenizer_file, length
    )
  serving.save_encoder(folder, source.parts["encoder"], length, text_to_ids)
  loaded = tf.saved_model.load(plain_paths.plain(folder))
  texts = export_source.texts()
  ids, mask = source.framed(texts, length)
  if text_to_ids:
    outputs = loaded(tf.constant(texts))
  else:
    given = (ids, mask, np.zeros_like(ids))
    outputs = loaded(
      dict(zip(serving.ENCODER_INPUTS, map(tf.constant, given), strict=True))
    )
  encoded = source.parts["encoder"](ids, mask, np.zeros_like(ids))
  real = mask.astype(bool)
  expected = {
    "pooled": encoded.pooled_output.numpy(),
    "sequence": encoded.sequence_output.numpy()[real],
  }
  ours = {
    "pooled": outputs["pooled_output"].numpy(),
    "sequence": outputs["sequence_output"].numpy()[real],
  }
  tie_lines = export_source.ties(source.tokenizer()) if text_to_ids else []
  return [export_source.compared("the SavedModel", ours, expected), *tie_lines]


def tflite(
  folder: str, source: export_source.Source, settings: export_source.Options
) -> list[str]:
  """Writes a TFLite classifier of ids, with its tokenizer and labels.

  Returns lines on the comparison, with scores if there is an --eval_file.

  Raises:
    options.InputError: when the outputs of a float32 file differ, and for a
      model that is no text classifier. With --to=tflite_int8 differences are
      only reported, with a warning if fewer than 90 % of the answers agree.
  """
  problem, framer = _classifier(source, settings)
  quantized = settings.to == "tflite_int8"
  content = lite.converted(
    source.exported_parts,
    framer.tokenizer.pad_id,
    settings.batch_size,
    framer.max_seq_length,
    quantized,
    source.of_pairs,
    source.pooled_by,
  )
  path = os.path.join(folder, lite.NAME)
  with storage.writing(path, "wb") as file:
    file.write(content)
  name = os.path.basename(source.tokenizer_file)
  storage.copy(source.tokenizer_file, os.path.join(folder, name))
  export_checkpoints.write_labels(folder, source.labels)
  runner = lite.LiteClassifier(storage.read_bytes(path))

  def lite_logits(ids: np.ndarray, segments: np.ndarray) -> np.ndarray:
    return runner.logits(ids, segments if source.of_pairs else None)

  forwards = (lite_logits, _original(source, framer))
  logits, expected = (
    _answered(framer, _asked(source), forward) for forward in forwards
  )
  lines = [f"real sentences: {problem.agreement(logits, expected)}"]
  if quantized:
    warn_of_disagreement(problem, logits, expected)
  else:
    arrays, expected_arrays = {"logits": logits}, {"logits": expected}
    lines.insert(0, export_source.compared(lite.NAME, arrays, expected_arrays))
  if settings.eval_file:
    lines.append(_scores(problem, framer, settings, *forwards))
  return lines


def warn_of_disagreement(
  problem: problems.Problem, outputs: np.ndarray, expected: np.ndarray
) -> None:
  """Logs a warning if under 90 % of a quantized model's answers are unchanged.

  `Problem.equal_answers` defines which answers are equal.

  Args:
    problem: the kind of prediction.
    outputs: [texts, outputs], logits of the quantized model.
    expected: [texts, outputs], logits of the original model.
  """
  share = float(problem.equal_answers(outputs, expected).mean())
  if share < _LEAST_AGREEMENT:
    logging.warning(
      "8-bit weights change %.0f %% of the answers on real sentences: compare "
      "the scores with --eval_file, or export --to=tflite",
      100 * (1 - share),
    )


# Function of ids and segments, [inputs, length] each, to logits.
_Forward = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _original(source: export_source.Source, framer: framing.Framer) -> _Forward:
  """Returns a function from (ids, segments) to the original model's logits."""
  forward = serving.logits_of(source.exported_parts, source.pooled_by)

  def logits(ids: np.ndarray, segments: np.ndarray) -> np.ndarray:
    mask = (ids != framer.tokenizer.pad_id).astype(np.int32)
    starts = range(0, len(ids), _BATCH)
    batches = [slice(start, start + _BATCH) for start in starts]
    return np.concatenate(
      [forward(ids[b], mask[b], segments[b]).numpy() for b in batches]
    )

  return logits


def _answered(
  framer: framing.Framer, texts: Sequence[framing.Text], forward: _Forward
) -> np.ndarray:
  """Returns the logits of texts, [texts, outputs].

  The outputs of a text's windows are averaged.

  Args:
    framer: frames the texts.
    texts: the texts or pairs.
    forward: function from (ids, segments) to logits.
  """
  framed = framer.frame(texts)
  shape = (len(framed.ids), framer.max_seq_length)
  ids = np.full(shape, framer.tokenizer.pad_id, np.int32)
  segments = np.zeros_like(ids)
  for row, row_ids in enumerate(framed.ids):
    ids[row, : len(row_ids)] = row_ids
    segments[row, framed.second_starts[row] : len(row_ids)] = 1
  return framed.pooled(forward(ids, segments))


def _scores(
  problem: problems.Problem,
  framer: framing.Framer,
  settings: export_source.Options,
  *forwards: _Forward,
) -> str:
  """Returns a line with the scores of a TFLite file and of the original model.

  Both are evaluated on the rows of --eval_file.

  Args:
    problem: the kind of prediction.
    framer: frames the texts.
    settings: the options.
    *forwards: the functions from (ids, segments) to logits, of the TFLite file
      and of the original.
  """
  columns = classifier_data.Columns(
    settings.text_column,
    settings.label_column,
    settings.text_pair_column,
    label_type=problem.TYPE,
    label_separator=settings.label_separator,
  )
  rows = classifier_data.read_rows(settings.eval_file, columns)
  targets = problem.targets(rows)
  texts = [*map(problems.text_of, rows)]
  ours, exact = (_answered(framer, texts, forward) for forward in forwards)
  factor, shift = problem.affine(1)
  lite_score, score = (
    problem.score((logits - shift) / factor, targets)
    for logits in (ours, exact)
  )
  return (
    f"{problem.SCORE} on {len(rows)} rows of "
    f"{os.path.basename(settings.eval_file)}: {lite_score:.4f}, the original's "
    f"{score:.4f}; {problem.agreement(ours, exact)}"
  )
