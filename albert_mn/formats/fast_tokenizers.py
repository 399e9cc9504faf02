"""The SentencePiece model or vocab.txt from which a tokenizer.json was made.

Since version 5, transformers saves a tokenizer as tokenizer.json only. A
tokenizer.json of export_model contains the original file and the settings: see
`carrier`. For any other tokenizer.json a vocab.txt is built from the pieces,
or a SentencePiece model from the pieces, scores and rule table. The module
foreign_text translates further steps of the normalizer, such as Lowercase, into
tokenization.Settings.
"""

import base64
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging
from google.protobuf import message
from sentencepiece import sentencepiece_model_pb2

from albert_mn.formats import huggingface, rule_steps
from albert_mn.models import model_directory
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import fetched, json_files, storage

_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece
# Normalizer steps of SentencePiece itself, or of tokenization.Settings.
_STEPS = {
  "Precompiled",
  "Lowercase",
  "NFKD",
  "StripAccents",
  "Replace",
  "Strip",
  "Sequence",
  "None",
}
_DAMAGED = (AttributeError, KeyError, TypeError, ValueError)
# The string that the step of `carrier` replaces: no normalised text contains
# it.
_CARRIED = f"{rule_steps.SEPARATOR} made from "


class Carried(NamedTuple):
  """The original tokenizer file that an exported tokenizer.json contains.

  Attributes:
    data: the bytes of the SentencePiece model or vocab.txt.
    settings: the normalisation of a text before the tokenizer.
  """

  data: bytes
  settings: tokenization.Settings


def carrier(
  tokenizer_file: str,
  settings: tokenization.Settings,
  steps: Sequence[rule_steps.Step],
) -> rule_steps.Step:
  """Returns a step for tokenizer.json that contains a tokenizer's own file.

  The step also contains the settings. The file cannot be derived from the other
  steps. transformers drops unknown keys when it rewrites tokenizer.json, but
  keeps every step; so the file is stored in a step. The step replaces a string
  that no text contains, so it changes no text.

  Args:
    tokenizer_file: a SentencePiece model or a vocab.txt.
    settings: the normalisation of a text before the tokenizer.
    steps: the other steps of the normalizer; their hash is stored too.
  """
  data = base64.b64encode(storage.read_bytes(tokenizer_file)).decode("ascii")
  values = {
    "data": data,
    "settings": dataclasses.asdict(settings),
    "steps": _digest(steps),
  }
  return rule_steps.replace(_CARRIED, json.dumps(values))


def carried(content: Mapping[str, Any]) -> Carried | None:
  """Returns the file and settings that the step of `carrier` contains.

  The result is None if there is no such step.

  Args:
    content: the content of tokenizer.json.

  Raises:
    AttributeError, KeyError, TypeError, ValueError: when the step is damaged,
      or the other steps were edited.
  """
  steps = _steps(content)
  for step in steps:
    if (step.get("pattern") or {}).get("String") == _CARRIED:
      values = json_files.parsed(step["content"])
      digest = _digest([kept for kept in steps if kept is not step])
      # Exports of earlier versions have no digest.
      if values.get("steps", digest) != digest:
        raise ValueError(
          "a normalizer with other steps than export_model wrote"
        )
      return Carried(
        base64.b64decode(values["data"], validate=True),
        tokenization.Settings.of(values["settings"]),
      )
  return None


