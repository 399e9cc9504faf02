"""Chooses the pieces that the model must predict, and masks them.

Masked language modelling of whole words (BERT's later release) and n-grams of
words (ALBERT paper, section 4.1 and equation 1), for a whole batch at once. The
functions are pure: random numbers are hashes of the instance's random key.
"""

import dataclasses

import numpy as np

from data_prep.base import randomness

_PURPOSE = randomness.Purpose
_ANY_LENGTH = 1 << 30  # longer than any word


@dataclasses.dataclass(frozen=True)
class Settings:
  """How much to mask, and in which units.

  Attributes:
    masked_lm_prob: share of the text's pieces to mask.
    max_predictions: largest number of masked pieces in a row.
    whole_words: whether a word is masked as a whole or not at all.
    ngram: largest number of words that are masked together.
    favor_shorter_ngram: whether the probability of n words is proportional to
      1/n; if not, the probabilities are reversed (google-research/albert's
      flag).
    seed: the seed of the data set.
    slots: number of columns of Masked's positions, targets and weights; 0
      means max_predictions, or twice max_predictions with `permutation`.
    permutation: whether, besides the masked pieces, about as many further
      pieces are shuffled and must be predicted (google-research/albert's
      do_permutation).
  """

  masked_lm_prob: float
  max_predictions: int
  whole_words: bool
  ngram: int
  favor_shorter_ngram: bool
  seed: int
  slots: int = 0
  permutation: bool = False

  def width(self) -> int:
    """Returns the number of columns of Masked's positions and targets.

    The result is `slots`. If `slots` is 0, the result is max_predictions, or
    twice max_predictions with `permutation`.
    """
    needed = self.max_predictions * (2 if self.permutation else 1)
    return self.slots or needed


@dataclasses.dataclass(frozen=True)
class Words:
  """The words of a batch of sequences.

  Attributes:
    of_piece: int64 [rows, length], the number of each piece's word; −1 outside
      of text.
    lengths: int64 [rows, words], pieces of each word; 0 after a row's last
      word.
    segments: int64 [rows, words], the segment of each word: no n-gram crosses a
      [SEP].
  """

  of_piece: np.ndarray
  lengths: np.ndarray
  segments: np.ndarray


