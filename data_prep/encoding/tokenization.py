"""Encodes text as pieces and decodes it: SentencePiece, and foreign WordPiece.

A model of tokenizer_training contains its normalisation, so that every caller
and every export applies it.
"""

import dataclasses
import functools
import itertools
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from data_prep.base import options
from data_prep.encoding import wordpiece
from data_prep.files import json_files, storage
from data_prep.text import alignment

MODEL_NAME = "tokenizer.model"

# Special piece → its possible names; foreign models use the second one.
SPECIAL_NAMES = {
  "pad": ("<pad>", "[PAD]"),
  "unk": ("<unk>", "[UNK]"),
  "cls": ("[CLS]",),
  "sep": ("[SEP]",),
  "mask": ("[MASK]",),
}
# Scores are multiples of 1/1024, so that sums of a few thousand of them are
# exact in float32. Otherwise rounding would choose between segmentations of one
# score: SentencePiece would split ууууу differently from libraries that add in
# float64 (Hugging Face) or in another order (tensorflow-text).
SCORE_STEPS = 1024


@dataclasses.dataclass(frozen=True)
class Settings:
  """The preparation of a text before the model file reads it.

  A model of tokenizer_training needs no preparation. A foreign model gives the
  ids of its training only with the settings of its training; these are among
  the parameters of a model directory's manifest.

  Attributes:
    do_lower_case: whether to lower-case the text.
    strip_accents: whether to remove marks. SentencePiece: the text is
      decomposed (NFKD) and loses its combining marks, as in
      google-research/albert's preprocess_text, so that й becomes и; WordPiece:
      the same with NFD, as in google-research/bert's BasicTokenizer.
    replace_quotes: whether to replace two backticks or apostrophes by a
      quotation mark, as transformers' AlbertTokenizer does.
    split_digit_commas: whether to encode a piece that ends in a digit and a
      comma (`▁22,`) again without the comma, which becomes a separate piece, as
      google-research/albert's encode_pieces does. For SentencePiece only.
    longest_word: largest number of characters of a word; a longer word is
      unknown. google-research/bert's limit is 200, transformers' 100. For
      WordPiece only.
  """

  do_lower_case: bool = False
  strip_accents: bool = False
  replace_quotes: bool = False
  split_digit_commas: bool = False
  longest_word: int = wordpiece.LONGEST_WORD

  def __post_init__(self) -> None:
    if self.longest_word < 1:
      raise options.InputError(
        "longest_word to be at least 1",
        f"{self.longest_word}",
        "copy the manifest again",
      )

  @classmethod
  def of(cls, parameters: Mapping[str, Any]) -> "Settings":
    """Returns the settings in a manifest's parameters.

    A missing parameter has its default.

    Raises:
      options.InputError: when a parameter has a wrong value.
    """
    kept = json_files.known(cls, parameters)
    return json_files.made(cls, kept, "the parameters of a manifest")

  def parameters(self) -> dict[str, bool | int]:
    """Returns name → value for a manifest.

    do_lower_case is always included, other settings only if they differ from
    their defaults.
    """
    return {"do_lower_case": self.do_lower_case} | self._unusual()

  def described(self) -> str:
    """Returns the settings that differ from the defaults, as text.

    An example is `do-lower-case, longest-word 100`. The result is "" if all
    settings have their defaults.
    """
    return ", ".join(
      name.replace("_", "-") + (f" {value}" if value is not True else "")
      for name, value in self._unusual().items()
    )

  def _unusual(self) -> dict[str, bool | int]:
    """Returns name → value of the settings that differ from the defaults."""
    usual = dataclasses.asdict(Settings())
    values = dataclasses.asdict(self)
    return {n: v for n, v in values.items() if v != usual[n]}

  def apply(self, text: str) -> str:
    """Returns a text prepared by these settings: quotes, marks and case.

    A SentencePiece model reads the result.
    """
    if self.replace_quotes:
      text = _QUOTES.sub('"', text)
    return self.folded(text)

  def folded(self, text: str) -> str:
    """Returns a text without marks and in lower case, if so set.

    With strip_accents the text is decomposed (NFKD) and loses its combining
    marks; with do_lower_case it becomes lower case.
    """
    if self.strip_accents:
      text = without_marks(text)
    return text.lower() if self.do_lower_case else text


