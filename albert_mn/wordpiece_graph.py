"""WordPiece as a graph: the ids of Python's for every string.

TensorFlow's own lower-casing and normalisation follow another version of Unicode
than Python's, and tensorflow-text's BertTokenizer puts spaces where google's code
drops characters. So the graph works on code points, with tables that are taken
from Python character by character.
"""

import functools
import unicodedata
from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_text

from data_prep import tokenization, wordpiece

# In a table, what is below 0 is this far below a distance from the character.
_RELATIVE = 1 << 22
_SIGMA, _FINAL_SIGMA = ord("Σ"), ord("ς")
# How characters are seen by the rule for Σ at the end of a word (Unicode 3.13).
_OTHER, _IGNORED, _CASED = range(3)


class _Points(NamedTuple):
  """The characters of some texts.

  Attributes:
    values: [characters] int32 code points, of all texts.
    rows: [characters] int64, of which text each is, ascending.
  """

  values: tf.Tensor
  rows: tf.Tensor


class WordPiece(tf.Module):
  """Strings [batch] to ids, ragged int32 [batch, pieces].

  Args:
    tokenizer: of a vocab.txt, with its settings.
  """

  def __init__(self, tokenizer: tokenization.Tokenizer):
    super().__init__()
    self._settings = tokenizer.settings
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    numbers = {piece: number for number, piece in enumerate(pieces)}
    self._unknown = pieces[tokenizer.unk_id]
    self._table = tf.lookup.StaticHashTable(
      tf.lookup.KeyValueTensorInitializer(
        list(numbers), list(numbers.values()), tf.string, tf.int64
      ),
      default_value=-1,
    )
    longest = self._settings.longest_word
    self._pieces = tensorflow_text.WordpieceTokenizer(
      self._table,
      suffix_indicator=wordpiece.CONTINUES,
      max_bytes_per_word=4 * longest,  # UTF-8's longest character
      unknown_token=self._unknown,
      token_out_type=tf.int64,
    )

  def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns the ids."""
    words = self.words(texts)
    spelled = tf.strings.unicode_encode(words.values, "UTF-8")
    too_long = words.values.row_lengths() > self._settings.longest_word
    spelled = tf.where(too_long, self._unknown, spelled)
    pieces = tf.cast(self._pieces.tokenize(spelled), tf.int32)
    return words.with_values(pieces).merge_dims(1, 2)

  def words(self, texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns code points [batch, words, characters]; see wordpiece.words."""
    decoded = tf.strings.unicode_decode(texts, "UTF-8")
    points = _Points(decoded.values, decoded.value_rowids())
    points = _replaced(points, wordpiece.cleaned)
    if self._settings.do_lower_case:
      points = _replaced(_with_final_sigmas(points), str.lower)
    if self._settings.strip_accents:
      points = _in_order(_replaced(points, _decomposed))
      points = _replaced(points, _without_marks)
    return _divided(_replaced(points, _apart), tf.size(texts, tf.int64))


def _decomposed(letter: str) -> str:
  return unicodedata.normalize("NFD", letter)


def _without_marks(letter: str) -> str:
  return "" if unicodedata.category(letter) == "Mn" else letter


def _apart(letter: str) -> str:
  return f" {letter} " if wordpiece.is_punctuation(letter) else letter


def _sigma_sees(letter: str) -> int:
  """Asks str.lower, which is the one that is to be followed."""
  if f"{letter}Σ".lower()[-1] == "ς":
    return _CASED
  return _IGNORED if f"A{letter}Σ".lower()[-1] == "ς" else _OTHER


@functools.cache
def _runs(
  function: Callable[[str], Hashable],
) -> tuple[np.ndarray, list[Hashable]]:
  """Returns where each stretch of code points begins, and its value.

  What strings can hold has no surrogates: they go with what lies before them.
  """
  starts: list[int] = []
  values: list[Hashable] = []
  for point in (*range(0xD800), *range(0xE000, 0x110000)):
    value = function(chr(point))
    if not values or value != values[-1]:
      starts.append(point)
      values.append(value)
  return np.array(starts, np.int32), values


