"""tokenizer.json, as the SentencePiece model or vocab.txt that it was made from.

Since version 5 transformers saves no other file of a tokenizer. A tokenizer.json
that export_model wrote carries the file that it was made from, and the settings:
see `carrier`. Of any other tokenizer.json the file is made anew from its pieces,
scores and table; what its normalizer does beside SentencePiece's table is read by
foreign_text.
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

from albert_mn import huggingface, model_directory, rule_steps
from data_prep import fetched, json_files, options, storage, tokenization

_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece
# Steps that are SentencePiece's own, or settings of tokenization.
_STEPS = {
  "Precompiled", "Lowercase", "NFKD", "StripAccents", "Replace", "Strip",
  "Sequence", "None",
}  # fmt: skip
_DAMAGED = (AttributeError, KeyError, TypeError, ValueError)
# What the step that carries the file looks for: no normalised text has it.
_CARRIED = f"{rule_steps.SEPARATOR} made from "


class Carried(NamedTuple):
  """What a tokenizer.json of ours was made from.

  Attributes:
    data: the bytes of the SentencePiece model or of the vocab.txt.
    settings: what happens to a text before it.
  """

  data: bytes
  settings: tokenization.Settings


def carrier(
  tokenizer_file: str,
  settings: tokenization.Settings,
  steps: Sequence[rule_steps.Step],
) -> rule_steps.Step:
  """Returns a normalizer's step that carries a tokenizer's file and settings.

  The file cannot be read off the other steps, and transformers, which writes
  tokenizer.json anew, drops keys that it does not know but keeps each step. This
  step replaces a string by the file; no text contains the string, so the step
  changes no text.

  Args:
    tokenizer_file: a SentencePiece model or a vocab.txt.
    settings: what happens to a text before it.
    steps: the other steps of the normalizer, of which the step holds a digest.
  """
  data = base64.b64encode(storage.read_bytes(tokenizer_file)).decode("ascii")
  values = {
    "data": data,
    "settings": dataclasses.asdict(settings),
    "steps": _digest(steps),
  }
  return rule_steps.replace(_CARRIED, json.dumps(values))


def carried(content: Mapping[str, Any]) -> Carried | None:
  """Returns what the step of `carrier` carries; None where there is none.

  Args:
    content: of tokenizer.json.

  Raises:
    AttributeError, KeyError, TypeError, ValueError: where it is damaged, or
      the steps beside it are not those with which it was written.
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
  """Returns the SHA-256 of steps, whatever the order of their keys."""
  text = json.dumps(list(steps), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def exported_length(folder: str) -> int:
  """Returns how many pieces an export of ours told transformers to read.

  Returns 0 where the tokenizer.json in `folder` is not of an export of ours.
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
  """Returns the path of a tokenizer that gives a tokenizer.json's ids.

  It lies in the user's cache, by the content of tokenizer.json.

  Raises:
    options.InputError: where it is of a kind that none of the two gives.
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
  folder = os.path.join(fetched.default_folder(), "tokenizers")
  target = os.path.join(folder, storage.sha256(path), name)
  if not storage.exists(target):
    with storage.writing(target, "wb") as file:
      file.write(data)
  return target


def _file(content: Mapping[str, Any]) -> tuple[str, bytes]:
  """Returns the name and the bytes of a tokenizer's file.

  Raises:
    ValueError and others: where no file gives the ids of the tokenizer.
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
  """Returns a vocab.txt, with the tokens that were added to tokenizer.json."""
  pieces = list(storage.decoded_lines(io.BytesIO(data), _CARRIED))
  _require_same([piece.strip() for piece in pieces], content)
  added = _added_behind(len(pieces), content)
  return (
    b"\n".join([data.rstrip(b"\r\n"), *map(str.encode, added), b""])
    if added
    else data
  )


def _model_with_added(data: bytes, content: Mapping[str, Any]) -> bytes:
  """Returns a SentencePiece model, with the tokens that were added."""
  proto = sentencepiece_model_pb2.ModelProto.FromString(data)
  _require_same([piece.piece for piece in proto.pieces], content)
  added = _added_behind(len(proto.pieces), content)
  for name in added:
    proto.pieces.add(piece=name, score=0.0, type=_PIECE.CONTROL)
  return proto.SerializeToString() if added else data


def _require_same(pieces: Sequence[str], content: Mapping[str, Any]) -> None:
  """Sees that tokenizer.json still has the pieces that it was made from.

  A BPE's pieces of the user have other names there.

  Raises:
    ValueError: where it was trained anew, or cut.
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
  """Returns vocab.txt: the pieces in the order of their ids."""
  ids = dict(content["model"]["vocab"]) | _added(content)
  pieces = sorted(ids, key=lambda piece: ids[piece])
  if [ids[piece] for piece in pieces] != list(range(len(pieces))):
    raise ValueError("ids with gaps")
  return "".join(f"{piece}\n" for piece in pieces).encode()


def _added(content: Mapping[str, Any]) -> dict[str, int]:
  """Returns the added tokens, some of which the model may not hold."""
  return {t["content"]: int(t["id"]) for t in content.get("added_tokens") or []}


def _added_behind(size: int, content: Mapping[str, Any]) -> list[str]:
  """Returns the added tokens that stand behind a vocabulary of a size.

  Raises:
    ValueError: where ids are missing between them.
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
  """Returns SentencePiece's model of the same pieces, scores and table."""
  model, special = content["model"], _added(content)
  steps = _steps(content)
  if unknown_steps := {str(step.get("type")) for step in steps} - _STEPS:
    raise ValueError(f"a normalizer with {', '.join(sorted(unknown_steps))}")
  pieces = [(str(piece), float(score)) for piece, score in model["vocab"]]
  pieces += [(name, 0.0) for name in _added_behind(len(pieces), content)]
  names = [piece for piece, _ in pieces]
  # transformers' AlbertTokenizer says 1 whatever the model has there.
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
  """Returns the steps of the normalizer, those of sequences in it too."""
  return list(_flat(content.get("normalizer") or {"type": None}))


def _flat(normalizer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
  """Yields a step, or those of a sequence of steps, in their order."""
  if normalizer.get("type") != "Sequence":
    yield normalizer
    return
  for step in normalizer["normalizers"]:
    yield from _flat(step)


def _table(steps: list[Mapping[str, Any]]) -> bytes:
  """Returns SentencePiece's compiled normalisation; b"" for none."""
  tables = [s.get("precompiled_charsmap") for s in steps]
  return base64.b64decode(next(filter(None, tables), ""), validate=True)