_QUOTES = re.compile("``|''")


def without_marks(text: str) -> str:
  """Returns a text decomposed (NFKD) and without its combining marks."""
  decomposed = unicodedata.normalize("NFKD", text)
  return "".join(c for c in decomposed if not unicodedata.combining(c))


def combining_marks() -> str:
  """Returns the marks that `strip_accents` removes, in the form of `ranges`."""
  return ranges(filter(unicodedata.combining, every_letter()))


def every_letter() -> Iterator[str]:
  """Yields all Unicode characters but surrogates, in order of their code."""
  points = range(sys.maxunicode + 1)
  return (chr(i) for i in points if not 0xD800 <= i < 0xE000)


def ranges(letters: Iterable[str]) -> str:
  r"""Returns characters as ranges for the [] of an RE2 regex.

  The characters, which are distinct, may come in any order: `ranges("xabc")`
  is `\x{61}-\x{63}\x{78}-\x{78}`. Python's re does not read this form.
  """
  bounds: list[list[int]] = []  # first and last of each range
  for point in map(ord, sorted(letters)):
    if bounds and bounds[-1][1] == point - 1:
      bounds[-1][1] = point
    else:
      bounds.append([point, point])
  return "".join(rf"\x{{{a:X}}}-\x{{{b:X}}}" for a, b in bounds)


class _Model(Protocol):
  """The methods of a model that Tokenizer needs; see wordpiece.Vocabulary."""

  pieces: list[str]

  def encode(self, texts: Sequence[str]) -> Sequence[Sequence[int]]: ...
  def segment(self, texts: Sequence[str]) -> list[list[str]]: ...
  def inside(self, text: str, begins: bool) -> list[int]: ...
  def behind(self, text: str) -> list[int]: ...
  def drops(self, letter: str) -> bool: ...
  def decode(self, ids: Sequence[int]) -> str: ...
  def is_control(self, number: int) -> bool: ...
  def starts_word(self, number: int) -> bool: ...
  def ends_word(self, number: int) -> bool: ...
  def begins(self, number: int) -> bool: ...
  def mark(self, number: int) -> str: ...
  def letters(self, number: int) -> str: ...
  def reaches(self, number: int) -> bool: ...


