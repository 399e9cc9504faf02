"""Tokenizers as TensorFlow graphs, from strings to ids, for exports.

The results equal those of tokenization.Tokenizer and framing.Framer in Python.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_text

from albert_mn.export import code_points, wordpiece_graph
from data_prep.encoding import framing, tokenization
from data_prep.files import storage


class Inputs(NamedTuple):
  """The inputs of a model.

  Attributes:
    ids, mask, segments: int32 [inputs, length].
    owners: [inputs], the index of the text of each window; None if each text is
      one input.
  """

  ids: tf.Tensor
  mask: tf.Tensor
  segments: tf.Tensor
  owners: tf.Tensor | None


class TextToIds(tf.Module):
  """Converts strings, or pairs of strings, to the inputs of a model.

  Args:
    tokenizer: the tokenizer with its settings.
    model_file: the tokenizer's file.
    length: number of ids of an input.
    long_text: the part of a long text to read; see framing.Framer.
  """

  def __init__(
    self,
    tokenizer: tokenization.Tokenizer,
    model_file: str,
    length: int,
    long_text: str = framing.HEAD,
  ) -> None:
    super().__init__()
    self._pieces: Callable[[tf.Tensor], tf.RaggedTensor] = (
      wordpiece_graph.WordPiece(tokenizer)
      if tokenization.is_wordpiece(model_file)
      else SentencePiece(model_file, tokenizer)
    )
    self._length, self._long_text = length, long_text
    self._cls, self._sep = tokenizer.cls_id, tokenizer.sep_id
    self._pad = tokenizer.pad_id

  def pairs(self, firsts: tf.Tensor, seconds: tf.Tensor) -> Inputs:
    """Returns the inputs of pairs of strings, [batch] each.

    An input is `[CLS] first [SEP] second [SEP]`, or `[CLS] first [SEP]` if the
    second string is empty. The longer text is truncated first, at its end; if
    both are long, they keep equal numbers of pieces, or the first one more.
    """
    first, second = self._pieces(firsts), self._pieces(seconds)
    paired = tf.cast(tf.strings.length(seconds) > 0, tf.int64)
    room = self._length - 2 - paired
    size = tf.minimum(
      first.row_lengths(),
      tf.maximum(room - second.row_lengths(), (room + 1) // 2),
    )
    rest = tf.minimum(second.row_lengths(), room - size)
    ones = tf.ones_like(size)
    ids = tf.concat(
      [
        self._repeated(self._cls, ones),
        _beginnings(first, size),
        self._repeated(self._sep, ones),
        _beginnings(second, rest),
        self._repeated(self._sep, paired),
      ],
      1,
    )
    mask = tf.sequence_mask(ids.row_lengths(), self._length, tf.int32)
    before = tf.sequence_mask(size + 2, self._length, tf.int32)
    filled = ids.to_tensor(self._pad, shape=[None, self._length])
    return Inputs(filled, mask, mask - before, None)

  def _repeated(self, piece: int, counts: tf.Tensor) -> tf.RaggedTensor:
    """Returns rows of one repeated piece: row i has counts[i] copies.

    Args:
      piece: the piece's id.
      counts: int [rows].
    """
    values = tf.fill([tf.reduce_sum(counts)], piece)
    return tf.RaggedTensor.from_row_lengths(values, counts)

  def inputs(self, texts: tf.Tensor) -> Inputs:
    """Returns the inputs of strings [batch], in the order of the strings.

    An input is `[CLS] text [SEP]`, padded. A long text is truncated as
    `long_text` says, or becomes several inputs: its windows.
    """
    pieces = self._pieces(texts)
    sizes, room = pieces.row_lengths(), self._length - 2
    over = tf.maximum(sizes - room, 0)
    if self._long_text == framing.WINDOWS:
      owners, before = _windows(over, room)
      return Inputs(*self._framed(pieces, owners, before, 0), owners)
    cuts_middle = self._long_text == framing.HEAD_TAIL
    head = framing.head_pieces(room) if cuts_middle else room
    every = tf.range(pieces.nrows())
    return Inputs(*self._framed(pieces, every, over, head), None)

  def _framed(
    self,
    pieces: tf.RaggedTensor,
    owners: tf.Tensor,
    skipped: tf.Tensor,
    head: int,
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns ids, mask and segments of single texts, int32 [inputs, length].

    An input is `[CLS] pieces [SEP]`, padded. Its pieces are the first `head`
    pieces of its text, then the pieces after the skipped ones, as many as there
    is room for.

    Args:
      pieces: ragged [texts, pieces], the piece ids of the texts.
      owners: [inputs], the index of each input's text.
      skipped: [inputs], number of pieces of the text that the input leaves out.
      head: number of pieces before the skipped ones.
    """
    place = tf.range(self._length - 1, dtype=tf.int64)[None]
    size = tf.minimum(
      tf.gather(pieces.row_lengths(), owners), self._length - 2
    )[:, None]
    index = place + tf.where(
      place < head, tf.zeros_like(place), skipped[:, None]
    )
    index += tf.gather(pieces.row_starts(), owners)[:, None]
    values = tf.concat([pieces.flat_values, [self._sep, self._pad]], 0)
    end = tf.size(pieces.flat_values, tf.int64) + tf.cast(
      place > size, tf.int64
    )
    body = tf.gather(values, tf.where(place < size, index, end))
    first = tf.fill([tf.shape(body)[0], 1], self._cls)
    mask = tf.sequence_mask(size[:, 0] + 2, self._length, tf.int32)
    return tf.concat([first, body], 1), mask, tf.zeros_like(mask)


