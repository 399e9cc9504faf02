"""tokenizer.json, as the SentencePiece model or vocab.txt that it was made from.

Since version 5 transformers saves no other file. What its normalizer does beside
SentencePiece's own table is read by foreign_text.
"""

import base64
import os
from collections.abc import Mapping
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from albert_mn import model_directory
from data_prep import fetched, json_files, options, storage

_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece
# Steps that are SentencePiece's own, or settings of tokenization.
_STEPS = {
  "Precompiled", "Lowercase", "NFKD", "StripAccents", "Replace", "Strip",
  "Sequence", "None",
}  # fmt: skip


def extracted(path: str) -> str:
  """Returns the path of a tokenizer that gives a tokenizer.json's ids.

  It lies in the user's cache, by the content of tokenizer.json.

  Raises:
    options.InputError: where it is of a kind that none of the two gives.
  """
  content = json_files.read_object(path)
  try:
    kind = content["model"]["type"]
    if kind == "WordPiece":
      name, data = model_directory.VOCABULARY, _vocabulary(content)
    elif kind == "Unigram":
      name, data = model_directory.TOKENIZER, _sentencepiece(content)
    else:
      raise _other(path, f"a model of type {kind}")
  except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
    raise _other(path, f"{type(error).__name__} {error}"[:200]) from error
  folder = os.path.join(fetched.default_folder(), "tokenizers")
  target = os.path.join(folder, storage.sha256(path), name)
  if not storage.exists(target):
    with storage.writing(target, "wb") as file:
      file.write(data)
  return target


def _other(path: str, got: str) -> options.InputError:
  return options.InputError(
    f"a Unigram or WordPiece tokenizer in {path}",
    got,
    "give --spm_model_file or --vocab_file",
  )


def _vocabulary(content: Mapping[str, Any]) -> bytes:
  """Returns vocab.txt: the pieces in the order of their ids."""
  ids = dict(content["model"]["vocab"]) | _added(content)
  pieces = sorted(ids, key=lambda piece: ids[piece])
  if [ids[piece] for piece in pieces] != list(range(len(pieces))):
    raise ValueError("ids with gaps")
  return "".join(f"{piece}\n" for piece in pieces).encode()


def _added(content: Mapping[str, Any]) -> dict[str, int]:
  """Returns the special pieces, some of which the model may not hold."""
  return {t["content"]: int(t["id"]) for t in content.get("added_tokens") or []}


def _sentencepiece(content: Mapping[str, Any]) -> bytes:
  """Returns SentencePiece's model of the same pieces, scores and table."""
  model, special = content["model"], _added(content)
  steps = _steps(content)
  if others := {str(step.get("type")) for step in steps} - _STEPS:
    raise ValueError(f"a normalizer with {', '.join(sorted(others))}")
  pieces = [(str(piece), float(score)) for piece, score in model["vocab"]]
  names = [piece for piece, _ in pieces]
  for name, number in sorted(special.items(), key=lambda item: item[1]):
    if number >= len(names):
      if number != len(names):
        raise ValueError("ids with gaps")
      names.append(name)
      pieces.append((name, 0.0))
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
  normalizer = content.get("normalizer") or {}
  return normalizer.get("normalizers") or [normalizer or {"type": None}]


def _table(steps: list[Mapping[str, Any]]) -> bytes:
  """Returns SentencePiece's compiled normalisation; b"" for none."""
  found = [s.get("precompiled_charsmap") for s in steps]
  return base64.b64decode(next(filter(None, found), ""), validate=True)
