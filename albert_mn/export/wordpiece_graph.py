"""WordPiece as a TensorFlow graph, with the ids of the Python code.

tensorflow-text's BertTokenizer is not used: it replaces by spaces the
characters that google's code removes, and uses another version of Unicode than
Python.
"""

import numpy as np
import tensorflow as tf
import tensorflow_text

from albert_mn.export import code_points
from data_prep.encoding import tokenization, wordpiece


class WordPiece(tf.Module):
  """Converts strings [batch] to ids, ragged int32 [batch, pieces].

  Args:
    tokenizer: a tokenizer of a vocab.txt, with its settings.
  """

  def __init__(self, tokenizer: tokenization.Tokenizer) -> None:
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
      max_bytes_per_word=4 * longest,  # 4 bytes: UTF-8's longest character
      unknown_token=self._unknown,
      token_out_type=tf.int64,
    )

  def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns the ids of strings [batch], ragged int32 [batch, pieces]."""
    words = self.words(texts)
    spelled = tf.strings.unicode_encode(words.values, "UTF-8")
    too_long = words.values.row_lengths() > self._settings.longest_word
    spelled = tf.where(too_long, self._unknown, spelled)
    pieces = tf.cast(self._pieces.tokenize(spelled), tf.int32)
    return words.with_values(pieces).merge_dims(1, 2)

  def words(self, texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns the words of strings as code points, before they become pieces.

    The words are those that wordpiece.words finds in Python: lower-cased and
    without marks as the settings say, and divided at spaces and punctuation.

    Args:
      texts: string [batch].

    Returns:
      ragged int32 [batch, words, characters].
    """
    points = code_points.replaced(
      code_points.Points.of(texts), wordpiece.cleaned
    )
    if self._settings.do_lower_case:
      points = code_points.lower(points)
    if self._settings.strip_accents:
      points = code_points.decomposed(points)
      points = code_points.replaced(points, _without_marks)
    return _divided(
      code_points.replaced(points, _spaced), tf.size(texts, tf.int64)
    )


def _without_marks(letter: str) -> str:
  """Returns `letter` itself, or "" if it is a combining mark."""
  return "" if wordpiece.is_mark(letter) else letter


def _spaced(letter: str) -> str:
  """Returns a letter, with spaces around it if it is punctuation."""
  return f" {letter} " if wordpiece.is_punctuation(letter) else letter


def _divided(points: code_points.Points, texts: tf.Tensor) -> tf.RaggedTensor:
  """Returns the words of texts, divided at white space, as code points.

  Args:
    points: the characters of the texts.
    texts: int64 scalar, the number of texts.

  Returns:
    ragged int32 [texts, words, characters].
  """
  starts, blank = code_points.runs(str.isspace)
  kept = ~tf.gather(np.array(blank), code_points.run_of(points.values, starts))
  continues = (points.rows[1:] == points.rows[:-1]) & kept[:-1]
  begins = kept & ~tf.concat([[False], continues], 0)[: tf.size(kept)]
  number = tf.cumsum(tf.cast(begins, tf.int64)) - 1
  words = tf.RaggedTensor.from_value_rowids(
    tf.boolean_mask(points.values, kept), tf.boolean_mask(number, kept)
  )
  owners = tf.boolean_mask(points.rows, begins)
  return tf.RaggedTensor.from_value_rowids(words, owners, nrows=texts)