def _beginnings(rows: tf.RaggedTensor, sizes: tf.Tensor) -> tf.RaggedTensor:
  """Returns the beginnings of rows: the first sizes[i] values of row i.

  Args:
    rows: ragged [rows, values].
    sizes: int [rows].
  """
  return tf.gather(rows, tf.ragged.range(sizes), batch_dims=1)


def _windows(over: tf.Tensor, room: int) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the windows of texts, some of which are too long for one input.

  A text that fits has one window. The windows of a longer text overlap by half;
  its last window ends with the text.

  Args:
    over: int64 [texts], number of a text's pieces minus `room`, at least 0.
    room: number of pieces in a window.

  Returns:
    two int64 tensors [windows]: the index of each window's text, and the number
      of pieces of the text before the window.
  """
  step = framing.window_step(room)
  counts = 1 + (over + step - 1) // step
  owners = tf.repeat(tf.range(tf.size(over, tf.int64)), counts)
  first = tf.gather(tf.cumsum(counts, exclusive=True), owners)
  number = tf.range(tf.size(owners, tf.int64)) - first
  return owners, tf.minimum(number * step, tf.gather(over, owners))


class SentencePiece(tf.Module):
  """Converts strings [batch] to ids, ragged int32 [batch, pieces].

  Args:
    model_file: path of the SentencePiece model.
    tokenizer: the tokenizer of that file, with its settings.
  """

  def __init__(
    self, model_file: str, tokenizer: tokenization.Tokenizer
  ) -> None:
    super().__init__()
    self._settings = tokenizer.settings
    self._model = tensorflow_text.SentencepieceTokenizer(
      model=storage.read_bytes(model_file)
    )
    every = range(tokenizer.vocab_size)
    self._parts = (
      tf.ragged.constant(
        [tokenizer.divided.get(i, [i]) for i in every], tf.int32
      )
      if tokenizer.divided
      else None
    )

  def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns the ids of strings [batch], ragged int32 [batch, pieces]."""
    ids = tf.cast(self._model.tokenize(self._prepared(texts)), tf.int32)
    if self._parts is None:
      return ids
    return tf.gather(self._parts, ids).merge_dims(1, 2)

  def _prepared(self, texts: tf.Tensor) -> tf.Tensor:
    """Normalises texts as tokenization.Settings.apply does in Python.

    Args:
      texts: string [batch], like the result.
    """
    if self._settings.replace_quotes:
      texts = tf.strings.regex_replace(texts, "``|''", '"')
    if not (self._settings.strip_accents or self._settings.do_lower_case):
      return texts
    points = code_points.Points.of(texts)
    if self._settings.strip_accents:
      points = code_points.replaced(points, tokenization.without_marks)
    if self._settings.do_lower_case:
      points = code_points.lower(points)
    return points.strings(texts)
