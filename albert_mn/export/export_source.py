"""The model directory to export, and the comparison of its exports.

An export is used without the manifest, which explains a model's outputs. So the
exported head contains the manifest's numbers in its weights: a temperature, or
the mean and deviation of a regression.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras

from albert_mn.formats import conversion, foreign_text, initial_weights
from albert_mn.models import configs, model_directory, pooling
from albert_mn.tasks import blend, classifier, ensembles, problems, tagging
from data_prep.base import options
from data_prep.encoding import framing, length_buckets, tokenization
from data_prep.files import manifest_fields

# Largest difference from the model's outputs: absolute, or relative above 1.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options: the model to export, and the form of the export."""

  model_dir: str = options.option(
    "",
    "Model directory to export. Required. Models in other formats become "
    "model directories with convert_checkpoint.",
  )
  output_dir: str = options.option(
    "",
    "Folder for the export. Required.",
  )
  to: str = options.option(
    "saved_model",
    "Form of the export. weights: a model directory without the parts "
    "that only training needs. tf1: a checkpoint for google-research's "
    "code. huggingface: a directory for transformers. saved_model: a "
    "classifier that takes strings. tflite and tflite_int8: a classifier "
    "that takes piece ids. encoder: a SavedModel of the encoder alone.",
    choices=(
      "weights",
      "tf1",
      "huggingface",
      "saved_model",
      "tflite",
      "tflite_int8",
      "encoder",
    ),
  )
  max_seq_length: int = options.option(
    0,
    "Number of pieces that an export with --to=saved_model, tflite, "
    "tflite_int8 or encoder reads of a text. 0 takes the number from the "
    f"classifier's training, and otherwise {framing.USUAL_LENGTH}.",
    minimum=0,
  )
  batch_size: int = options.option(
    1,
    "Number of texts that an export with --to=tflite or tflite_int8 reads "
    "at once. The shapes in such a file are fixed.",
    minimum=1,
  )
  eval_file: str = options.option(
    "",
    "Labelled rows on which the exports tflite and tflite_int8 are "
    "compared with the original classifier.",
  )
  text_column: str = options.option(
    "text",
    "Header of the column with the texts in --eval_file.",
  )
  text_pair_column: str = options.option(
    "",
    "Header of the column with the second texts in --eval_file, for pairs "
    "of texts.",
  )
  label_column: str = options.option(
    "label",
    "Header of the column with the labels in --eval_file.",
  )
  label_separator: str = options.option(
    "",
    "Characters between the labels of a row in --eval_file, such as a "
    "comma, where rows have several labels. By default the labels of a "
    "row are a JSON list.",
  )
  model_card: bool = options.option(
    False,
    "Write only the model card: README.md in --output_dir.",
  )
  results_dir: str = options.option(
    "",
    "Output folder of the training whose results the model card reports. "
    "By default the folder that contains --model_dir.",
  )
  license: str = options.option(
    "",
    "License of the model for the model card, such as apache-2.0.",
  )
  language: str = options.option(
    "mn",
    "Language code of the model for the model card, such as mn for Mongolian.",
  )
  data_file: str = options.option(
    "",
    "Markdown file about the training data and the licenses of the data, "
    "for the model card.",
  )

  def check(self) -> None:
    options.require(self, "model_dir", "output_dir")
    model_dir, output_dir = (
      os.path.abspath(path) for path in (self.model_dir, self.output_dir)
    )
    if model_dir == output_dir:
      raise options.InputError(
        "an --output_dir other than --model_dir",
        self.output_dir,
        "name another",
      )


