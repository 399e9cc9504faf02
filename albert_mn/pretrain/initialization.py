"""The initial weights of `--initialization=corpus`: counted, stored, assigned.

The statistics of the training records are stored in `initialization/` of the
run directory, so that a run that is killed before its first checkpoint does not
count again.
"""

import dataclasses
import io
import os

import numpy as np
from absl import logging

from albert_mn.models import pretraining
from albert_mn.pretrain import corpus_start, inputs
from data_prep.encoding import tokenization
from data_prep.files import manifest, storage

FOLDER = "initialization"


def assign(
  model: pretraining.PretrainingModel,
  training: inputs.RecordSet,
  tokenizer: tokenization.Tokenizer,
  seed: int,
  output_dir: str,
  writes: bool,
) -> None:
  """Replaces the random weights of a new model by weights from statistics.

  If statistics of the same records are stored, they are read; otherwise the
  records are counted and the statistics are stored. Records that were made
  elsewhere have no identity and are always counted.

  Args:
    model: a new model.
    training: the training records.
    tokenizer: the tokenizer that made the records.
    seed: seed of the weights that are not counted.
    output_dir: the run directory.
    writes: whether this process writes files; of several workers, only one
      does.
  """
  folder = os.path.join(output_dir, FOLDER)
  identities = {"records": training.identity or ""}
  config = model.encoder.config
  width = corpus_start.word_dimensions(config)
  statistics = saved(folder, width, identities) if training.identity else None
  if not statistics:
    statistics = corpus_start.of_records(training, tokenizer, config)
    if writes:
      save(folder, statistics, identities)
  corpus_start.assign(model, statistics, tokenizer.special, seed)
  logging.info("initialization: weights from statistics of the records")


def save(
  folder: str, statistics: corpus_start.Statistics, identities: dict[str, str]
) -> None:
  """Writes statistics and a manifest into a folder.

  Args:
    folder: the folder.
    statistics: the statistics to write.
    identities: {"records": identity of the counted records}.
  """
  manifest.begin(folder)
  for field in dataclasses.fields(statistics):
    path = os.path.join(folder, f"{field.name}.npy")
    with storage.writing(path, "wb") as file:
      np.save(file, getattr(statistics, field.name))
  manifest.write(
    folder,
    FOLDER,
    parameters={"width": statistics.vectors.shape[1]},
    files=[f"{field.name}.npy" for field in dataclasses.fields(statistics)],
    counts={"vocab_size": len(statistics.vectors)},
    inputs=identities,
  )


def saved(
  folder: str, width: int, identities: dict[str, str]
) -> corpus_start.Statistics | None:
  """Returns the statistics that `save` wrote; None if they are missing.

  Statistics that were counted on other records, or whose vectors have another
  width, count as missing.

  Args:
    folder: the folder.
    width: the expected dimensions of the vectors.
    identities: {"records": identity of the records}.

  Raises:
    options.InputError: when a file is missing, or has another size than the
      manifest states.
  """
  content = manifest.find(folder)
  if (
    not content
    or content["inputs"] != dict(identities)
    or content["parameters"] != {"width": width}
  ):
    return None
  manifest.check(folder, FOLDER)
  names = [field.name for field in dataclasses.fields(corpus_start.Statistics)]
  return corpus_start.Statistics(
    *(
      np.load(
        io.BytesIO(storage.read_bytes(os.path.join(folder, f"{name}.npy"))),
        allow_pickle=False,
      )
      for name in names
    )
  )