def _digest(steps: Sequence[Mapping[str, Any]]) -> str:
  """Returns the SHA-256 of steps, in hexadecimal.

  The order of the keys in a step does not matter.
  """
  text = json.dumps(list(steps), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def exported_length(folder: str) -> int:
  """Returns the most pieces of a text that an export states, [SEP] included.

  The result is 0 if the tokenizer.json in `folder` is missing or not of this
  project, or if tokenizer_config.json is missing or states no model_max_length.

  Raises:
    options.InputError: when a file is no JSON object, or model_max_length is no
      whole number.
    AttributeError, KeyError, TypeError, ValueError: when the step of `carrier`
      in tokenizer.json is damaged.
  """
  fast, config = (
    os.path.join(folder, name)
    for name in (huggingface.FAST_TOKENIZER, huggingface.TOKENIZER_CONFIG)
  )
  if not (storage.exists(fast) and storage.exists(config)):
    return 0
  if not carried(json_files.read_object(fast)):
    return 0
  length = json_files.read_object(config).get("model_max_length", 0)
  json_files.require_type(length, int, f"model_max_length in {config}")
  return int(length)


def extracted(path: str) -> str:
  """Returns the path of a tokenizer file with the same ids as a tokenizer.json.

  It is a SentencePiece model or a vocab.txt, stored in the user's cache under
  the hash of tokenizer.json.

  Args:
    path: the tokenizer.json.

  Raises:
    options.InputError: when no SentencePiece model and no vocab.txt has these
      ids.
  """
  content = json_files.read_object(path)
  try:
    name, data = _file(content)
  except (*_DAMAGED, IndexError, message.DecodeError) as error:
    raise options.InputError(
      f"a Unigram or WordPiece tokenizer in {path}, or one of export_model's",
      f"{type(error).__name__} {error}"[:200],
      "give --spm_model_file or --vocab_file",
    ) from error
  return fetched.Cache().tokenizer(storage.sha256(path), name, data)


def _file(content: Mapping[str, Any]) -> tuple[str, bytes]:
  """Returns (name, bytes) of the tokenizer file that equals a tokenizer.json.

  Args:
    content: the content of tokenizer.json.

  Raises:
    AttributeError, LookupError, TypeError, ValueError, DecodeError: when no
      SentencePiece model and no vocab.txt has the same ids.
  """
  kind, made_from = content["model"]["type"], carried(content)
  if kind == "WordPiece":
    return model_directory.VOCABULARY, (
      _vocabulary_with_added(made_from.data, content)
      if made_from
      else _vocabulary(content)
    )
  if made_from:
    return model_directory.TOKENIZER, _model_with_added(made_from.data, content)
  if kind == "Unigram":
    return model_directory.TOKENIZER, _sentencepiece(content)
  raise ValueError(f"a model of type {kind}")


def _vocabulary_with_added(data: bytes, content: Mapping[str, Any]) -> bytes:
  """Returns a vocab.txt with the tokens that were added to tokenizer.json.

  Args:
    data: the vocab.txt that tokenizer.json contains.
    content: the content of tokenizer.json.

  Raises:
    ValueError: when tokenizer.json has other pieces, or ids with gaps.
  """
  pieces = list(storage.decoded_lines(io.BytesIO(data), _CARRIED))
  _require_same([piece.strip() for piece in pieces], content)
  added = _added_behind(len(pieces), content)
  return (
    b"\n".join([data.rstrip(b"\r\n"), *map(str.encode, added), b""])
    if added
    else data
  )


def _model_with_added(data: bytes, content: Mapping[str, Any]) -> bytes:
  """Returns a SentencePiece model with the tokens added to tokenizer.json.

  Args:
    data: the model that tokenizer.json contains.
    content: the content of tokenizer.json.

  Raises:
    ValueError: when tokenizer.json has other pieces, or ids with gaps.
  """
  proto = sentencepiece_model_pb2.ModelProto.FromString(data)
  _require_same([piece.piece for piece in proto.pieces], content)
  added = _added_behind(len(proto.pieces), content)
  for name in added:
    proto.pieces.add(piece=name, score=0.0, type=_PIECE.CONTROL)
  return proto.SerializeToString() if added else data


def _require_same(pieces: Sequence[str], content: Mapping[str, Any]) -> None:
  """Raises ValueError if tokenizer.json has other pieces than the original.

  The number of pieces and the ids of equal pieces are compared. User-defined
  pieces of a BPE model have other names in tokenizer.json, and are accepted.

  Args:
    pieces: the pieces of the original file, in id order.
    content: the content of tokenizer.json.
  """
  held = content["model"]["vocab"]
  if not isinstance(held, Mapping):
    held = {piece: number for number, (piece, _) in enumerate(held)}
  ids = {piece: number for number, piece in enumerate(pieces)}
  if len(ids) != len(held) or any(
    held.get(piece, number) != number for piece, number in ids.items()
  ):
    raise ValueError("other pieces than those that it was made from")


def _vocabulary(content: Mapping[str, Any]) -> bytes:
  """Returns the bytes of a vocab.txt with the pieces of a tokenizer.json.

  The pieces are in the order of their ids.

  Args:
    content: the content of a tokenizer.json of type WordPiece.

  Raises:
    ValueError: when there are gaps between the ids.
  """
  ids = dict(content["model"]["vocab"]) | _added(content)
  pieces = sorted(ids, key=lambda piece: ids[piece])
  if [ids[piece] for piece in pieces] != list(range(len(pieces))):
    raise ValueError("ids with gaps")
  return "".join(f"{piece}\n" for piece in pieces).encode()


def _added(content: Mapping[str, Any]) -> dict[str, int]:
  """Returns token → id, for the tokens in the list `added_tokens`.

  Args:
    content: the content of tokenizer.json. Some tokens of the list may be
      missing in the model's own vocabulary.
  """
  return {t["content"]: int(t["id"]) for t in content.get("added_tokens") or []}


def _added_behind(size: int, content: Mapping[str, Any]) -> list[str]:
  """Returns the added tokens with ids of at least `size`, in id order.

  Logs a warning on each of these tokens that is not special, since no text
  gives its id.

  Args:
    size: number of pieces of the original vocabulary.
    content: the content of tokenizer.json.

  Raises:
    ValueError: when the ids of these tokens do not begin with `size` or have
      gaps.
  """
  ids = {n: i for n, i in _added(content).items() if i >= size}
  names = sorted(ids, key=lambda name: ids[name])
  if sorted(ids.values()) != list(range(size, size + len(ids))):
    raise ValueError("ids with gaps")
  for token in content.get("added_tokens") or []:
    if token["content"] in ids and token.get("special") is False:
      logging.warning("no text gives the added token %r here", token["content"])
  return names


def _sentencepiece(content: Mapping[str, Any]) -> bytes:
  """Returns a SentencePiece model with the same pieces, scores and rule table.

  Args:
    content: the content of a tokenizer.json of type Unigram.

  Raises:
    ValueError: for a normalizer with other steps than _STEPS, for gaps between
      the ids of added tokens, and, like the other errors of _DAMAGED, for
      damaged content.
  """
  model, special = content["model"], _added(content)
  steps = _steps(content)
  if unknown_steps := {str(step.get("type")) for step in steps} - _STEPS:
    raise ValueError(f"a normalizer with {', '.join(sorted(unknown_steps))}")
  pieces = [(str(piece), float(score)) for piece, score in model["vocab"]]
  pieces += [(name, 0.0) for name in _added_behind(len(pieces), content)]
  names = [piece for piece, _ in pieces]
  # transformers' AlbertTokenizer always writes 1 as unk_id.
  unknown = names.index("<unk>") if "<unk>" in names else int(model["unk_id"])
  proto = sentencepiece_model_pb2.ModelProto()
  for number, (piece, score) in enumerate(pieces):
    proto.pieces.add(
      piece=piece,
      score=score,
      type=_PIECE.UNKNOWN
      if number == unknown
      else _PIECE.CONTROL
      if piece in special
      else _PIECE.BYTE
      if model.get("byte_fallback") and piece.startswith("<0x")
      else _PIECE.NORMAL,
    )
  proto.trainer_spec.unk_id = unknown
  proto.trainer_spec.unk_piece = names[unknown]
  proto.trainer_spec.byte_fallback = bool(model.get("byte_fallback"))
  proto.normalizer_spec.precompiled_charsmap = _table(steps)
  return proto.SerializeToString()


def _steps(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
  """Returns the steps of a tokenizer.json's normalizer, as a flat list.

  Without a normalizer the list has one step, whose type is None.

  Args:
    content: the content of tokenizer.json.
  """
  return list(_flat(content.get("normalizer") or {"type": None}))


def _flat(normalizer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
  """Yields the steps of a normalizer in order, with nested sequences flattened.

  Args:
    normalizer: a step, or a step of type "Sequence" that contains steps.
  """
  if normalizer.get("type") != "Sequence":
    yield normalizer
    return
  for step in normalizer["normalizers"]:
    yield from _flat(step)


def _table(steps: list[Mapping[str, Any]]) -> bytes:
  """Returns SentencePiece's compiled rule table from the steps of a normalizer.

  The table is that of the first step that has one; b"" if no step has one.

  Args:
    steps: the result of `_steps`.

  Raises:
    ValueError: when the table is not base64.
  """
  tables = [s.get("precompiled_charsmap") for s in steps]
  return base64.b64decode(next(filter(None, tables), ""), validate=True)