@dataclasses.dataclass(frozen=True)
class Source:
  """An opened model directory: the model that is exported.

  Attributes:
    folder: the path of the model directory.
    described: the content of its manifest.
    config: the model's shape.
    tokenizer_file: path of the tokenizer; "" if there is none.
    problem: the meaning of a classifier's or tagger's outputs; None for a
      pretrained model.
    parts: name → layer with its weights.
    tfidf_blend: the blend with the TF-IDF baseline; None if the network answers
      alone.
  """

  folder: str
  described: dict[str, Any]
  config: configs.AlbertConfig
  tokenizer_file: str
  problem: problems.Problem | None
  parts: dict[str, Any]
  tfidf_blend: blend.Blend | None = None

  @property
  def parameters(self) -> dict[str, Any]:
    """The parameters in the manifest."""
    return dict(self.described["parameters"])

  @property
  def labels(self) -> tuple[str, ...]:
    """The names of the outputs; () for a pretrained model."""
    return self.problem.names if self.problem else ()

  @property
  def of_pieces(self) -> bool:
    """Whether the head reads every position, as a tagger's head does."""
    return isinstance(self.problem, tagging.Tagging)

  @property
  def of_pairs(self) -> bool:
    """Whether an input is a pair of texts."""
    return bool(manifest_fields.Parameters.of(self.parameters).text_pair)

  @property
  def pooled_by(self) -> str:
    """The kind of pooling before the head, one of `pooling.KINDS`."""
    return classifier.pooled_by(self.parameters)

  def require_single(self, to: str) -> None:
    """Raises InputError for an ensemble, which the export cannot hold.

    Args:
      to: the form of the export, for the message.
    """
    if (number := ensembles.size(self.parameters)) > 1:
      raise options.InputError(
        f"a model of one network for --to={to}",
        f"an ensemble of {number}",
        "export it as saved_model, tflite or weights, or train with --ensemble=1",
      )

  def require_plain(self, to: str) -> None:
    """Raises InputError for a model that other projects' code cannot compute.

    That is an ensemble, or a classifier of texts with a pooling other than
    "cls": their code holds one network, and always reads [CLS].

    Args:
      to: the form of the export, for the message.
    """
    self.require_single(to)
    if self.problem and not self.of_pieces and self.pooled_by != pooling.CLS:
      raise options.InputError(
        f"a classifier of --pooling={pooling.CLS} for --to={to}, whose heads "
        "read [CLS] through the pooler",
        f"one of --pooling={self.pooled_by}",
        "export it as saved_model or tflite, or train with --pooling=cls",
      )

  def tokenizer(self) -> tokenization.Tokenizer:
    """Returns the tokenizer with its settings; the model must have one."""
    return tokenization.Tokenizer.with_settings(
      self.tokenizer_file, tokenization.Settings.of(self.parameters)
    )

  @functools.cached_property
  def exported_parts(self) -> dict[str, Any]:
    """Name → layer, with the head that exports contain.

    The outputs of this head are scaled: the logits are divided by the
    temperature; for a regression, the outputs are the predicted numbers (see
    `Problem.affine`).
    """
    if not self.problem:
      return self.parts
    stated = manifest_fields.Parameters.of(self.parameters).temperature
    factor, shift = self.problem.affine(
      1.0 if stated is None else float(stated)
    )
    return self.parts | {
      name: _scaled(part, factor, shift)
      for name, part in self.parts.items()
      if name.startswith("classifier")
    }

  @property
  def long_text(self) -> str:
    """The part that the model reads of long texts, one of framing.LONG_TEXTS.

    For a model of pairs it is always framing.HEAD, the beginning.
    """
    if self.of_pairs:
      return framing.HEAD
    return classifier.long_text(self.parameters)

  def length(self, settings: Options) -> int:
    """Returns the most pieces of a text that an export reads, [CLS] included.

    The number is --max_seq_length if that is not 0. Otherwise it is the length
    in the model's training (framing.USUAL_LENGTH if unknown), or
    max_position_embeddings if that is less.

    Raises:
      options.InputError: for a length below 3, or for a --max_seq_length above
        max_position_embeddings.
    """
    longest = self.config.max_position_embeddings
    trained = manifest_fields.Parameters.of(self.parameters).max_seq_length
    if trained is None:
      trained = framing.USUAL_LENGTH
    length = settings.max_seq_length or min(trained, longest)
    if not 3 <= length <= longest:
      raise options.InputError(
        f"--max_seq_length from 3 to max_position_embeddings = {longest}",
        str(length),
        "give another one",
      )
    return int(length)

  def framed(
    self, texts: Sequence[str], length: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and mask of texts, each int32 [texts, length].

    Longer texts are cut, shorter texts padded. Without a tokenizer the ids are
    random, and the mask is 1 everywhere.
    """
    if not self.tokenizer_file:
      draw = np.random.default_rng(0)
      shape = (len(texts), length)
      ids = draw.integers(0, self.config.vocab_size, shape, np.int32)
      return ids, np.ones_like(ids)
    tokenizer = self.tokenizer()
    encoded, _ = length_buckets.encode(tokenizer, texts, length)
    ids = np.full((len(texts), length), tokenizer.pad_id, np.int32)
    mask = np.zeros_like(ids)
    for row, piece_ids in enumerate(encoded):
      ids[row, : len(piece_ids)], mask[row, : len(piece_ids)] = piece_ids, 1
    return ids, mask


def _scaled(head: Any, factor: float, shift: float) -> Any:
  """Returns a dense layer that computes head(x) · factor + shift.

  The result is a new layer, or `head` itself if factor is 1 and shift is 0.
  """
  if (factor, shift) == (1, 0):
    return head  # equal in every bit
  layer = tf_keras.layers.Dense(head.units, name="classifier")
  layer.build([None, head.kernel.shape[0]])
  kernel, bias = (v.numpy().astype(np.float64) for v in head.variables)
  layer.set_weights([kernel * factor, bias * factor + shift])
  return layer


KINDS = (classifier.KIND, tagging.KIND, model_directory.PRETRAINED)


def opened(folder: str) -> Source:
  """Opens a model directory for an export: manifest, config and weights.

  Raises:
    options.InputError: when the folder is no model directory, or is damaged.
  """
  directory = model_directory.opened(folder, *KINDS)
  networks = ensembles.size(directory.parameters)
  model_directory.require_fit(
    folder, directory.config, encoders=ensembles.names(networks)
  )
  checkpoint = conversion.Opened(
    initial_weights.read(folder),
    directory.config,
    directory.tokenizer_file,
    None,
    directory.labels,
  )
  parts = ensembles.merged(
    [checkpoint.model().parts() for _ in range(networks)]
  )
  loaded = initial_weights.fill(checkpoint.source, parts)
  predictor = (
    tagging.TagPredictor
    if directory.kind == tagging.KIND
    else classifier.Predictor
  )
  return Source(
    folder,
    directory.described,
    directory.config,
    directory.tokenizer_file,
    predictor.read_problem(directory.labels, directory.parameters)
    if directory.labels
    else None,
    {name: part for name, part in parts.items() if name not in loaded.new},
    blend.read(folder, directory.parameters, len(directory.labels)),
  )


# Texts on which tokenizers differ: decomposed letters, white space, emoji.
_AWKWARD = (
  "",
  " ",
  "саи\u0306н  байна\tуу",
  "Е\u0308ЛКА ХОЁР",
  "\u200bа\u00a0б ",
  "А\u0301",
  "☺️ 👨‍👩‍👧 №5 Ⅳ",
  "ааааа",
  "▁а▁",
)


def texts() -> list[str]:
  """Returns the texts on which exports are compared with their model.

  The first texts are real sentences. The others are difficult: empty, or with
  decomposed letters, white space or emoji.
  """
  return [*foreign_text.SENTENCES, *_AWKWARD]


def ties(tokenizer: tokenization.Tokenizer) -> list[str]:
  """Returns a warning if other programs may divide some texts differently.

  A division cuts a text into pieces. If two divisions are equally likely and
  the sums of the pieces' scores are not exact in float32, another program may
  choose the second division. The result is a list: [] if the sums are exact.

  Args:
    tokenizer: the tokenizer of the model.
  """
  if tokenizer.sums_exactly:
    return []
  return [
    "tokenizer: other ids are possible where two divisions of a text are equally "
    "likely (ууууу), since sums of the model's scores are not exact in float32"
  ]


def compared(
  what: str,
  outputs: Mapping[str, np.ndarray],
  expected: Mapping[str, np.ndarray],
) -> str:
  """Returns a line with the largest difference of two sets of outputs.

  For an expected value above 1, or below -1, the difference is relative.

  Args:
    what: the source of `outputs`, such as "the files written", for the line.
    outputs, expected: output name → array.

  Raises:
    options.InputError: when the difference is above TOLERANCE, or the names
      differ.
  """
  worst = 0.0
  if outputs.keys() != expected.keys():
    worst = np.inf
  for name in outputs.keys() & expected.keys():
    value, wanted = outputs[name], expected[name]
    differences = np.abs(value - wanted) / np.maximum(1, np.abs(wanted))
    # NaN counts as an infinite difference.
    worst = max(worst, float(np.nan_to_num(differences, nan=np.inf).max()))
  names = ", ".join(sorted(expected))
  if not worst <= TOLERANCE:
    raise options.InputError(
      f"outputs of {what} within {TOLERANCE:g} of the model's ({names})",
      f"{worst:.3g} apart",
      "report it with the config: nothing was written",
    )
  return f"outputs of {what}: {worst:.1e} differences at most ({names})"
