r"""Measures the speed of a training step as a share of the processor's peak.

    python -m benchmarks.step_speed --input_file='corpus/*.txt' \
      --spm_model_file=tokenizer/tokenizer.model

One core computes in float32 with dropout 0. The peak is the speed of the matrix
product, measured in the same run on the shapes of the feed-forward layer. Only
matrix products count as work: three times those of the forward pass.

With --input_file the program also prints how many words of the corpus are
trained on per CPU second, in packed records. It compares this with
google-research/albert, which pads every example, divides й and ё into two
characters, and reaches 63 % of the peak (measured at 128 pieces with the graph
of TensorFlow 1, docs/log.md), at an equal number of masked positions.

--rival_python=.venv-interop/bin/python (`scripts/setup.sh --interop`) also runs
the step with transformers on PyTorch.
"""

import collections
import dataclasses
import itertools
import json
import os
import pathlib
import resource
import subprocess
import time
import unicodedata
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from albert_mn.models import configs, pretraining
from albert_mn.pretrain import inputs, trainer
from albert_mn.runtime import divergence, optimization, throughput
from data_prep.base import options
from data_prep.files import documents, records
from data_prep.pretraining import examples

# The share of the peak that google-research/albert reaches; see docs/log.md.
_GOOGLES_SHARE = 0.63
_DOCUMENTS_A_RANGE = 256

_ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the model, the batch and the comparisons."""

  model: str = options.option(
    "albert_base",
    "Name of a config in the folder configs, such as albert_base.",
  )
  max_seq_length: int = options.option(
    128,
    "Number of pieces in a sequence.",
    minimum=8,
  )
  batch_size: int = options.option(
    8,
    "Number of sequences in a step.",
    minimum=1,
  )
  steps: int = options.option(
    4,
    "Number of steps that are timed.",
    minimum=1,
  )
  lean: bool = options.option(
    True,
    "Measure the lean step. With --nolean the step goes layer by layer.",
  )
  input_file: str = options.option(
    "",
    "Corpus files, as glob patterns separated by commas, to measure how "
    "many words are trained on in a second of CPU time.",
  )
  spm_model_file: str = options.option(
    "",
    "SentencePiece model that divides the sentences of --input_file into "
    "pieces.",
  )
  documents: int = options.option(
    2000,
    "Number of documents of --input_file to use.",
    minimum=1,
  )
  rival_python: str = options.option(
    "",
    "Python interpreter with torch and transformers, to run the step in "
    "PyTorch too.",
  )


def main(settings: Options) -> None:
  """Prints sequences per CPU second, the share of the peak, and the memory.

  With --rival_python a comparison with transformers is printed too, and with
  --input_file one with google-research/albert.
  """
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  config = dataclasses.replace(
    _config(settings.model),
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
  )
  before = peak(config)
  seconds = _step_seconds(settings, config)
  best = max(before, peak(config))
  work = (
    throughput.step_flops(
      config,
      settings.batch_size,
      settings.max_seq_length,
      _predictions(settings),
    )
    / seconds
  )
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
  print(
    f"{settings.model}, {settings.batch_size} x {settings.max_seq_length}: "
    f"{settings.batch_size / seconds:.2f} sequences/s, {work / 1e9:.1f} GFLOP/s, "
    f"{work / best:.0%} of the peak of {best / 1e9:.1f} GFLOP/s; "
    f"{memory:.2f} GB at most"
  )
  if settings.rival_python:
    _compare_rival(settings, seconds)
  if settings.input_file:
    _compare_words(
      settings, settings.batch_size / seconds, seconds * work / best
    )


def _compare_rival(settings: Options, ours: float) -> None:
  """Prints the CPU seconds of rival_step.py and their ratio to `ours`.

  Args:
    settings: the model and the batch.
    ours: CPU seconds of a step of this project.
  """
  command = [
    settings.rival_python,
    str(_ROOT / "benchmarks/rival_step.py"),
    str(_config_file(settings.model)),
    *map(str, (settings.batch_size, settings.max_seq_length, settings.steps)),
  ]
  done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
  rival = json.loads(done.stdout)
  print(
    f"transformers on PyTorch: {rival['seconds']:.2f} CPU-seconds a step and "
    f"{rival['bytes'] / 1e9:.2f} GB; {rival['seconds'] / ours:.2f} times ours"
  )


def _compare_words(settings: Options, ours: float, ideal: float) -> None:
  """Prints corpus words per CPU second, compared with google-research/albert.

  Args:
    settings: the text, and the length of the rows.
    ours: rows per second of this project.
    ideal: seconds of a step at the peak.
  """
  corpus = documents.read(documents.weighted(settings.input_file))
  text = [d.sentences for d in itertools.islice(corpus, settings.documents)]
  theirs = settings.batch_size / ideal * _GOOGLES_SHARE
  packed, padded, decomposed = (
    _words_a_row(settings, sentences, packs)
    for sentences, packs in (
      (text, True),
      (text, False),
      ([tuple(map(_without_marks, s)) for s in text], False),
    )
  )
  print(
    f"{ours * packed:.0f} words a CPU-second: {packed:.1f} a packed row, "
    f"{padded:.1f} a padded one, {decomposed:.1f} with й and ё "
    f"taken apart; {ours * packed / (theirs * decomposed):.2f} times "
    "google-research/albert's "
    "(at least 1.6 at length 128, 2 at 512), "
    f"{ours * packed / (theirs * padded):.2f} times with й and ё kept"
  )


def _words_a_row(
  settings: Options, text: list[tuple[str, ...]], packs: bool
) -> float:
  """Returns the mean number of corpus words in a row of training records.

  Args:
    settings: the tokenizer and the length of the rows.
    text: the sentences of each document.
    packs: whether several examples share a row.
  """
  recipe = examples.Recipe(
    max_seq_length=settings.max_seq_length,
    masking="dynamic",
    pack_sequences=packs,
  )
  counts: examples.Counts = collections.Counter()
  for start in range(0, len(text), _DOCUMENTS_A_RANGE):
    part = text[start : start + _DOCUMENTS_A_RANGE]
    task = examples.Range(
      False, tuple(examples.Text(i, 1, s) for i, s in enumerate(part, start))
    )
    counts += examples.of_range(task, 1, recipe, settings.spm_model_file).counts
  words = sum(len(s.split()) for sentences in text for s in sentences)
  shown, cut = counts["train_pieces"], counts["train_cut"]
  return words * shown / (shown + cut) / counts["train_examples"]


def _without_marks(sentence: str) -> str:
  """Returns a sentence in NFKD without its combining marks, so й becomes и.

  The function preprocess_text of google-research/albert drops them too.
  """
  decomposed = unicodedata.normalize("NFKD", sentence)
  return "".join(c for c in decomposed if not unicodedata.combining(c))


def _config(name: str) -> configs.AlbertConfig:
  """Returns the config `name`.json of the folder configs."""
  family = (
    configs.BertConfig if name.startswith("bert") else configs.AlbertConfig
  )
  return family.from_file(str(_config_file(name)))


def _config_file(name: str) -> pathlib.Path:
  """Returns the path of the file `name`.json in the folder configs."""
  return _ROOT / "configs" / f"{name}.json"


def peak(config: configs.AlbertConfig) -> float:
  """Returns the operations per CPU second of the fastest of 30 matrix products.

  A product is [1024, hidden_size] by [hidden_size, intermediate_size], as in the
  config's feed-forward layer; a multiplication and an addition are two
  operations.
  """
  rows, inner, columns = 1024, config.hidden_size, config.intermediate_size
  left, right = tf.ones([rows, inner]), tf.ones([inner, columns])
  product = tf.function(lambda: tf.matmul(left, right))
  times = [_seconds(product) for _ in range(30)]
  return 2 * rows * inner * columns / min(times)


def _seconds(work: Callable[[], object]) -> float:
  """Returns the CPU seconds that a function takes."""
  began = time.process_time()
  work()
  return time.process_time() - began


def _predictions(settings: Options) -> int:
  """Returns the number of masked positions of a row: 15 % of its length.

  The number is rounded up.
  """
  return int(np.ceil(0.15 * settings.max_seq_length))


def _step_seconds(settings: Options, config: configs.AlbertConfig) -> float:
  """Returns the CPU seconds of the fastest of the timed training steps."""
  model = pretraining.PretrainingModel(config, 0)
  watch = divergence.Watch()
  optimizer = optimization.create(
    optimization.OptimizerOptions(), settings.lean, watch.scale
  )
  optimizer.build(model.trainable_variables)
  steps = trainer.Trainer(
    trainer.Learner(model, optimizer, watch),
    trainer.Steps(settings.steps, lean=settings.lean),
    tf.distribute.get_strategy(),
  )
  batch = _batch(settings, config)
  loop = steps.create_train_loop_fn()
  iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
  loop(iterator, tf.constant(1))
  return min(
    _seconds(lambda: loop(iterator, tf.constant(1)))
    for _ in range(settings.steps)
  )


def _batch(
  settings: Options, config: configs.AlbertConfig
) -> dict[str, tf.Tensor]:
  """Returns name of a feature → its tensor, for a batch of random ids."""
  rng = np.random.default_rng(0)
  rows, length = settings.batch_size, settings.max_seq_length
  predictions = _predictions(settings)

  def whole(high: int, *shape: int) -> tf.Tensor:
    return tf.constant(rng.integers(0, high, shape), tf.int32)

  return {
    records.INPUT_IDS: whole(config.vocab_size, rows, length),
    records.INPUT_MASK: tf.ones([rows, length], tf.int32),
    records.SEGMENT_IDS: whole(2, rows, length),
    records.MASKED_LM_POSITIONS: whole(length, rows, predictions),
    records.MASKED_LM_IDS: whole(config.vocab_size, rows, predictions),
    records.MASKED_LM_WEIGHTS: tf.ones([rows, predictions]),
    records.NEXT_SENTENCE_LABELS: whole(2, rows),
    inputs.ROWS: tf.range(rows),
  }


if __name__ == "__main__":
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  options.run(main, Options)
