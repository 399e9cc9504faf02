"""How fast a training step is: its share of the matrix product's peak.

    python -m benchmarks.step_speed

One core, float32, dropout 0. The peak is measured in the same run, on the
shapes of the feed-forward layer. Only matrix products count as work, three
times those of the forward pass; the rest of a step is time without work.
"""

import dataclasses
import os
import pathlib
import resource
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from albert_mn import (
  configs,
  divergence,
  inputs,
  optimization,
  pretraining,
  throughput,
  trainer,
)
from data_prep import options, records

_ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Options:
  """What to measure."""

  model: str = options.option("albert_base", "a config in configs/")
  max_seq_length: int = options.option(128, "pieces a sequence", minimum=8)
  batch_size: int = options.option(8, "sequences", minimum=1)
  steps: int = options.option(4, "steps that are timed", minimum=1)
  lean: bool = options.option(True, "the lean step; false: layer by layer")


def main(settings: Options) -> None:
  """Prints sequences a second, the share of the peak, and the memory."""
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


def _config(name: str) -> configs.AlbertConfig:
  family = (
    configs.BertConfig if name.startswith("bert") else configs.AlbertConfig
  )
  return family.from_file(str(_ROOT / "configs" / f"{name}.json"))


def peak(config: configs.AlbertConfig) -> float:
  """Returns floating-point operations a CPU-second of a matrix product."""
  rows, inner, columns = 1024, config.hidden_size, config.intermediate_size
  left, right = tf.ones([rows, inner]), tf.ones([inner, columns])
  product = tf.function(lambda: tf.matmul(left, right))
  times = [_seconds(product) for _ in range(30)]
  return 2 * rows * inner * columns / min(times)


def _seconds(work: Callable[[], object]) -> float:
  began = time.process_time()
  work()
  return time.process_time() - began


def _predictions(settings: Options) -> int:
  return int(np.ceil(0.15 * settings.max_seq_length))


def _step_seconds(settings: Options, config: configs.AlbertConfig) -> float:
  """Returns the CPU-seconds of a step, the fastest of those timed."""
  model = pretraining.PretrainingModel(config, 0)
  watch = divergence.Watch()
  optimizer = optimization.create(
    optimization.OptimizerOptions(), settings.lean, watch.scale
  )
  optimizer.build(model.trainable_variables)
  steps = trainer.Trainer(
    model,
    optimizer,
    tf.distribute.get_strategy(),
    watch=watch,
    evaluation=None,
    characters=None,
    total_steps=settings.steps,
    parts=1,
    seed=0,
    jit_compile=True,
    lean_step=settings.lean,
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
