"""Fills [MASK] in a text: the likeliest pieces and the likeliest whole words.

The probability of a piece is that of the masked-LM head: the softmax over its
logits at the place of [MASK]. If the text has several masks, each is filled
while [MASK] stays in the place of the rest.

The probability of a word of pieces p₁ … pₙ is a product. Its factors are the
head's probability of p₁ at [MASK]; for each further piece pᵢ₊₁, the head's
probability of pᵢ₊₁ at a [MASK] that is inserted behind p₁ … pᵢ; and, at a [MASK]
that is inserted behind pₙ, the probability of all pieces that do not continue
the word. So the probabilities of all words sum to at most 1, and those of
`хот` and `хотын` compete. Where several sequences of pieces spell a word, their
probabilities are added.

A beam search looks for the words: it keeps the likeliest beginnings of each
length, so that a word is missed if it begins with unlikely pieces.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from albert_mn.formats import initial_weights
from albert_mn.models import pretraining
from data_prep.base import options
from data_prep.encoding import masked_texts, tokenization
from data_prep.files import manifest, records

# The longest word in pieces: of the sample's words, 1 of 1,000 has more (4,000
# pieces; docs/log.md, 2026-12-01).
_LONGEST = 8
_WIDEST = 16  # beginnings that are kept if at most half as many words are asked


class Candidate(NamedTuple):
  """A candidate for the place of [MASK].

  Attributes:
    text: the piece as the tokenizer writes it (`▁хот`), or the word (`хот`).
    probability: its probability, as the module defines it.
  """

  text: str
  probability: float


@dataclasses.dataclass(frozen=True)
class Filled:
  """The candidates for a [MASK].

  Attributes:
    pieces: the likeliest pieces, the likeliest first.
    words: the likeliest words, the likeliest first. A word begins with a letter
      or a digit. Behind a letter, as in `сайн[MASK]`, they are ends of the word;
      before a letter, as in `[MASK]ын`, there are none, because the word does
      not end at [MASK].
  """

  pieces: list[Candidate]
  words: list[Candidate]


class _Begun(NamedTuple):
  """Beginnings of words, the likeliest first.

  Attributes:
    ids: int32 [beginnings, pieces].
    scores: float64 [beginnings], the product of the pieces' probabilities.
  """

  ids: np.ndarray
  scores: np.ndarray


class Filler:
  """Fills [MASK] with a pretrained model.

    filler = mask_filling.load("pretrained/albert_mn_tiny")
    (mask,) = filler.fill("Монгол улсын нийслэл [MASK] хот", top=3)
    mask.words[0]  # Candidate(text="Улаанбаатар", probability=…)

  Args:
    model: the model, with its masked-LM head.
    tokenizer: its tokenizer.
  """

  def __init__(
    self,
    model: pretraining.PretrainingModel,
    tokenizer: tokenization.Tokenizer,
  ) -> None:
    self._model, self._tokenizer = model, tokenizer
    positions = model.encoder.config.max_position_embeddings
    self._longest = min(_LONGEST, positions // 4)
    self.max_seq_length = positions - self._longest
    every = range(tokenizer.vocab_size)
    self._opens = np.array([_opens(tokenizer, number) for number in every])
    self._logits = tf.function(
      self._of_model,
      input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2,
    )

  def fill(self, text: str, top: int) -> list[Filled]:
    """Returns the candidates for each [MASK] of a text, in their order.

    Args:
      text: such as `Монгол улсын нийслэл [MASK] хот`.
      top: largest number of pieces, and of words, for each mask.

    Raises:
      options.InputError: when no [MASK] is in the text, or the text is too
        long; the longest text leaves room for a word of several pieces.
    """
    masked = self._encoded(text)
    shares = self._shares(masked.ids[None], masked.places)[0]
    return [
      Filled(
        self._pieces(shares[mask], top),
        self._words(masked, mask, shares[mask], top),
      )
      for mask in range(len(masked.places))
    ]

  def _encoded(self, text: str) -> masked_texts.Masked:
    """Returns a text as ids; raises InputError as `fill` does."""
    masked = masked_texts.encode(self._tokenizer, text)
    if len(masked.ids) > self.max_seq_length:
      raise options.InputError(
        f"a text of at most {self.max_seq_length - 2} pieces",
        f"{len(masked.ids) - 2}",
        "leave out the words that are far from [MASK]",
      )
    return masked

  def _of_model(self, ids: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns the head's logits, float32 [batch, masks, vocab_size].

    Args:
      ids: int32 [batch, length], without padding.
      places: int32 [batch, masks], the positions at which the head predicts.
    """
    features = {
      records.INPUT_IDS: ids,
      records.INPUT_MASK: tf.ones_like(ids),
      records.SEGMENT_IDS: tf.zeros_like(ids),
      records.MASKED_LM_POSITIONS: places,
    }
    return self._model(features).masked_lm_logits

  def _shares(self, ids: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Returns the head's probabilities, float64 [batch, masks, pieces].

    Rows of the model's vocabulary for which the tokenizer has no piece count,
    but are not among the pieces.

    Args:
      ids: int32 [batch, length].
      places: the positions at which the head predicts, the same in each row.
    """
    rows = np.tile(np.array(places, np.int32), (len(ids), 1))
    logits = self._logits(tf.constant(ids), tf.constant(rows)).numpy()
    logits = logits.astype(np.float64)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(-1, keepdims=True)
    return shares[..., : self._tokenizer.vocab_size]

  def _pieces(self, shares: np.ndarray, top: int) -> list[Candidate]:
    """Returns the likeliest pieces of a distribution, float64 [pieces]."""
    best = _largest(shares, top)
    names = self._tokenizer.pieces(best)
    return [
      Candidate(name, float(shares[place]))
      for name, place in zip(names, best, strict=True)
    ]

  def _words(
    self, masked: masked_texts.Masked, mask: int, shares: np.ndarray, top: int
  ) -> list[Candidate]:
    """Returns the likeliest words for a mask.

    Args:
      masked: the text.
      mask: the number of the mask.
      shares: float64 [pieces], the distribution at the mask.
      top: largest number of words.
    """
    if masked.continued[mask]:
      return []
    place, inside = masked.places[mask], masked.continues[mask]
    before, after = masked.ids[:place], masked.ids[place + 1 :]
    fitting = self._continues(before[None, -1:])[0] if inside else self._opens
    width = max(_WIDEST, 2 * top)
    begun = _best(
      np.zeros((1, 0), np.int32), (shares * fitting)[None], width, 0.0
    )
    words: dict[str, float] = {}
    for size in range(1, self._longest + 1):
      goes_on = self._add_ends(begun, before, after, inside, words)
      least = sorted(words.values(), reverse=True)[:top][-1:] or [0.0]
      enough = least[0] if len(words) >= top else 0.0
      begun = _best(begun.ids, begun.scores[:, None] * goes_on, width, enough)
      if not len(begun.ids) or size == self._longest:
        break
    best = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    return [Candidate(*item) for item in best[:top]]

  def _add_ends(
    self,
    begun: _Begun,
    before: np.ndarray,
    after: np.ndarray,
    inside: bool,
    words: dict[str, float],
  ) -> np.ndarray:
    """Adds the words that end here; returns the probabilities of longer ones.

    Args:
      begun: beginnings of words.
      before, after: int32, the ids before and behind the mask.
      inside: whether the words are the ends of a word that begins before.
      words: word → probability, to which the words are added.

    Returns:
      float64 [beginnings, pieces], the probability that a piece continues a
      beginning; 0 for pieces that cannot.
    """
    count, size = begun.ids.shape
    rows = np.concatenate(
      [
        np.tile(before, (count, 1)),
        begun.ids,
        np.full((count, 1), self._tokenizer.mask_id, np.int32),
        np.tile(after, (count, 1)),
      ],
      axis=1,
    )
    shares = self._shares(rows, [len(before) + size])[:, 0]
    goes_on: np.ndarray = shares * self._continues(begun.ids[:, -1:])
    ends = begun.scores * (1 - goes_on.sum(-1))
    for ids, probability in zip(begun.ids, ends.tolist(), strict=True):
      if word := self._spelt(ids, inside):
        words[word] = words.get(word, 0.0) + probability
    return goes_on

  def _spelt(self, ids: np.ndarray, inside: bool) -> str:
    """Returns the letters of a word; "" if its bytes are not UTF-8.

    Args:
      ids: the word's pieces.
      inside: whether they are the end of a word.
    """
    text = self._tokenizer.decode(ids).strip()
    if inside:
      text = text.removeprefix("##")
    return "" if "\ufffd" in text else text

  def _continues(self, last: np.ndarray) -> np.ndarray:
    """Returns which pieces of the vocabulary can follow a piece inside its word.

    The result is bool [rows, vocab_size], False for special pieces.

    Args:
      last: int32 [rows, 1], the piece before.
    """
    every = np.arange(self._tokenizer.vocab_size)
    pairs = np.stack(np.broadcast_arrays(last, every), axis=-1)
    begins = self._tokenizer.begins_words(pairs)[..., 1]
    return ~begins & ~self._tokenizer.special


def load(path: str, spm_model_file: str = "", gelu: str = "auto") -> Filler:
  """Returns a filler with any model that `initial_weights` can read.

  Args:
    path: a model directory, a checkpoint or a Hugging Face directory.
    spm_model_file: the tokenizer, if there is none beside the weights.
    gelu: the value of --gelu: "auto", "tanh" or "erf".

  Raises:
    options.InputError: when there is no model at `path`, when it has no
      masked-LM head, or when tokenizer and model do not fit each other.
  """
  kind = (manifest.find(path) or {}).get("kind", "")
  if kind in ("classifier", "tagger"):
    raise _headless(path, f"a {kind}")
  config = initial_weights.settle_config("", "", path, gelu=gelu)
  tokenizer = initial_weights.tokenizer(path, config, spm_model_file)
  model = pretraining.PretrainingModel(config, seed=0)
  if "masked_lm" in initial_weights.load(path, model.parts()).new:
    raise _headless(path, "an encoder without this head")
  return Filler(model, tokenizer)


def _headless(path: str, got: str) -> options.InputError:
  """Returns the error for a model without a masked-LM head."""
  return options.InputError(
    f"a pretrained model with a masked-LM head at {path}",
    got,
    "give the pretrained model that it was made of",
  )


def _opens(tokenizer: tokenization.Tokenizer, number: int) -> bool:
  """Returns whether a piece, by its id, may be the first of a word.

  Its first character is a letter or a digit; the mark of a word's beginning
  alone, "▁", is accepted too.
  """
  if tokenizer.special[number] or not tokenizer.word_starts[number]:
    return False
  letters = tokenizer.letters(number)
  return letters[:1].isalnum() if letters else tokenizer.begins(number)


def _largest(values: np.ndarray, most: int) -> np.ndarray:
  """Returns the indices of the largest values; of equal ones, the first."""
  return np.argsort(-values, kind="stable")[:most]


def _best(
  ids: np.ndarray, scores: np.ndarray, width: int, enough: float
) -> _Begun:
  """Returns the likeliest beginnings that are one piece longer.

  Args:
    ids: int32 [beginnings, pieces].
    scores: float64 [beginnings, vocabulary], the probability of each beginning
      with each piece behind it.
    width: largest number of beginnings of the result.
    enough: a beginning that is not likelier is left out.
  """
  flat = scores.reshape(-1)
  best = _largest(flat, width)
  best = best[flat[best] > enough]
  rows, pieces = np.divmod(best, scores.shape[1])
  longer = np.concatenate([ids[rows], pieces[:, None]], axis=1)
  return _Begun(longer.astype(np.int32), flat[best])