def segments(number: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
  """Numbers the segments of each row, differently in each example of the row.

  Args:
    number: int [rows, length], number of the example; 0 on padding.
    segment_ids: int [rows, length], 0 or 1.

  Returns:
    int64 [rows, length], the number of the segment at each position.
  """
  return 2 * number.astype(np.int64) + segment_ids


def words(
  text: np.ndarray,
  segments: np.ndarray,
  word_starts: np.ndarray,
  settings: Settings,
) -> Words:
  """Returns the words of a batch.

  If every word of a row has more pieces than settings.max_predictions, each
  piece of that row counts as a word: nothing could be masked otherwise.

  Args:
    text: bool [rows, length], False on special pieces and padding.
    segments: int64 [rows, length], the result of `segments`.
    word_starts: bool [rows, length], whether a piece begins a word.
    settings: without whole_words every piece counts as a word.
  """
  rows, columns = np.nonzero(text)
  starts = word_begins(text, word_starts) if settings.whole_words else text
  of_piece, lengths = _numbered(starts, rows, columns)
  too_long = _shortest(lengths) > settings.max_predictions
  if too_long.any():
    starts = np.where(too_long[:, None], text, starts)
    of_piece, lengths = _numbered(starts, rows, columns)
  in_segment = np.zeros(lengths.shape, np.int64)
  in_segment[rows, of_piece[rows, columns]] = segments[rows, columns]
  return Words(of_piece, lengths, in_segment)


def _numbered(
  starts: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Numbers the words of each row; returns `of_piece` and `lengths` of Words.

  Args:
    starts: bool [rows, length], whether a word begins.
    rows, columns: int64 [pieces], the positions of text.
  """
  number = np.cumsum(starts, 1) - 1
  of_piece = np.full(starts.shape, -1)
  of_piece[rows, columns] = number[rows, columns]
  shape = (len(starts), int(of_piece.max(initial=0)) + 1)
  place = rows * shape[1] + of_piece[rows, columns]
  lengths = np.bincount(place, minlength=shape[0] * shape[1])
  return of_piece, lengths.reshape(shape)


def _shortest(lengths: np.ndarray) -> np.ndarray:
  """Returns how many pieces each row's shortest word has, int64 [rows].

  The result for a row without words is 0.

  Args:
    lengths: int64 [rows, words], pieces of each word; 0 after a row's last
      word.
  """
  shortest = np.where(lengths > 0, lengths, _ANY_LENGTH).min(1)
  return np.where(shortest < _ANY_LENGTH, shortest, 0)


def word_begins(text: np.ndarray, word_starts: np.ndarray) -> np.ndarray:
  """Returns bool [rows, length]: whether a word begins at a position.

  The rest of a word whose beginning was cut off counts as a word too.

  Args:
    text: bool [rows, length], False on special pieces and padding.
    word_starts: bool [rows, length], whether a piece begins a word.
  """
  before = np.zeros_like(text)
  before[:, 1:] = text[:, :-1]
  return text & (word_starts | ~before)


def choose(
  batch_words: Words,
  keys: np.ndarray,
  settings: Settings,
  masked: np.ndarray | None = None,
) -> np.ndarray:
  """Chooses words at random: those to mask or, later, those to permute.

  The number of pieces to choose in a row, its budget, is masked_lm_prob times
  the row's pieces, rounded, at least 1 and at most max_predictions. The words
  of a row are visited in random order. At each, an n-gram of random length
  begins. The n-gram is truncated before a word that exceeds the remaining
  budget, is in another segment, or was chosen before, and its words are chosen.
  If no word of a row fits the budget for masks, the budget becomes the length
  of the first visited word of at most max_predictions pieces, so that every row
  with text has a mask.

  Args:
    batch_words: the words of the batch.
    keys: uint64 [rows, 3], the random key of each row.
    settings: the share to choose, the n-grams and the seed.
    masked: None to choose the words to mask. bool [rows, words], the words that
      are masked, to choose further words to permute.

  Returns:
    bool [rows, words], True for the chosen words; never True for the words in
    `masked`.
  """
  in_order, of_length = (
    (_PURPOSE.WORD_ORDER, _PURPOSE.NGRAM)
    if masked is None
    else (_PURPOSE.PERMUTED_ORDER, _PURPOSE.PERMUTED_NGRAM)
  )
  rows, most_words = batch_words.lengths.shape
  count = (batch_words.lengths > 0).sum(1)
  pieces = batch_words.lengths.sum(1)
  budget = np.minimum(
    settings.max_predictions,
    np.maximum(1, np.rint(pieces * settings.masked_lm_prob)),
  ).astype(np.int64)
  budget[pieces == 0] = 0
  column = np.arange(most_words)
  draw = (settings.seed, *keys.T[:, :, None], column[None])
  chance = randomness.uniform(in_order, *draw)
  order = np.argsort(np.where(column < count[:, None], chance, 2.0), axis=1)
  none_fits = np.nonzero(_shortest(batch_words.lengths) > budget)[0]
  if masked is None and len(none_fits):
    offered = np.take_along_axis(
      batch_words.lengths[none_fits], order[none_fits], 1
    )
    fits = (offered > 0) & (offered <= settings.max_predictions)
    first = fits.argmax(1)[:, None]
    budget[none_fits] = np.take_along_axis(offered * fits, first, 1)[:, 0]
  wanted = _ngram_lengths(randomness.uniform(of_length, *draw), settings)
  # Room for n-grams that begin at the last word.
  pad = ((0, 0), (0, settings.ngram))
  lengths = np.pad(batch_words.lengths, pad)
  segments = np.pad(batch_words.segments, pad, constant_values=-1)
  taken = np.zeros(lengths.shape, bool)
  if masked is not None:
    taken[:, :most_words] = masked
  active = np.arange(rows)
  for turn in range(most_words):
    active = active[(budget[active] > 0) & (turn < count[active])]
    if not len(active):
      break
    _offer(
      active, order[active, turn], wanted, lengths, segments, taken, budget
    )
  chosen = taken[:, :most_words]
  return chosen if masked is None else chosen & ~masked


def _offer(
  active: np.ndarray,
  first: np.ndarray,
  wanted: np.ndarray,
  lengths: np.ndarray,
  segments: np.ndarray,
  taken: np.ndarray,
  budget: np.ndarray,
) -> None:
  """Chooses an n-gram in each active row, as long as drawn or as fits.

  Args:
    active: int [active], the indices of the rows.
    first: int [active], the first word of the n-gram in each active row.
    wanted: int [rows, words], the drawn length of an n-gram that begins at each
      word.
    lengths, segments: int [rows, words], pieces and segment of each word.
    taken: bool [rows, words], the words chosen so far; changed in place.
    budget: int [rows], the number of pieces that may still be chosen; changed
      in place.
  """
  left = budget[active].copy()
  n = wanted[active, first]
  alive = np.ones(len(active), bool)
  chosen: list[np.ndarray] = []
  for step in range(int(wanted.max())):
    word = first + step
    size = lengths[active, word]
    same = segments[active, word] == segments[active, first]
    alive = (
      alive
      & (step < n)
      & same
      & (size > 0)
      & (size <= left)
      & ~taken[active, word]
    )
    left = np.where(alive, left - size, left)
    chosen.append(alive)
  for step, ok in enumerate(chosen):
    taken[active[ok], first[ok] + step] = True
  budget[active] = left


def _ngram_lengths(chance: np.ndarray, settings: Settings) -> np.ndarray:
  """Returns a random n-gram length, 1 to settings.ngram, for each chance.

  The probability of n words is proportional to 1/n (ALBERT, equation 1).
  Without favor_shorter_ngram the probabilities are in the reverse order.

  Args:
    chance: random numbers, uniform from 0 to below 1, of any shape.
    settings: the n-grams.
  """
  weights = 1.0 / np.arange(1, settings.ngram + 1)
  if not settings.favor_shorter_ngram:
    weights = weights[::-1]
  bounds = np.cumsum(weights / weights.sum())
  bounds[-1] = 1.0  # chance is below 1, rounding must not reach past it
  return 1 + np.searchsorted(bounds, chance, side="right")


def mask(
  ids: np.ndarray,
  text: np.ndarray,
  segments: np.ndarray,
  word_starts: np.ndarray,
  keys: np.ndarray,
  settings: Settings,
  *,
  mask_id: int,
  ordinary_ids: np.ndarray,
) -> "Masked":
  """Chooses the pieces to predict (`choose`), and masks them (`replace`).

  Static and dynamic masks are both made by this function. `ids` is not changed.

  Args:
    ids: int64 [rows, length], the piece ids.
    text: bool [rows, length], False on special pieces and padding.
    segments: int64 [rows, length], the result of `segments`.
    word_starts: bool [rows, length], whether a piece begins a word.
    keys: uint64 [rows, 3], the random key of each row.
    settings: the share to mask, the n-grams and the seed.
    mask_id: the id of [MASK].
    ordinary_ids: [n], the ids that are not special.

  Returns:
    the masked ids, with the positions, targets and weights of the predictions.
  """
  batch_words = words(text, segments, word_starts, settings)
  of_piece = np.maximum(batch_words.of_piece, 0)
  taken = choose(batch_words, keys, settings)
  chosen = text & np.take_along_axis(taken, of_piece, 1)
  moved = None
  if settings.permutation:
    permuted = choose(batch_words, keys, settings, taken)
    moved = text & np.take_along_axis(permuted, of_piece, 1)
  return replace(
    ids,
    chosen,
    keys,
    settings,
    mask_id=mask_id,
    ordinary_ids=ordinary_ids,
    moved=moved,
  )


@dataclasses.dataclass(frozen=True)
class Masked:
  """A masked batch: the ids that the model reads, and those it must predict.

  Attributes:
    ids: int64 [rows, length], the ids with the replacements.
    positions: int64 [rows, slots], the columns to predict; 0 where unused.
    targets: int64 [rows, slots], the ids before masking; 0 where unused.
    weights: float32 [rows, slots], 1 where used.
  """

  ids: np.ndarray
  positions: np.ndarray
  targets: np.ndarray
  weights: np.ndarray


def replace(
  ids: np.ndarray,
  chosen: np.ndarray,
  keys: np.ndarray,
  settings: Settings,
  *,
  mask_id: int,
  ordinary_ids: np.ndarray,
  moved: np.ndarray | None = None,
) -> Masked:
  """Returns a batch with the chosen pieces masked (BERT paper, section 3.1).

  A chosen piece becomes [MASK] with probability 0.8, stays with 0.1, and
  becomes a random piece with 0.1. The model must predict all chosen pieces. The
  random piece is never a special piece; google-research/bert may draw [PAD] or
  [CLS]. The pieces in `moved` are shuffled within their row, and must be
  predicted too.

  Args:
    ids: int64 [rows, length], the piece ids.
    chosen: bool [rows, length], the pieces to mask.
    keys: uint64 [rows, 3], the random key of each row.
    settings: for the slots and the seed.
    mask_id: the id of [MASK].
    ordinary_ids: [n], the ids that are not special.
    moved: bool [rows, length], the pieces to shuffle; None for none.
  """
  rows, columns = np.nonzero(chosen)
  draw = (settings.seed, *keys[rows].T, columns)
  chance = randomness.uniform(_PURPOSE.REPLACEMENT, *draw)
  random_ids = ordinary_ids[
    randomness.below(len(ordinary_ids), _PURPOSE.RANDOM_PIECE, *draw)
  ]
  seen = ids.copy()
  seen[rows, columns] = np.where(
    chance < 0.8,
    mask_id,
    np.where(chance < 0.9, ids[rows, columns], random_ids),
  )
  if moved is not None:
    _permute(seen, moved, keys, settings.seed)
    chosen = chosen | moved
    rows, columns = np.nonzero(chosen)
  per_row = chosen.sum(1)
  slot = np.arange(len(rows)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
  shape = (len(ids), settings.width())
  result = Masked(
    seen,
    np.zeros(shape, np.int64),
    np.zeros(shape, np.int64),
    np.zeros(shape, np.float32),
  )
  result.positions[rows, slot] = columns
  result.targets[rows, slot] = ids[rows, columns]
  result.weights[rows, slot] = 1.0
  return result


def _permute(
  seen: np.ndarray, moved: np.ndarray, keys: np.ndarray, seed: int
) -> None:
  """Shuffles the `moved` pieces of each row among each other, in place.

  Args:
    seen: int64 [rows, length], the ids, which are changed.
    moved: bool [rows, length], the pieces to shuffle.
    keys: uint64 [rows, 3], the random key of each row.
    seed: the seed of the data set.
  """
  rows, columns = np.nonzero(moved)
  draw = (seed, *keys[rows].T, columns)
  chance = randomness.uniform(_PURPOSE.PERMUTATION, *draw)
  order = np.lexsort((chance, rows))
  seen[rows, columns] = seen[rows, columns[order]]
