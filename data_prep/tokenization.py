"""Text to pieces and back, with one SentencePiece model.

A model that tokenizer_training made carries its normalisation inside the file,
so every caller and every export has it.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from data_prep import options, storage

MODEL_NAME = "tokenizer.model"

# The names under which models from elsewhere hold them come second.
SPECIAL_NAMES = {
  "pad": ("<pad>", "[PAD]"),
  "unk": ("<unk>", "[UNK]"),
  "cls": ("[CLS]",),
  "sep": ("[SEP]",),
  "mask": ("[MASK]",),
}


class Tokenizer:
  """A SentencePiece model and what pretraining must know of its pieces.

    tokenizer = Tokenizer("tokenizer.model")
    tokenizer.encode(["сайн байна уу"])  # [array([812, 95, 240])]

  Args:
    model_file: SentencePiece's model.
    do_lower_case: lower-case first, for a model that was trained on
      lower-cased text but does not do it itself (mongolian-bert's).

  Attributes:
    vocab_size: pieces.
    pad_id, unk_id, cls_id, sep_id, mask_id: looked up by name.
    special: bool[vocab_size], pieces that text cannot produce, and unknown.
    word_starts: bool[vocab_size], whether a piece begins a word; one that the
      user defined stands for itself.

  Raises:
    options.InputError: when it is no such model, or lacks a special piece.
  """

  def __init__(self, model_file: str, do_lower_case: bool = False):
    self._processor = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.LoadFromSerializedProto(_bytes(model_file))
    except RuntimeError as error:
      raise options.InputError(
        f"a SentencePiece model at {model_file}",
        "something else",
        "give the tokenizer.model that train_tokenizer wrote",
      ) from error
    self._do_lower_case = do_lower_case
    self.vocab_size = self._processor.get_piece_size()
    self._pieces = self._processor.id_to_piece(list(range(self.vocab_size)))
    ids = {
      name: self._special_id(names, model_file)
      for name, names in SPECIAL_NAMES.items()
    }
    self.pad_id, self.unk_id = ids["pad"], ids["unk"]
    self.cls_id, self.sep_id = ids["cls"], ids["sep"]
    self.mask_id = ids["mask"]
    self.special = np.array(
      [
        self._processor.is_control(i)
        or self._processor.is_unknown(i)
        or i in ids.values()
        for i in range(self.vocab_size)
      ]
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(
      self._processor.serialized_model_proto()
    )
    self.word_starts = np.array(
      [
        starts_word(piece.piece) or piece.type == piece.USER_DEFINED
        for piece in proto.pieces
      ]
    )

  def _special_id(self, names: Sequence[str], model_file: str) -> int:
    for name in names:
      if name in self._pieces:
        return self._pieces.index(name)
    raise options.InputError(
      f"a piece {names[0]} in {model_file}",
      "none",
      "train the model with data_prep.train_tokenizer",
    )

  def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the piece ids of each text, int32, without special pieces."""
    encoded = self._processor.encode(self._lowered(texts), num_threads=1)
    return [np.array(ids, np.int32) for ids in encoded]

  def segment(self, texts: Sequence[str]) -> list[list[str]]:
    """Returns the stretch of each text that each of its pieces stands for."""
    encoded = self._processor.encode(
      self._lowered(texts), return_type="proto", num_threads=1
    )
    return [[piece.surface for piece in text.pieces] for text in encoded]

  def _lowered(self, texts: Sequence[str]) -> list[str]:
    return [text.lower() if self._do_lower_case else text for text in texts]

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of piece ids."""
    return self._processor.decode([int(i) for i in ids])

  def pieces(self, ids: Sequence[int]) -> list[str]:
    """Returns the pieces of ids, "▁" standing for the space before a word."""
    return [self._pieces[int(i)] for i in ids]

  def characters(self) -> np.ndarray:
    """Returns how many characters each piece stands for, float32 [vocab_size].

    Spaces are none; of the bytes that spell a character one counts.
    """
    return np.array(
      [
        _characters(piece, s)
        for piece, s in zip(self._pieces, self.special, strict=True)
      ],
      np.float32,
    )

  def unreachable(self) -> list[str]:
    """Returns the pieces that no normalised text can contain."""
    return [
      piece
      for i, piece in enumerate(self._pieces)
      if not self.special[i]
      and not self._processor.is_byte(i)
      and piece.strip("▁")
      and piece.strip("▁") not in self._processor.normalize(piece)
    ]


def _bytes(path: str) -> bytes:
  if not storage.exists(path):
    raise options.InputError(
      "a SentencePiece model", f"no file at {path!r}", "mend the path"
    )
  return storage.read_bytes(path)


def _characters(piece: str, special: bool) -> int:
  if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
    return int(int(byte[1], 16) & 0xC0 != 0x80)  # not a continuation byte
  if special:
    return int(piece == "<unk>")
  return len(piece.replace("▁", ""))


def starts_word(piece: str) -> bool:
  """Says whether a word begins with this piece.

  "▁" marks the space before a word; a piece without a letter, mark or digit
  is punctuation, and stands for itself. google-research/albert takes every
  non-ASCII piece for a word start, so that Cyrillic words come apart.
  """
  return piece.startswith("▁") or not any(
    unicodedata.category(letter)[0] in "LMN" for letter in piece
  )