class Tokenizer:
  """Encodes and decodes texts; tells the properties of the pieces.

    tokenizer = Tokenizer("tokenizer.model")
    tokenizer.encode(["сайн байна уу"])  # [array([812, 95, 240])]

  Args:
    model_file: SentencePiece's model, or WordPiece's vocab.txt.
    do_lower_case, strip_accents, replace_quotes, split_digit_commas,
      longest_word: see Settings.

  Attributes:
    settings: the preparation of a text.
    vocab_size: number of pieces.
    pad_id, unk_id, cls_id, sep_id, mask_id: the ids of the special pieces.
    special: bool[vocab_size], the pieces that text cannot produce, and the
      unknown piece.
    word_starts: bool[vocab_size], whether a piece begins a word, wherever it
      stands in a text. See `begins_words`.

  Raises:
    options.InputError: when the file is no such model or lacks a special piece.
  """

  def __init__(
    self,
    model_file: str,
    do_lower_case: bool = False,
    strip_accents: bool = False,
    replace_quotes: bool = False,
    split_digit_commas: bool = False,
    longest_word: int = wordpiece.LONGEST_WORD,
  ) -> None:
    self.settings = Settings(
      do_lower_case,
      strip_accents,
      replace_quotes,
      split_digit_commas,
      longest_word,
    )
    self._model: _Model = (
      wordpiece.Vocabulary(
        model_file, do_lower_case, strip_accents, longest_word
      )
      if is_wordpiece(model_file)
      else _SentencePiece(model_file, self.settings)
    )
    self._pieces = self._model.pieces
    self.vocab_size = len(self._pieces)
    ids = {
      name: self._special_id(names, model_file)
      for name, names in SPECIAL_NAMES.items()
    }
    self.pad_id, self.unk_id = ids["pad"], ids["unk"]
    self.cls_id, self.sep_id = ids["cls"], ids["sep"]
    self.mask_id = ids["mask"]
    every = range(self.vocab_size)
    self.special = np.array(
      [self._model.is_control(i) or i in ids.values() for i in every]
    )
    self.word_starts = np.array([self._model.starts_word(i) for i in every])
    self._word_ends = np.array([self._model.ends_word(i) for i in every])
    self._blank: dict[str, bool] = {}

  @classmethod
  def with_settings(cls, model_file: str, settings: Settings) -> "Tokenizer":
    """Returns a tokenizer with the given preparation of texts.

    Raises:
      options.InputError: when the file is no model or lacks a special piece.
    """
    return cls(model_file, **dataclasses.asdict(settings))

  def _special_id(self, names: Sequence[str], model_file: str) -> int:
    """Returns the id of a special piece.

    Args:
      names: the possible names of the piece, such as [CLS].
      model_file: the path of the model, for the message.

    Raises:
      options.InputError: when no piece has such a name.
    """
    for name in names:
      if name in self._pieces:
        return self._pieces.index(name)
    raise options.InputError(
      f"a piece {names[0]} in {model_file}",
      "none",
      "train the model with data_prep.train_tokenizer",
    )

  def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the ids of each text's pieces, int32, without [CLS] and [SEP].

    A character that no piece spells gives the id of the unknown piece.
    """
    encoded = self._model.encode(texts)
    # One array and views of it: an array for each text takes twice the time.
    ends = list(itertools.accumulate(map(len, encoded)))
    every = itertools.chain.from_iterable(encoded)
    flat = np.fromiter(every, np.int32, ends[-1] if ends else 0)
    return [
      flat[start:end] for start, end in zip([0, *ends], ends, strict=False)
    ]

  def segment(self, texts: Sequence[str]) -> list[list[str]]:
    """Returns the part of each text that each of its pieces covers.

    The parts of a text make up the whole text as it was given, if it has any
    piece. White space belongs to the piece of the word after it (of the word
    before it, if a SentencePiece model marks the ends of words). Characters
    without a piece belong to the piece before them, and those at the beginning
    of a text to its first piece. A character that several pieces spell, such as
    an emoji in bytes or … as `...`, belongs to the last of these pieces; the
    parts of the earlier ones are empty.

    Args:
      texts: the texts.
    """
    return self._model.segment(texts)

  def begins_words(self, ids: np.ndarray) -> np.ndarray:
    """Returns whether each piece begins a word, bool of the shape of `ids`.

    Most models mark the piece that begins a word (`▁сайн`). Those trained with
    treat_whitespace_as_suffix mark the piece that ends a word (`сайн▁`): there
    the next piece begins the next word. The first piece counts as the beginning
    of a word only if it is one in every place.

    Args:
      ids: int [..., length].
    """
    starts = self.word_starts[ids]
    starts[..., 1:] |= self._word_ends[ids[..., :-1]]
    return starts

  def is_blank(self, letter: str) -> bool:
    """Returns whether no piece spells a character of a text.

    This holds for invisible characters, and for those that the tokenizer
    removes or takes for white space, such as ´ if `strip_accents` is set.
    """
    if letter not in self._blank:
      self._blank[letter] = alignment.is_invisible(letter) or (
        self._model.drops(letter)
      )
    return self._blank[letter]

  def inside(self, text: str, begins: bool) -> list[int]:
    """Returns the ids of a part of a word.

    Args:
      text: the part of the word.
      begins: whether the part is at the beginning of the word.
    """
    return self._model.inside(text, begins)

  def behind(self, text: str) -> list[int]:
    """Returns the ids of letters that follow another piece without a space.

    Of `[MASK]ын` these are the ids of `ын`, a part of the word; of `[MASK].`
    they are those of the full stop, which WordPiece takes for a word.

    Args:
      text: the letters up to the next white space; "" gives [].
    """
    return self._model.behind(text)

  def letters(self, number: int) -> str:
    """Returns the text of a piece, by its id, without "▁" or "##".

    For a byte the result is its name, such as "<0x0A>".
    """
    return self._model.letters(number)

  def begins(self, number: int) -> bool:
    """Returns whether a piece, by its id, is marked as a word's beginning.

    In SentencePiece such a piece begins with "▁"; in WordPiece it does not
    begin with "##".
    """
    return self._model.begins(number)

  def mark(self, number: int) -> str:
    """Returns the mark at the beginning of a piece: "▁", "##" or "".

    SentencePiece marks the pieces that begin a word by "▁", WordPiece those
    that continue a word by "##".
    """
    return self._model.mark(number)

  @property
  def sums_exactly(self) -> bool:
    """Whether float32 sums of the pieces' scores have no rounding error.

    If so, all libraries choose the same of two equally likely segmentations.
    True for models that do not add scores, such as WordPiece and BPE.
    """
    return bool(getattr(self._model, "sums_exactly", True))

  @property
  def divided(self) -> Mapping[int, Sequence[int]]:
    """Id of a piece that `split_digit_commas` divides → ids of its parts.

    Other pieces have no entry.
    """
    return getattr(self._model, "divided", {})

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    """Returns the text of piece ids: its words with spaces between them.

    Callers should leave special pieces out of `ids`: SentencePiece drops
    control pieces and writes ⁇ for the unknown piece; WordPiece writes special
    pieces by name, such as [CLS].
    """
    return self._model.decode([int(i) for i in ids])

  def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
    """Returns the pieces of ids as the model writes them, with "▁" or "##"."""
    return [self._pieces[int(i)] for i in ids]

  def characters(self) -> np.ndarray:
    """Returns how many characters each piece spells, float32 [vocab_size].

    Spaces do not count. Only one of the bytes that spell a character counts.
    The unknown piece counts 1, other special pieces 0.
    """
    return np.array(
      [
        int(i == self.unk_id)
        if self.special[i]
        else _characters(self._model.letters(i))
        for i in range(self.vocab_size)
      ],
      np.float32,
    )

  def unreachable(self) -> list[str]:
    """Returns the ordinary pieces that no text can produce.

    The normalisation of the model, such as lower-casing, changes the letters of
    such a piece in every text.
    """
    return [
      piece
      for i, piece in enumerate(self._pieces)
      if not self.special[i] and not self._model.reaches(i)
    ]


class _SentencePiece:
  """A SentencePiece model with settings; its methods are those of _Model.

  Args:
    model_file: the path of the model.
    settings: the preparation of a text.

  Raises:
    options.InputError: when the file is missing or no SentencePiece model.
  """

  def __init__(self, model_file: str, settings: Settings) -> None:
    self._apply = settings.apply
    self._quotes = settings.replace_quotes
    self._fold = alignment.LetterByLetter(settings.folded)
    self._plain = not (
      settings.do_lower_case
      or settings.strip_accents
      or settings.replace_quotes
    )
    self._processor = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.LoadFromSerializedProto(_bytes(model_file))
      self._proto = sentencepiece_model_pb2.ModelProto.FromString(
        self._processor.serialized_model_proto()
      )
      for piece in self._proto.pieces:
        if not isinstance(piece.piece, str):
          raise ValueError("a piece that is not UTF-8")
    except (RuntimeError, ValueError) as error:
      raise options.InputError(
        f"a SentencePiece model at {model_file}",
        str(error) if isinstance(error, ValueError) else "something else",
        "give the tokenizer.model that train_tokenizer wrote",
      ) from error
    self._marks_ends = self._proto.trainer_spec.treat_whitespace_as_suffix
    self.pieces = [piece.piece for piece in self._proto.pieces]
    self._commas = self._without_commas() if settings.split_digit_commas else {}
    self.divided = {i: parts.ids for i, parts in self._commas.items()}

  @property
  def sums_exactly(self) -> bool:
    spec = self._proto.trainer_spec
    return spec.model_type != spec.UNIGRAM or all(
      # User-defined pieces are scored in tenths, whatever their score says.
      piece.score * SCORE_STEPS % 1 == 0 and piece.type != _PIECE.USER_DEFINED
      for piece in self._proto.pieces
    )

  def _without_commas(self) -> dict[int, "_Parts"]:
    """Finds the pieces to divide: those that end in a digit and a comma.

    Returns:
      id of such a piece → the pieces in its place: those of the text before the
      comma, and the comma.
    """
    replacements: dict[int, _Parts] = {}
    for number, piece in enumerate(self.pieces):
      if ends_in_digit_and_comma(piece):
        left = self._processor.encode(
          piece[:-1].replace("▁", ""), return_type="proto"
        )
        names = [part.piece for part in left.pieces] + [","]
        sizes = [len(part.surface) for part in left.pieces] + [1]
        if not piece.startswith("▁"):
          names[0] = names[0].removeprefix("▁")
        first = 0 if names[0] else 1
        ids = [self._processor.piece_to_id(name) for name in names[first:]]
        replacements[number] = _Parts(ids, sizes[first:])
    return replacements

  def encode(self, texts: Sequence[str]) -> list[list[int]]:
    prepared = list(texts if self._plain else map(self._apply, texts))
    encoded: list[list[int]] = self._processor.encode(prepared, num_threads=1)
    return [self._divide(ids) for ids in encoded] if self.divided else encoded

  def _divide(self, ids: Sequence[int]) -> list[int]:
    """Returns ids in which the parts of a divided piece stand in its place."""
    return [part for i in ids for part in self.divided.get(i, (i,))]

  def segment(self, texts: Sequence[str]) -> list[list[str]]:
    traced = list(map(self._traced, texts))
    encoded = self._processor.encode(
      [trace.text for trace in traced], return_type="proto", num_threads=1
    )
    return [
      trace.stretches(self._surfaces(trace.text, pieces.pieces))
      for trace, pieces in zip(traced, encoded, strict=True)
    ]

  def _traced(self, text: str) -> alignment.Traced:
    """Returns the text as SentencePiece reads it, with each letter's origin.

    As the settings say, quotes are replaced, accents removed and letters
    lower-cased.
    """
    traced = alignment.Traced.of(text)
    if self._quotes:
      traced = traced.sub(_QUOTES, '"')
    return traced if self._plain else traced.each(self._fold)

  def _surfaces(self, text: str, pieces: Sequence[Any]) -> list[str]:
    """Returns the part of the prepared text that each piece covers.

    Together the parts are the prepared text. SentencePiece itself leaves out
    characters that it removes at the ends of a text.

    Args:
      text: the prepared text.
      pieces: SentencePiece's results for it.
    """
    surfaces = [piece.surface for piece in pieces]
    size = sum(map(len, surfaces))
    if surfaces and size < len(text):
      first = len(text.encode()[: pieces[0].begin].decode())
      surfaces[0] = text[:first] + surfaces[0]
      surfaces[-1] += text[first + size :]
    if not self._commas:
      return surfaces
    return [
      part
      for piece, surface in zip(pieces, surfaces, strict=True)
      for part in self._divided_surface(piece.id, surface)
    ]

  def _divided_surface(self, number: int, surface: str) -> list[str]:
    """Divides the text that a piece covers among the parts of the piece.

    The result is [surface] for a piece that `split_digit_commas` does not
    divide.

    Args:
      number: the id of the piece.
      surface: the text that the piece covers.
    """
    if number not in self._commas:
      return [surface]
    text, starts = self._processor.normalize(surface, with_offsets=True)
    begin = text.find(self.letters(number))
    assert begin >= 0, "a piece stands for its own letters"
    ends = itertools.accumulate(self._commas[number].sizes, initial=begin)
    cuts = [0, *list(ends)[1:-1], len(text)]
    parts = [text[a:b] for a, b in itertools.pairwise(cuts)]
    return alignment.Traced(surface, text, starts).stretches(parts)

  def drops(self, letter: str) -> bool:
    seen: str = self._processor.normalize(self._apply(letter))
    return not seen.strip(" ▁")

  def inside(self, text: str, begins: bool) -> list[int]:
    prepared = self._apply(text).strip()
    ids: list[int] = self._inner.encode(("▁" if begins else "") + prepared)
    return self._divide(ids)

  def behind(self, text: str) -> list[int]:
    return self.inside(text, begins=False)

  @functools.cached_property
  def _inner(self) -> sentencepiece.SentencePieceProcessor:
    """The same model, made to add no space before a text and to keep spaces."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.CopyFrom(self._proto)
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(
      model_proto=proto.SerializeToString()
    )

  def decode(self, ids: Sequence[int]) -> str:
    text: str = self._processor.decode(list(ids))
    return text

  def is_control(self, number: int) -> bool:
    kind = self._proto.pieces[number].type
    return kind in (_PIECE.CONTROL, _PIECE.UNKNOWN)

  def starts_word(self, number: int) -> bool:
    piece = self._proto.pieces[number]
    if piece.type == _PIECE.USER_DEFINED:
      return True
    if not self._marks_ends:
      return starts_word(piece.piece)
    letters = piece.piece.rstrip("▁")
    return bool(letters) and starts_word(letters)

  def ends_word(self, number: int) -> bool:
    return self._marks_ends and self.pieces[number].endswith("▁")

  def begins(self, number: int) -> bool:
    return self.pieces[number].startswith("▁")

  def mark(self, number: int) -> str:
    return "▁" if self.begins(number) else ""

  def letters(self, number: int) -> str:
    return self.pieces[number].replace("▁", "")

  def reaches(self, number: int) -> bool:
    piece = self.pieces[number]
    seen = self._processor.normalize(self._apply(piece))
    bare = piece.strip("▁")
    is_byte = self._proto.pieces[number].type == _PIECE.BYTE
    return is_byte or not bare or bare in seen


