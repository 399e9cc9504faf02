"""Detection of weights of Keras and KerasHub, which no program here reads.

A KerasHub preset is a folder with config.json, metadata.json, model.weights.h5
and tokenizer.json, whose config names a class (`keras_hub>AlbertBackbone`).
"""

import os
from typing import Any

from albert_mn.formats import huggingface
from data_prep.base import options
from data_prep.files import json_files, storage

_WEIGHTS = (".h5", ".keras")
# The packages of the classes that a preset names.
_HUBS = ("keras_hub", "keras_nlp")


def refuse(path: str) -> None:
  """Raises InputError for a KerasHub preset, or a file *.h5 or *.keras.

  A folder whose config.json is damaged is refused too.

  Args:
    path: a folder or a file, local or remote. Any other file or folder, and a
      path where nothing is, are accepted.
  """
  if path.endswith(_WEIGHTS) and storage.exists(path):
    preset = _preset(os.path.dirname(path))
  else:
    preset = _preset(path)
    if not preset:
      return
  raise options.InputError(
    "weights of this project, of google-research, tf-models or Hugging Face",
    f"{preset or 'a file of Keras'} at {path}",
    "give the checkpoint that it was made from: presets of KerasHub and other "
    "files of Keras are not read here yet",
  )


def _preset(folder: str) -> str:
  """Returns a description of the KerasHub preset in a folder.

  An example is `a KerasHub preset (keras_hub>BertBackbone)`; the result is ""
  for any other folder.
  """
  path = os.path.join(folder, huggingface.CONFIG)
  if not storage.exists(path):
    return ""
  values: Any = json_files.read(path)
  name = values.get("registered_name") if isinstance(values, dict) else None
  module = values.get("module") if isinstance(values, dict) else None
  if str(name).startswith(tuple(f"{hub}>" for hub in _HUBS)):
    return f"a KerasHub preset ({name})"
  if str(module).split(".")[0] in _HUBS:
    return f"a KerasHub preset ({module})"
  return ""
