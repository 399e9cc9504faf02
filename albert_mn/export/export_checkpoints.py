"""Exports of weights: for this project, google-research and transformers.

Each writer fills a folder, reads it back, compares the outputs with the
model's, and returns lines on the comparison.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from albert_mn.export import export_source
from albert_mn.formats import (
  conversion,
  huggingface,
  huggingface_tokenizer,
  tf1_checkpoints,
)
from albert_mn.models import model_directory, plain_forward
from albert_mn.tasks import ensembles
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import manifest, storage


def weights(
  folder: str, source: export_source.Source, settings: export_source.Options
) -> list[str]:
  """Writes a model directory without the parts that only pretraining needs.

  Returns a line on the comparison of the outputs, in a list.

  Raises:
    options.InputError: when the outputs of the written model differ.
  """
  del settings
  model_directory.save(
    folder,
    source.described["kind"],
    config=source.config,
    parts=source.parts,
    tokenizer_file=source.tokenizer_file,
    parameters=source.parameters,
    counts=source.described["counts"],
    inputs={
      **source.described["inputs"],
      "model": manifest.identity(source.folder),
    },
    labels=source.labels,
    write_more=source.tfidf_blend.write if source.tfidf_blend else None,
  )
  again = export_source.opened(folder)
  outputs, expected = (
    _outputs(opened, opened.parts) for opened in (again, source)
  )
  return [export_source.compared("the files written", outputs, expected)]


def tf1(
  folder: str, source: export_source.Source, settings: export_source.Options
) -> list[str]:
  """Writes a checkpoint, config and tokenizer for google-research's programs.

  Returns a line on the comparison, in a list.

  Raises:
    options.InputError: when the outputs differ, or google-research's code
      cannot compute the model, such as an ensemble.
  """
  source.require_plain(settings.to)
  prefix = os.path.join(folder, model_directory.WEIGHTS)
  tf1_checkpoints.write(
    prefix, source.exported_parts, source.config, source.of_pieces
  )
  with storage.writing(os.path.join(folder, "checkpoint")) as file:
    name = model_directory.WEIGHTS
    file.write(f'model_checkpoint_path: "{name}"\n')
  with storage.writing(os.path.join(folder, source.config.FILE)) as file:
    file.write(source.config.to_json())
  if source.tokenizer_file:
    _upstreams_tokenizer(folder, source)
  write_labels(folder, source.labels)
  arrays, _ = tf1_checkpoints.read(prefix)
  return [_plain(arrays, source)]


def _upstreams_tokenizer(folder: str, source: export_source.Source) -> None:
  """Copies the tokenizer into the folder.

  For a SentencePiece model it also writes tokenizer.vocab, the list of pieces
  that google-research/albert reads as --vocab_file.
  """
  name = os.path.basename(source.tokenizer_file)
  storage.copy(source.tokenizer_file, os.path.join(folder, name))
  if not tokenization.is_wordpiece(source.tokenizer_file):
    tokenizer = source.tokenizer()
    path = os.path.join(folder, "tokenizer.vocab")
    with storage.writing(path) as file:
      for piece in tokenizer.pieces(range(tokenizer.vocab_size)):
        file.write(f"{piece}\t0\n")


def write_labels(folder: str, labels: Sequence[str]) -> None:
  """Writes a classifier's labels to labels.json in a folder.

  Args:
    folder: the folder.
    labels: the labels, in the order of the outputs; nothing is written if there
      are none.
  """
  if labels:
    path = os.path.join(folder, model_directory.LABELS)
    with storage.writing(path) as file:
      json.dump(list(labels), file, ensure_ascii=False, indent=2)
      file.write("\n")


def transformers(
  folder: str, source: export_source.Source, settings: export_source.Options
) -> list[str]:
  """Writes a directory for transformers' from_pretrained.

  Returns lines on the comparison.

  Raises:
    options.InputError: when outputs, config or ids differ, when tokenizer.json
      cannot express the tokenizer, and for a model that transformers cannot
      compute, such as an ensemble.
  """
  source.require_plain(settings.to)
  specials: dict[str, int] = {}
  if source.tokenizer_file:
    tokenizer = source.tokenizer()
    longest = source.config.max_position_embeddings
    huggingface_tokenizer.write(
      folder,
      tokenizer,
      source.tokenizer_file,
      source.length(settings) if source.problem else longest,
    )
    specials = {
      name: number
      for name, (number, _) in huggingface_tokenizer.special_pieces(
        tokenizer
      ).items()
    }
  huggingface.write(
    folder,
    source.exported_parts,
    source.config,
    problem=source.problem,
    specials=specials,
  )
  if huggingface.config(folder).config != dataclasses.replace(
    source.config, inert=()
  ):
    raise options.InputError(
      "the model's config in config.json", "another one", "report it"
    )
  arrays, _ = huggingface.read(folder)
  return [_plain(arrays, source), *_same_ids(folder, source)]


def _same_ids(folder: str, source: export_source.Source) -> list[str]:
  """Returns lines on the ids of tokenizer.json; [] without a tokenizer.

  The package `tokenizers` reads the file; its ids of test texts must equal the
  model's.

  Raises:
    options.InputError: when ids differ.
  """
  if not source.tokenizer_file:
    return []
  path = os.path.join(folder, huggingface.FAST_TOKENIZER)
  theirs = tokenizers.Tokenizer.from_file(path)
  texts = export_source.texts()
  expected = source.tokenizer().encode(texts)
  for text, ids in zip(texts, expected, strict=True):
    if theirs.encode(text, add_special_tokens=False).ids != ids.tolist():
      raise options.InputError(
        f"the ids of {text!r} from tokenizer.json", "others", "report it"
      )
  return [
    f"ids of tokenizer.json: equal on {len(texts)} texts",
    *export_source.ties(source.tokenizer()),
    *huggingface_tokenizer.limits(source.tokenizer()),
  ]


def _plain(
  arrays: Mapping[str, np.ndarray], source: export_source.Source
) -> str:
  """Compares the model with a computation in numpy from the written arrays.

  Returns a line with the largest difference of the outputs on test sentences.

  Args:
    arrays: name → the array that the export contains.
    source: the model.

  Raises:
    options.InputError: when the outputs differ.
  """
  plain = plain_forward.PlainModel(arrays, source.config, source.of_pieces)
  expected = _outputs(source, source.exported_parts)
  outputs = plain.outputs(*_inputs(source))
  if source.of_pieces:
    expected.pop("pooled")  # a tagger is written without pooler
  return export_source.compared("the arrays written", outputs, expected)


def _outputs(
  source: export_source.Source, parts: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """Returns output name → array: what a model computes for the test sentences.

  The names are those of conversion.outputs, such as "sequence" and "pooled".
  For an ensemble the outputs of each network are included: sequence,
  sequence_1, sequence_2 and so on.

  Args:
    source: the opened model directory.
    parts: name → layer, of all networks.
  """
  networks = ensembles.divided(parts)
  every = [{**parts, **network} for network in networks or [{}]]
  return {
    ensembles.name(name, number): array
    for number, network in enumerate(every)
    for name, array in conversion.outputs(
      network, *_inputs(source), source.of_pieces
    ).items()
  }


def _inputs(source: export_source.Source) -> tuple[np.ndarray, np.ndarray]:
  """Returns ids and mask of test sentences, each int32 [sentences, length].

  The length is 64, or max_position_embeddings if that is smaller.
  """
  length = min(64, source.config.max_position_embeddings)
  return source.framed(export_source.texts(), length)
