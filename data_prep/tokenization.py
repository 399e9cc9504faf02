"""Text to pieces and back, with one SentencePiece model.

A model trained here carries its normalisation inside the file: letters are
composed (decomposed й becomes й, and stays), white space is unified, and an
uncased model lower-cases. So every caller and every export has it.
"""

import dataclasses
import io
import itertools
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import sentencepiece
from absl import logging
from sentencepiece import sentencepiece_model_pb2

from data_prep import manifest, options, storage

# SentencePiece leaves out longer ones, silently.
_LONGEST_SENTENCE_BYTES = 1 << 16

MODEL_NAME, VOCABULARY_NAME = "tokenizer.model", "tokenizer.vocab"

# The names under which models from elsewhere hold them come second.
_SPECIAL_NAMES = {
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
      for name, names in _SPECIAL_NAMES.items()
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
    if self._do_lower_case:
      texts = [text.lower() for text in texts]
    encoded = self._processor.encode(list(texts), num_threads=1)
    return [np.array(ids, np.int32) for ids in encoded]

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


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
  """What SentencePiece model to train, from which corpus."""

  input_file: str = options.option("", "corpus files: globs, by commas")
  output_dir: str = options.option("", "where tokenizer.model goes")
  vocab_size: int = options.option(
    30000, "pieces, special ones included (google-research/albert's)", minimum=8
  )
  model_type: str = options.option(
    "unigram", "SentencePiece's algorithm", choices=("unigram", "bpe")
  )
  do_lower_case: bool = options.option(
    False, "lower-case inside the model (google-research/albert: true)"
  )
  byte_fallback: bool = options.option(
    False, "spell unknown letters as bytes instead of <unk>"
  )
  character_coverage: float = options.option(
    0.9999, "share of the letters that become pieces", minimum=0.9, maximum=1.0
  )
  user_defined_symbols: str = options.option(
    "", "pieces that are never split, by commas, such as @USER,@LINK"
  )
  input_sentence_size: int = options.option(
    2_000_000, "train on at most so many sentences, sampled", minimum=0
  )
  random_seed: int = options.option(12345, "of that sample", minimum=0)

  def __post_init__(self) -> None:
    options.require(self, "input_file", "output_dir")
    symbols = self.symbols()
    taken = {name for names in _SPECIAL_NAMES.values() for name in names}
    if len(set(symbols)) < len(symbols) or taken & set(symbols):
      raise options.InputError(
        "--user_defined_symbols that differ, and none of "
        + ", ".join(sorted(taken)),
        self.user_defined_symbols,
        "leave out what is there already",
      )

  def symbols(self) -> list[str]:
    """The user-defined pieces."""
    return [s for s in self.user_defined_symbols.split(",") if s]


def train(settings: TrainingOptions) -> dict[str, Any]:
  """Trains a model; writes it, its vocabulary, report and manifest.

  One thread, since the sums of several would depend on their order.

  Returns:
    The figures of report.json.

  Raises:
    options.InputError: for an empty corpus, or more pieces than it can give.
  """
  files = storage.matching(settings.input_file)
  model = _trained(_sentences(files), settings)
  manifest.begin(settings.output_dir)
  path = os.path.join(settings.output_dir, MODEL_NAME)
  with storage.writing(path, "wb") as file:
    file.write(model)
  with storage.writing(
    os.path.join(settings.output_dir, VOCABULARY_NAME)
  ) as file:
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for piece in proto.pieces:
      file.write(f"{piece.piece}\t{piece.score:g}\n")
  figures = report(Tokenizer(path), _sentences(files))
  with storage.writing(os.path.join(settings.output_dir, "report.json")) as f:
    f.write(json.dumps(figures, ensure_ascii=False, indent=2) + "\n")
  parameters = dataclasses.asdict(settings)
  del parameters["input_file"], parameters["output_dir"]
  manifest.write(
    settings.output_dir,
    "tokenizer",
    parameters=parameters,
    files=[MODEL_NAME, VOCABULARY_NAME, "report.json"],
    counts=dict(pieces=len(proto.pieces)),
    inputs={os.path.basename(path): storage.sha256(path) for path in files},
  )
  return figures


def _sentences(files: Sequence[str]) -> Iterator[str]:
  for path in files:
    yield from filter(None, (line.strip() for line in storage.lines(path)))


def _trained(sentences: Iterator[str], settings: TrainingOptions) -> bytes:
  """Returns the model as bytes, without paths of this machine in it."""
  too_long: list[int] = []
  sentences = _short_enough(sentences, too_long)
  first = next(sentences, None)
  if first is None:
    raise options.InputError(
      f"sentences of at most {_LONGEST_SENTENCE_BYTES:,} bytes to train on",
      f"{len(too_long) or 'none'} in {settings.input_file}"
      + (f", the shortest of {min(too_long):,} bytes" if too_long else ""),
      "build the corpus first: it puts each sentence on a line",
    )
  sentencepiece.set_random_generator_seed(settings.random_seed)
  model = io.BytesIO()
  with tempfile.TemporaryDirectory() as folder:
    rules = os.path.join(folder, "rules.tsv")
    with open(rules, "w", encoding="ascii") as file:
      file.writelines(normalization_rules(settings.do_lower_case))
    try:
      sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_chained(first, sentences),
        model_writer=model,
        vocab_size=settings.vocab_size,
        model_type=settings.model_type,
        byte_fallback=settings.byte_fallback,
        character_coverage=settings.character_coverage,
        input_sentence_size=settings.input_sentence_size,
        shuffle_input_sentence=True,
        normalization_rule_tsv=rules,
        max_sentence_length=_LONGEST_SENTENCE_BYTES,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        pad_piece="<pad>",
        unk_piece="<unk>",
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        user_defined_symbols=settings.symbols(),
        num_threads=1,
        minloglevel=2,
      )
    except RuntimeError as error:
      raise _explained(error, settings) from error
  if too_long:
    logging.warning(
      "%d sentences of more than %d bytes were left out",
      len(too_long),
      _LONGEST_SENTENCE_BYTES,
    )
  proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
  proto.normalizer_spec.normalization_rule_tsv = ""
  return proto.SerializeToString(deterministic=True)


