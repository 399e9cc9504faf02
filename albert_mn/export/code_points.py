"""Texts as code points in a TensorFlow graph, changed as in Python.

TensorFlow's lower-casing and normalisation use another version of Unicode than
Python's. TensorFlow's lower-casing also stops at a NUL. So the graph works on
code points, with tables that Python computes for every character.
"""

import functools
import unicodedata
from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# A table's values below 0 are relative: the code point is that of the replaced
# character, plus the value, plus this number.
_RELATIVE = 1 << 22
_SIGMA, _FINAL_SIGMA = ord("Σ"), ord("ς")
# The kinds of characters in the rule for Σ at the end of a word (Unicode 3.13).
_OTHER, _IGNORED, _CASED = range(3)


class Points(NamedTuple):
  """The characters of several texts.

  Attributes:
    values: int32 [characters], the code points of all texts.
    rows: int64 [characters], the index of each character's text, ascending.
  """

  values: tf.Tensor
  rows: tf.Tensor

  @classmethod
  def of(cls, texts: tf.Tensor) -> "Points":
    """Returns the characters of all texts, one text after the other.

    Args:
      texts: string [texts], UTF-8. An empty text has no characters here.
    """
    decoded = tf.strings.unicode_decode(texts, "UTF-8")
    return cls(decoded.values, decoded.value_rowids())

  def strings(self, texts: tf.Tensor) -> tf.Tensor:
    """Returns the texts as UTF-8 strings, string [texts].

    Args:
      texts: the strings from which the points were made. The function uses only
        their number, because an empty text has no points.
    """
    letters = tf.RaggedTensor.from_value_rowids(
      self.values, self.rows, nrows=tf.size(texts, tf.int64)
    )
    return tf.strings.unicode_encode(letters, "UTF-8")


def _sigma_sees(letter: str) -> int:
  """Returns how a letter affects the lower case of Σ after it.

  Python lower-cases Σ to ς at the end of a word: after a _CASED letter, with
  any number of _IGNORED characters between the two. Every further character is
  _OTHER. The kind is learnt from str.lower on short strings with the letter.
  """
  if f"{letter}Σ".lower()[-1] == "ς":
    return _CASED
  return _IGNORED if f"A{letter}Σ".lower()[-1] == "ς" else _OTHER


@functools.cache
def runs(
  function: Callable[[str], Hashable],
) -> tuple[np.ndarray, list[Hashable]]:
  """Returns the runs of neighbouring code points with equal `function`.

  Surrogates do not occur in strings; they belong to the run before them.

  Args:
    function: from a character to a value.

  Returns:
    the first code point of each run, int32 [runs], ascending; and the value of
      `function` in each run.
  """
  starts: list[int] = []
  values: list[Hashable] = []
  for point in (*range(0xD800), *range(0xE000, 0x110000)):
    value = function(chr(point))
    if not values or value != values[-1]:
      starts.append(point)
      values.append(value)
  return np.array(starts, np.int32), values


def run_of(points: tf.Tensor, starts: np.ndarray) -> tf.Tensor:
  """Returns the index of the run that contains each code point, [characters].

  Args:
    points: int32 [characters], code points.
    starts: int32 [runs], the first code point of each run, as `runs` returns
      it.
  """
  return tf.searchsorted(starts, points, side="right") - 1


@functools.cache
def _replacement(
  function: Callable[[str], str],
) -> tuple[np.ndarray, list[Hashable]]:
  """Returns the runs of characters that `function` replaces in the same way.

  As `runs` does, it returns the first code point of each run, int32 [runs], and
  a value for each run: the replacement, as a tuple of numbers. A number of 0 or
  more is a code point of the replacement. A negative number is relative: the
  new code point is the character's own code point plus the number plus
  _RELATIVE. For `str.lower`, А to Я are one run with the value (32 -
  _RELATIVE,), because а to я follow 32 code points later.

  Args:
    function: from a character to a string of any length.
  """

  def items(letter: str) -> tuple[int, ...]:
    replacement = function(letter)
    if letter in replacement or len(replacement) == 1:  # for long runs
      point = ord(letter)
      return tuple(
        ord(c) if c == " " else ord(c) - point - _RELATIVE for c in replacement
      )
    return tuple(map(ord, replacement))

  return runs(items)


def replaced(points: Points, function: Callable[[str], str]) -> Points:
  """Returns the characters, each replaced by the result of `function`.

  Args:
    points: the characters.
    function: from a character to a string of any length.
  """
  starts, items = _replacement(function)
  table = tf.ragged.constant(items, tf.int32, ragged_rank=1)
  replacements = tf.gather(table, run_of(points.values, starts))
  owners = replacements.value_rowids()
  relative = replacements.values + _RELATIVE + tf.gather(points.values, owners)
  values = tf.where(replacements.values < 0, relative, replacements.values)
  return Points(values, tf.gather(points.rows, owners))


def lower(points: Points) -> Points:
  """Returns the characters lower-cased, as str.lower does."""
  return replaced(_with_final_sigmas(points), str.lower)


def _with_final_sigmas(points: Points) -> Points:
  """Returns the characters with ς in place of Σ at the end of words."""
  starts, kinds = runs(_sigma_sees)
  kind = tf.gather(np.array(kinds, np.int32), run_of(points.values, starts))
  size = tf.size(kind, tf.int64)
  solid = kind != _IGNORED
  # Index `size` stands for a missing character before the first and after the
  # last.
  places = tf.concat([[size], tf.where(solid)[:, 0], [size]], 0)
  rank = tf.cumsum(tf.cast(solid, tf.int64))
  before = tf.gather(places, rank - tf.cast(solid, tf.int64))
  behind = tf.gather(places, rank + 1)
  cased = tf.concat([kind == _CASED, [False]], 0)
  rows = tf.concat([points.rows, [-1]], 0)

  def is_cased(neighbour: tf.Tensor) -> tf.Tensor:
    return tf.gather(cased, neighbour) & (
      tf.gather(rows, neighbour) == points.rows
    )

  final = (points.values == _SIGMA) & is_cased(before) & ~is_cased(behind)
  return points._replace(values=tf.where(final, _FINAL_SIGMA, points.values))


def decomposed(points: Points) -> Points:
  """Returns the characters in NFD, as unicodedata.normalize gives them."""
  return _in_order(replaced(points, _decomposed))


def _decomposed(letter: str) -> str:
  return unicodedata.normalize("NFD", letter)


def _in_order(points: Points) -> Points:
  """Returns the characters with neighbouring marks sorted as NFD sorts them.

  The marks after a letter are sorted by their combining class.
  """
  starts, classes = runs(unicodedata.combining)
  kind = tf.gather(np.array(classes, np.int64), run_of(points.values, starts))
  # The text is part of the key, because a text may begin with a mark.
  group = tf.cumsum(tf.cast(kind == 0, tf.int64)) + points.rows
  order = tf.argsort(group * 256 + kind, stable=True)
  return points._replace(values=tf.gather(points.values, order))