def _run_of(points: tf.Tensor, starts: np.ndarray) -> tf.Tensor:
  return tf.searchsorted(starts, points, side="right") - 1


@functools.cache
def _replacement(
  function: Callable[[str], str],
) -> tuple[np.ndarray, list[Hashable]]:
  """Returns runs of what to put for a character.

  `str.lower` gives for А to Я, which lie 32 before а to я: (32 - _RELATIVE,).
  """

  def items(letter: str) -> tuple[int, ...]:
    found = function(letter)
    if letter in found or len(found) == 1:  # so that runs are long
      point = ord(letter)
      return tuple(
        ord(c) if c == " " else ord(c) - point - _RELATIVE for c in found
      )
    return tuple(map(ord, found))

  return _runs(items)


def _replaced(points: _Points, function: Callable[[str], str]) -> _Points:
  """Puts for each character the string that a function has for it."""
  starts, items = _replacement(function)
  table = tf.ragged.constant(items, tf.int32, ragged_rank=1)
  found = tf.gather(table, _run_of(points.values, starts))
  owners = found.value_rowids()
  relative = found.values + _RELATIVE + tf.gather(points.values, owners)
  values = tf.where(found.values < 0, relative, found.values)
  return _Points(values, tf.gather(points.rows, owners))


def _with_final_sigmas(points: _Points) -> _Points:
  """Lower-cases Σ at the end of a word, as str.lower: Unicode's Final_Sigma."""
  starts, kinds = _runs(_sigma_sees)
  kind = tf.gather(np.array(kinds, np.int32), _run_of(points.values, starts))
  size = tf.size(kind, tf.int64)
  solid = kind != _IGNORED
  # Before and behind all characters lies one that is none.
  places = tf.concat([[size], tf.where(solid)[:, 0], [size]], 0)
  rank = tf.cumsum(tf.cast(solid, tf.int64))
  before = tf.gather(places, rank - tf.cast(solid, tf.int64))
  behind = tf.gather(places, rank + 1)
  cased = tf.concat([kind == _CASED, [False]], 0)
  rows = tf.concat([points.rows, [-1]], 0)

  def is_cased(other: tf.Tensor) -> tf.Tensor:
    return tf.gather(cased, other) & (tf.gather(rows, other) == points.rows)

  final = (points.values == _SIGMA) & is_cased(before) & ~is_cased(behind)
  return points._replace(values=tf.where(final, _FINAL_SIGMA, points.values))


def _in_order(points: _Points) -> _Points:
  """Sorts marks as NFD does: by their class, between characters of class 0."""
  starts, classes = _runs(unicodedata.combining)
  kind = tf.gather(np.array(classes, np.int64), _run_of(points.values, starts))
  # Rows are part of the key, since a text may begin with a mark.
  group = tf.cumsum(tf.cast(kind == 0, tf.int64)) + points.rows
  order = tf.argsort(group * 256 + kind, stable=True)
  return points._replace(values=tf.gather(points.values, order))


def _divided(points: _Points, texts: tf.Tensor) -> tf.RaggedTensor:
  """Splits at white space: [texts, words, characters]."""
  starts, blank = _runs(str.isspace)
  kept = ~tf.gather(np.array(blank), _run_of(points.values, starts))
  continues = (points.rows[1:] == points.rows[:-1]) & kept[:-1]
  begins = kept & ~tf.concat([[False], continues], 0)[: tf.size(kept)]
  number = tf.cumsum(tf.cast(begins, tf.int64)) - 1
  words = tf.RaggedTensor.from_value_rowids(
    tf.boolean_mask(points.values, kept), tf.boolean_mask(number, kept)
  )
  owners = tf.boolean_mask(points.rows, begins)
  return tf.RaggedTensor.from_value_rowids(words, owners, nrows=texts)
