r"""Measures how many texts a classifier reads per second, by kind of batch.

    python -m benchmarks.classifier_speed --spm_model_file=tokenizer.model \
      --sentences_file=news.txt --documents_file=passages.txt

Two kinds of batches are compared in one run on one core: batches of texts of
similar length, and batches that are padded to the maximal length. The time
includes the tokenizer and excludes the tracing of the graph. ALBERT-base with
random weights reads sentences at 128 pieces and documents at 512. Then the
times of a cold start and of a single text are printed.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from albert_mn.finetune import classifier_step, fine_tuning
from albert_mn.models import configs
from albert_mn.runtime import optimization
from albert_mn.tasks import classifier, problems
from data_prep.base import options
from data_prep.encoding import framing, length_buckets, tokenization
from data_prep.files import documents

_ROOT = pathlib.Path(__file__).parent.parent
_LABELS = ("a", "b")


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the model, the texts and the batches."""

  spm_model_file: str = options.option(
    "",
    "SentencePiece model that divides texts into pieces. Required.",
  )
  sentences_file: str = options.option(
    "",
    "Text file with a sentence in each line, read with at most 128 pieces.",
  )
  documents_file: str = options.option(
    "",
    "Text file with a blank line between documents, read with at most 512 "
    "pieces.",
  )
  model: str = options.option(
    "albert_base",
    "Name of a config in the folder configs, such as albert_base.",
  )
  texts: int = options.option(
    128,
    "Number of sentences, and of documents, that are drawn from the files.",
    minimum=8,
  )
  batch_size: int = options.option(
    8,
    "Number of texts in a batch.",
    minimum=1,
  )
  seed: int = options.option(
    0,
    "Seed of the draw of texts.",
    minimum=0,
  )


def main(settings: Options) -> None:
  """Prints the ratios of the speeds, then the times of single predictions."""
  options.require(settings, "spm_model_file")
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  began = time.process_time()
  tokenizer = tokenization.Tokenizer(settings.spm_model_file)
  config = _config(settings.model, tokenizer.vocab_size)
  work = _Work(settings, classifier.Classifier(config, 2, 0), tokenizer)
  if settings.sentences_file:
    work.compare(_drawn(settings, settings.sentences_file, whole=False), 128)
  if settings.documents_file:
    work.compare(_drawn(settings, settings.documents_file, whole=True), 512)
  work.latency()
  print(f"{time.process_time() - began:.0f} CPU-seconds in all")


def _config(name: str, vocab_size: int) -> configs.AlbertConfig:
  """Returns a config of the folder configs, with the given vocabulary size."""
  family = (
    configs.BertConfig if name.startswith("bert") else configs.AlbertConfig
  )
  config = family.from_file(str(_ROOT / "configs" / f"{name}.json"))
  return dataclasses.replace(config, vocab_size=vocab_size)


def _drawn(settings: Options, path: str, whole: bool) -> list[str]:
  """Returns random texts of a file, at most the number in the options.

  Args:
    settings: the number of texts and the seed.
    path: a text file with a blank line between documents.
    whole: whether a text is a whole document; otherwise it is a sentence.
  """
  texts = [
    text
    for document in documents.read(documents.weighted(path))
    for text in (
      [" ".join(document.sentences)] if whole else document.sentences
    )
  ]
  rng = np.random.default_rng(settings.seed)
  places = rng.choice(len(texts), min(settings.texts, len(texts)), False)
  return [texts[place] for place in places]