def _short_enough(
  sentences: Iterable[str], too_long: list[int]
) -> Iterator[str]:
  """Yields what SentencePiece takes; the bytes of the rest go to `too_long`."""
  for sentence in sentences:
    size = len(sentence.encode())
    if size <= _LONGEST_SENTENCE_BYTES:
      yield sentence
    else:
      too_long.append(size)


def _chained(first: str, rest: Iterable[str]) -> Iterator[str]:
  yield first
  yield from rest


def _explained(
  error: RuntimeError, settings: TrainingOptions
) -> options.InputError:
  """Says in the user's terms why SentencePiece would not train."""
  most = re.search(r"<= (\d+)", str(error))
  least = re.search(r"smaller than required_chars. \d+ vs (\d+)", str(error))
  if most:
    return options.InputError(
      f"--vocab_size of at most {most[1]} for this corpus",
      f"{settings.vocab_size}",
      "ask for fewer pieces, or give more text",
    )
  if least:
    return options.InputError(
      f"--vocab_size of more than {least[1]}, the letters of this corpus",
      f"{settings.vocab_size}",
      "ask for more pieces, or lower --character_coverage",
    )
  return options.InputError(
    "a corpus that SentencePiece can train on",
    str(error).strip().split("\n")[-1],
    "check --input_file and --vocab_size",
  )


def normalization_rules(do_lower_case: bool) -> list[str]:
  """Returns SentencePiece's rule table: "source<TAB>target" as hex, by line.

  Canonical composition of what is written in Latin, Greek and Cyrillic
  letters, white space to one kind, invisible characters away and, on demand,
  lower case. Compatibility forms (ﬁ, ², №) stay as they are.
  """
  rules: dict[str, str] = {}
  for code in (*range(0x80), *range(0xA0, 0x530), *range(0x1E00, 0x2000)):
    letter = unicodedata.normalize("NFC", chr(code))
    target = letter.lower() if do_lower_case else letter
    target = unicodedata.normalize("NFC", target)
    for source in (chr(code), unicodedata.normalize("NFD", chr(code))):
      if source != target:
        rules[source] = target
  for space in "\t\n\r\v\f\x85\xa0\u2028\u2029\u202f\u205f\u3000":
    rules[space] = " "
  rules.update({chr(code): " " for code in range(0x2000, 0x200B)})
  rules.update(dict.fromkeys("\ufeff\xad\u200b\u200e\u200f\u2060", ""))
  return [
    f"{_hexadecimal(source)}\t{_hexadecimal(target)}\n"
    for source, target in sorted(rules.items())
  ]


def _hexadecimal(text: str) -> str:
  return " ".join(f"{ord(letter):X}" for letter in text)


_LISTED = 10  # how many of the longest and rarest pieces a report names


def report(tokenizer: Tokenizer, sentences: Iterable[str]) -> dict[str, Any]:
  """Measures a tokenizer on text.

  Returns:
    words, pieces_per_word, characters_per_piece, unknown_share (of the
    pieces), unreachable_pieces (dead after normalisation), used_share (of the
    ordinary pieces, on this text), longest_pieces and rarest_pieces.
  """
  words = characters = 0
  uses = np.zeros(tokenizer.vocab_size, np.int64)
  for batch in _batches(sentences, 10_000):
    words += sum(len(sentence.split()) for sentence in batch)
    characters += sum(len(sentence.replace(" ", "")) for sentence in batch)
    ids = np.concatenate([*tokenizer.encode(batch), np.zeros(0, np.int32)])
    uses += np.bincount(ids, minlength=tokenizer.vocab_size)
  pieces = int(uses.sum())
  ordinary = np.nonzero(~tokenizer.special)[0]
  # Sorted by the piece too, so that equals have one order.
  names = dict(
    zip(ordinary.tolist(), tokenizer.pieces(ordinary.tolist()), strict=True)
  )
  longest = sorted(names.values(), key=lambda p: (-len(p), p))[:_LISTED]
  rarest = sorted(names, key=lambda i: (uses[i], names[i]))[:_LISTED]
  return {
    "words": words,
    "pieces_per_word": round(pieces / max(words, 1), 4),
    "characters_per_piece": round(characters / max(pieces, 1), 4),
    "unknown_share": round(int(uses[tokenizer.unk_id]) / max(pieces, 1), 6),
    "unreachable_pieces": len(tokenizer.unreachable()),
    "used_share": round(float((uses[ordinary] > 0).mean()), 4),
    "longest_pieces": longest,
    "rarest_pieces": {names[i]: int(uses[i]) for i in rarest},
  }


def _batches(sentences: Iterable[str], size: int) -> Iterator[list[str]]:
  sentences = iter(sentences)
  while batch := list(itertools.islice(sentences, size)):
    yield batch
