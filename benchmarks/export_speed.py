r"""Compares the speed of the int8 export with that of the float SavedModel.

    TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 \
      python -m benchmarks.export_speed --length=128

The model has the shape of ALBERT-base and random weights. One thread computes,
and the times are CPU seconds; only their ratio is meaningful. With --model_dir
a trained classifier is measured instead, and with --eval_file the accuracy of
both forms too.
"""

import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from albert_mn.export import export_source, exports, lite, serving
from albert_mn.models import configs
from albert_mn.tasks import classifier
from data_prep.base import options
from data_prep.files import records


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the model, the labelled rows, and the size of the measurement."""

  model_dir: str = options.option(
    "",
    "Model directory of a trained classifier. By default a model with "
    "random weights is measured.",
  )
  albert_config_file: str = options.option(
    "configs/albert_base.json",
    "JSON file with the shape of the model that is measured without "
    "--model_dir.",
  )
  eval_file: str = options.option(
    "",
    "Labelled rows on which the accuracy of --model_dir is measured.",
  )
  text_column: str = options.option(
    "text",
    "Header of the column with the texts in --eval_file.",
  )
  label_column: str = options.option(
    "label",
    "Header of the column with the labels in --eval_file.",
  )
  batch_size: int = options.option(
    1,
    "Number of texts in a batch.",
    minimum=1,
  )
  length: int = options.option(
    128,
    "Number of pieces in a text.",
    minimum=3,
  )
  runs: int = options.option(
    10,
    "Number of times that each form of the model is run.",
    minimum=1,
  )


def main(settings: Options) -> None:
  """Prints the CPU seconds per batch of both models, and the speed-ups."""
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  parts = _parts(settings)
  shape = (settings.batch_size, settings.length)
  vocabulary = parts["encoder"].config.vocab_size
  ids = np.random.default_rng(0).integers(5, vocabulary, shape, np.int32)
  seconds = {}
  with tempfile.TemporaryDirectory() as folder:
    saved = _saved_model(folder, parts, settings)
    given = {records.INPUT_IDS: tf.constant(ids)}
    seconds["SavedModel, float32"] = _seconds(
      lambda: saved(**given), settings.runs
    )
  for name, quantized in (("TFLite, float32", False), ("TFLite, int8", True)):
    content = lite.converted(parts, 0, *shape, quantized)
    classify = lite.LiteClassifier(content)
    seconds[name] = _seconds(
      functools.partial(classify.logits, ids), settings.runs
    )
  slowest = seconds["SavedModel, float32"]
  print(f"batch {shape[0]}, length {shape[1]}, one thread")
  for name, value in seconds.items():
    print(f"{name:<20} {value:8.4f} CPU-s a batch  {slowest / value:5.2f} x")
  if settings.model_dir and settings.eval_file:
    _print_accuracies(settings)


def _parts(settings: Options) -> dict[str, Any]:
  """Returns name → layer of the model to measure.

  The model is that of --model_dir, or one with random weights.
  """
  if settings.model_dir:
    return export_source.opened(settings.model_dir).parts
  config = configs.AlbertConfig.from_file(settings.albert_config_file)
  return classifier.Classifier(config, 9, seed=0).parts()


def _saved_model(
  folder: str, parts: dict[str, Any], settings: Options
) -> Callable[..., dict[str, tf.Tensor]]:
  """Returns a SavedModel that reads ids instead of texts, saved and loaded.

  Args:
    folder: the folder to save it in.
    parts: the layers of the model.
    settings: the length of the inputs.

  Returns:
    the loaded function: input_ids → {"logits": [rows, labels]}.
  """
  forward = serving.logits_of(parts)
  shape = [None, settings.length]

  @tf.function(
    input_signature=[tf.TensorSpec(shape, tf.int32, name=records.INPUT_IDS)]
  )
  def logits(pieces: tf.Tensor) -> dict[str, tf.Tensor]:
    mask = tf.cast(pieces != 0, tf.int32)
    return {"logits": forward(pieces, mask, tf.zeros_like(pieces))}

  module = tf.Module()
  module.parts = list(parts.values())
  tf.saved_model.save(module, folder, signatures=logits)
  loaded: Callable[..., dict[str, tf.Tensor]] = tf.saved_model.load(
    folder
  ).signatures["serving_default"]
  return loaded


def _seconds(run: Callable[[], object], runs: int) -> float:
  """Returns the CPU seconds of the fastest of several runs.

  Other programs may have disturbed the slower runs. An additional first run is
  not timed.
  """
  run()
  seconds = []
  for _ in range(runs):
    begin = time.process_time()
    run()
    seconds.append(time.process_time() - begin)
  return min(seconds)


def _print_accuracies(settings: Options) -> None:
  """Exports --model_dir as int8 TFLite, which prints both accuracies."""
  with tempfile.TemporaryDirectory() as folder:
    exports.run(
      exports.Options(
        model_dir=settings.model_dir,
        to="tflite_int8",
        output_dir=os.path.join(folder, "out"),
        max_seq_length=settings.length,
        eval_file=settings.eval_file,
        text_column=settings.text_column,
        label_column=settings.label_column,
      )
    )


if __name__ == "__main__":
  options.run(main, Options)