class _Work:
  """A model that predicts and trains, with and without length buckets."""

  def __init__(
    self,
    settings: Options,
    model: classifier.Classifier,
    tokenizer: tokenization.Tokenizer,
  ) -> None:
    self._settings, self._model, self._tokenizer = settings, model, tokenizer
    self._problem = problems.SingleLabel(_LABELS)
    recipe = optimization.OptimizerOptions(
      optimizer="adamw", learning_rate=1e-5, num_warmup_steps=0
    )
    self._steps = {
      fit: classifier_step.Step(
        model, optimization.create(recipe), self._problem, seed=0, fit=fit
      )
      for fit in (True, False)
    }

  def compare(self, texts: Sequence[str], length: int) -> None:
    """Prints the speed of prediction and of training in bucketed batches.

    Such a batch has texts of similar length. Printed too is the ratio to the
    speed of batches in which all rows are padded to `length` pieces.

    Args:
      texts: the texts to predict and to train on.
      length: the maximal number of pieces.
    """
    size = self._settings.batch_size
    framer = framing.Framer(self._tokenizer, length)
    predictor = classifier.Predictor(self._model, framer, self._problem)
    pieces = np.mean([len(ids) for ids in framer.frame(texts).ids])
    print(
      f"length {length}: {pieces:.0f} pieces a text, 1 / {length / pieces:.2f} of "
      "the positions"
    )
    fixed = texts[: 2 * size]

    def predict_fixed() -> None:
      for batch in _padded(framer, fixed, size):
        arrays = (batch.input_ids, batch.input_mask, batch.segment_ids)
        predictor._forward(*map(tf.constant, arrays)).numpy()

    predictor.logits(texts[:1])  # traces
    ratio = _ratio(
      lambda: predictor.logits(texts, size),
      len(texts),
      predict_fixed,
      len(fixed),
    )
    print(f"length {length}, batch {size}, prediction: {ratio}")
    fixed = texts[:size]
    for whole in (False, True):
      self._train(framer, texts[:size], fixed=whole)  # traces
    ratio = _ratio(
      lambda: self._train(framer, texts, fixed=False),
      len(texts),
      lambda: self._train(framer, fixed, fixed=True),
      len(fixed),
    )
    print(f"length {length}, batch {size}, training: {ratio}")

  def _train(
    self, framer: framing.Framer, texts: Sequence[str], fixed: bool
  ) -> None:
    """Trains on all texts once.

    Args:
      framer: makes the inputs.
      texts: the texts.
      fixed: whether all batches are padded to the maximal length.
    """
    size, framed = self._settings.batch_size, framer.frame(texts)
    examples = problems.Examples(
      framed.ids,
      framed.second_starts,
      np.arange(len(texts), dtype=np.int32) % 2,
      np.ones(len(texts), np.float32),
      self._tokenizer.pad_id,
    )
    recipe = fine_tuning.Recipe(
      max_seq_length=framer.max_seq_length, train_batch_size=size
    )
    steps = recipe.steps_per_epoch(len(texts))
    bucketed = (
      batch
      for _, batch in fine_tuning.training_batches(examples, recipe, 0, steps)
    )
    for batch in _padded(framer, texts, size) if fixed else bucketed:
      self._steps[not fixed](batch, examples)

  def latency(self) -> None:
    """Prints the CPU times of the first prediction and of the next ones.

    The first one includes the tracing of the graph.
    """
    text = "Өнөөдөр Улаанбаатар хотод цас орж, салхитай байна."
    framer = framing.Framer(self._tokenizer, 128)
    predictor = classifier.Predictor(self._model, framer, self._problem)
    cold = _seconds(lambda: predictor.logits([text]))
    again = min(_seconds(lambda: predictor.logits([text])) for _ in range(5))
    print(
      f"the first prediction takes {cold:.2f} CPU-s (tracing), one text of "
      f"{len(framer.frame([text]).ids[0])} pieces then {again * 1e3:.0f} ms"
    )


def _padded(
  framer: framing.Framer, texts: Sequence[str], size: int
) -> Iterator[length_buckets.Batch]:
  """Yields batches in which all rows are padded to the maximal length.

  Args:
    framer: makes the inputs.
    texts: the texts.
    size: rows per batch.
  """
  framed, length = framer.frame(texts), framer.max_seq_length
  for first in range(0, len(texts), size):
    rows = np.arange(first, min(first + size, len(texts)))
    ids = np.full((size, length), framer.tokenizer.pad_id, np.int32)
    mask = np.zeros((size, length), np.int32)
    for place, row in enumerate(rows):
      ids[place, : len(framed.ids[row])] = framed.ids[row]
      mask[place, : len(framed.ids[row])] = 1
    mask[len(rows) :, 0] = 1
    weights = (np.arange(size) < len(rows)).astype(np.float32)
    yield length_buckets.Batch(rows, ids, mask, np.zeros_like(ids), weights)


def _ratio(
  ours: Callable[[], object],
  texts: int,
  theirs: Callable[[], object],
  fixed_texts: int,
) -> str:
  """Returns a line with both speeds in texts per second and their ratio.

  All padded batches cost the same, so a few of them suffice.

  Args:
    ours: computes `texts` texts in batches of similar lengths.
    texts: the number of these texts.
    theirs: computes `fixed_texts` texts in padded batches.
    fixed_texts: the number of these texts.
  """
  # Padded batches run before and after ours: the machine may become slower.
  first, own, last = _seconds(theirs), _seconds(ours), _seconds(theirs)
  fast, slow = texts / own, 2 * fixed_texts / (first + last)
  return (
    f"{fast:.2f} texts a CPU-second, {slow:.2f} padded: {fast / slow:.2f} times"
  )


def _seconds(work: Callable[[], object]) -> float:
  """Returns the CPU seconds that a function takes."""
  began = time.process_time()
  work()
  return time.process_time() - began


if __name__ == "__main__":
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  options.run(main, Options)