class _Parts(NamedTuple):
  """The parts of a piece that `split_digit_commas` divides.

  Attributes:
    ids: the ids of the parts.
    sizes: how many letters of the piece each part has.
  """

  ids: list[int]
  sizes: list[int]


_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece


def is_wordpiece(path: str) -> bool:
  """Returns whether a file's name ends in .txt, as WordPiece's vocab.txt."""
  return path.endswith(".txt")


def ends_in_digit_and_comma(piece: str) -> bool:
  """Returns whether a piece of two characters or more ends like "2,".

  `split_digit_commas` divides such a piece.
  """
  return len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()


def _bytes(path: str) -> bytes:
  """Returns the content of a model file.

  Raises:
    options.InputError: when there is no such file.
  """
  if not storage.exists(path):
    raise options.InputError(
      "a SentencePiece model", f"no file at {path!r}", "mend the path"
    )
  return storage.read_bytes(path)


def _characters(letters: str) -> int:
  """Returns how many characters a piece spells, given its letters.

  For a byte, such as "<0xD0>", it is 1 if the byte begins a character, else 0.
  """
  if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", letters):
    return int(int(byte[1], 16) & 0xC0 != 0x80)  # not a continuation byte
  return len(letters)


def starts_word(piece: str) -> bool:
  """Returns whether a SentencePiece piece begins a word.

  "▁" marks the space before a word. A piece without a letter, mark or digit is
  punctuation, which counts as a separate word. google-research/albert takes
  every non-ASCII piece for the beginning of a word, which breaks up Cyrillic
  words.
  """
  return piece.startswith("▁") or not any(
    unicodedata.category(letter)[0] in "LMN" for letter in piece
  )
