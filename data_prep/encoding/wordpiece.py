"""Encodes text by WordPiece, with the ids of google-research/bert.

A line of vocab.txt is a piece; "##" begins a piece that continues a word. The
ids are those of upstream's tokenization.py for every text. tensorflow-text's
BertTokenizer differs: it puts spaces where upstream drops control characters.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

from data_prep.base import options
from data_prep.files import storage
from data_prep.text import alignment

CONTINUES = "##"
_UNKNOWN = "[UNK]"
LONGEST_WORD = 200  # characters; a longer word is unknown upstream
_MOST_KNOWN = 1 << 18  # words that are remembered, some 100 MB (guess)

# The blocks of characters that upstream treats as Chinese: each is a word.
_CHINESE = (
  (0x4E00, 0x9FFF),
  (0x3400, 0x4DBF),
  (0x20000, 0x2A6DF),
  (0x2A700, 0x2B73F),
  (0x2B740, 0x2B81F),
  (0x2B820, 0x2CEAF),
  (0xF900, 0xFAFF),
  (0x2F800, 0x2FA1F),
)
_WORD = re.compile(r"\S+")  # as str.split
_ASCII_MARKS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class _Cleaned(dict[int, str]):
  """A table for str.translate: the cleaning of BERT's BasicTokenizer.

  White space becomes a space, control characters are removed, and a Chinese
  character gets spaces around it. Entries are made when they are needed.
  """

  def __missing__(self, point: int) -> str:
    letter = chr(point)
    kind = unicodedata.category(letter)
    if letter in "\t\n\r" or kind == "Zs":
      replacement = " "
    elif kind in ("Cc", "Cf") or point == 0xFFFD:
      replacement = ""
    elif any(first <= point <= last for first, last in _CHINESE):
      replacement = f" {letter} "
    else:
      replacement = letter
    self[point] = replacement
    return replacement


class _Apart(dict[int, str]):
  """A table for str.translate that puts spaces around punctuation marks.

  Entries are made when they are needed.
  """

  def __missing__(self, point: int) -> str:
    letter = chr(point)
    self[point] = f" {letter} " if is_punctuation(letter) else letter
    return self[point]


def is_punctuation(letter: str) -> bool:
  """Returns whether google-research/bert treats a character as punctuation.

  Such a character is always a separate word.
  """
  return letter in _ASCII_MARKS or unicodedata.category(letter)[0] == "P"


def cleaned(letter: str) -> str:
  """Returns the replacement of a character in BERT's cleaning of a text.

  The replacement is the character itself, "", a space, or the character between
  two spaces.
  """
  return _CLEANED[ord(letter)]


_CLEANED, _APART = _Cleaned(), _Apart()


def words(text: str, do_lower_case: bool, strip_accents: bool) -> list[str]:
  """Returns the words of a text, as BERT's BasicTokenizer splits it.

  `words("Сайн уу?", True, True)` is `["саин", "уу", "?"]`.
  """
  return _apart(text, do_lower_case, strip_accents).split()


def _apart(text: str, do_lower_case: bool, strip_accents: bool) -> str:
  """Returns a text after BERT's cleaning, with spaces between all words.

  A punctuation mark is a word, and so is a Chinese character. do_lower_case and
  strip_accents have the effect that they have in `folded`.
  """
  text = folded(text.translate(_CLEANED), do_lower_case, strip_accents)
  return text.translate(_APART)


def folded(text: str, do_lower_case: bool, strip_accents: bool) -> str:
  """Returns a text in lower case, and decomposed (NFD) without marks, as set.

  The result is that of BERT's BasicTokenizer. With strip_accents, й becomes и.
  """
  if do_lower_case:
    text = text.lower()
  if strip_accents:
    decomposed = unicodedata.normalize("NFD", text)
    text = "".join(letter for letter in decomposed if not is_mark(letter))
  return text


def is_mark(letter: str) -> bool:
  """Returns whether a character is a mark (Mn), which `strip_accents` removes."""
  return unicodedata.category(letter) == "Mn"


class Vocabulary:
  """The pieces of a vocab.txt; encodes words by their longest pieces.

  Args:
    path: the file.
    do_lower_case, strip_accents: the settings of the model's training.
    longest_word: largest number of characters of a word; a longer word is
      [UNK].

  Attributes:
    pieces: the pieces, in the order of their ids.

  Raises:
    options.InputError: when the file has no piece [UNK].
  """

  def __init__(
    self,
    path: str,
    do_lower_case: bool,
    strip_accents: bool,
    longest_word: int = LONGEST_WORD,
  ) -> None:
    self.pieces = [line.strip() for line in storage.lines(path)]
    if _UNKNOWN not in self.pieces:
      raise options.InputError(
        f"a vocabulary with {_UNKNOWN} in {path}",
        f"{len(self.pieces):,} lines without it",
        "give BERT's vocab.txt, or SentencePiece's .model",
      )
    self._lower, self._strip = do_lower_case, strip_accents
    self._apart = alignment.LetterByLetter(
      lambda text: _apart(text, do_lower_case, strip_accents)
    )
    self._longest_word = longest_word
    self._ids = {piece: i for i, piece in enumerate(self.pieces)}
    self._known: dict[str, list[int]] = {}  # word → ids

  def encode(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the piece ids of each text, without [CLS] and [SEP]."""
    return [
      list(
        itertools.chain.from_iterable(
          self._word(word) for word in words(text, self._lower, self._strip)
        )
      )
      for text in texts
    ]

  def inside(self, text: str, begins: bool) -> list[int]:
    """Returns the ids of a part of a word.

    Unless the part is the beginning of the word, its first piece begins with
    "##".

    Args:
      text: the part, without a space.
      begins: whether the part is at the beginning of the word.
    """
    ids = []
    for place, word in enumerate(words(text, self._lower, self._strip)):
      ids += self._greedy(word, "" if begins or place else CONTINUES)
    return ids

  def behind(self, text: str) -> list[int]:
    """Returns the ids of letters that follow another piece without a space.

    The first piece begins with "##", unless a punctuation mark or a Chinese
    character comes first, which is a word of its own.
    """
    first = words(f"a{text}", self._lower, self._strip)[0]
    return self.inside(text, begins=first == "a")

  def _word(self, word: str) -> list[int]:
    """Returns the ids of the pieces of a word, from a cache if it has them."""
    if word not in self._known:
      if len(self._known) >= _MOST_KNOWN:
        self._known.clear()
      self._known[word] = self._greedy(word, "")
    return self._known[word]

  def _greedy(self, word: str, before: str) -> list[int]:
    """Returns the ids of a word, split into the longest pieces from the left.

    A word that is too long, or has a part without a piece, is [UNK].

    Args:
      word: the word.
      before: CONTINUES if the text is the rest of a word, else "".
    """
    unknown = [self._ids[_UNKNOWN]]
    if len(word) > self._longest_word:
      return unknown
    ids: list[int] = []
    begin = 0
    while begin < len(word):
      for end in range(len(word), begin, -1):
        piece = self._ids.get(before + word[begin:end])
        if piece is not None:
          break
      else:
        return unknown
      ids.append(piece)
      begin, before = end, CONTINUES
    return ids

  def segment(self, texts: Sequence[str]) -> list[list[str]]:
    """Returns the part of each text that each of its pieces covers.

    The parts make up the whole text, as in `tokenization.Tokenizer.segment`.

    Args:
      texts: the texts.
    """
    traced = (alignment.Traced.of(text).each(self._apart) for text in texts)
    return [each.cut([*self._ends(each)]) for each in traced]

  def drops(self, letter: str) -> bool:
    """Returns whether cleaning removes a character or makes it white space."""
    return not words(letter, self._lower, self._strip)

  def _ends(self, traced: alignment.Traced) -> Iterator[int]:
    """Yields the index at which each piece ends in a text that `_apart` made.

    A space that was added after punctuation belongs to the punctuation.
    """
    text, starts = traced.text, traced.starts
    for match in _WORD.finditer(text):
      end, last = match.span()
      for number in self._word(match[0])[:-1]:
        end += len(self.letters(number))
        yield end
      added = last < len(text) and starts[last] == starts[last - 1]
      yield last + added

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the words of piece ids, with a space between any two."""
    text = " ".join(self.pieces[i] for i in ids)
    return text.replace(f" {CONTINUES}", "")

  def is_control(self, number: int) -> bool:
    """Returns whether text cannot produce a piece, such as `[CLS]`.

    A piece in brackets is such a piece: in a text, a bracket is a word of its
    own.
    """
    piece = self.pieces[number]
    return len(piece) > 2 and piece[0] == "[" and piece[-1] == "]"

  def starts_word(self, number: int) -> bool:
    """Returns whether a piece, by its id, begins a word: it has no "##"."""
    return not self.pieces[number].startswith(CONTINUES)

  def ends_word(self, number: int) -> bool:
    """Returns whether a piece is marked as the end of a word: always False."""
    del number
    return False

  def begins(self, number: int) -> bool:
    """Returns whether a piece, by its id, begins a word: it has no "##"."""
    return self.starts_word(number)

  def mark(self, number: int) -> str:
    """Returns "##" for the id of a piece that continues a word, else ""."""
    return "" if self.starts_word(number) else CONTINUES

  def letters(self, number: int) -> str:
    """Returns the letters of a piece, by its id, without "##"."""
    return self.pieces[number].removeprefix(CONTINUES)

  def reaches(self, number: int) -> bool:
    """Returns whether some text produces a piece, given by its id.

    The result is False if cleaning, lower-casing or the division at punctuation
    changes the letters of the piece.
    """
    letters = self.letters(number)
    return words(letters, self._lower, self._strip) == [letters]
