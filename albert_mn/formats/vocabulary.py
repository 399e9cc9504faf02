"""Transfer of a model to another tokenizer, and its loss before and after.

A piece of both vocabularies keeps its embedding and its output bias. A new
piece is divided by the old tokenizer into old pieces, and starts with the mean
of their embeddings and biases (as in Gee et al. 2022, Fast Vocabulary
Transfer). All other weights are unchanged.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from albert_mn.models import configs, pretraining
from albert_mn.tasks import classifier
from data_prep.base import options
from data_prep.encoding import tokenization

_SPECIAL = ("pad_id", "unk_id", "cls_id", "sep_id", "mask_id")
# Words of a context in held-out text, and the share of words that is masked.
_WORDS, _MASKED = 16, 0.15
_MOST_CONTEXTS = 2000
_LENGTH, _BATCH = 96, 32  # longest context in pieces, contexts a batch
_SEED = 12345


@dataclasses.dataclass(frozen=True)
class Origins:
  """For each piece of a new vocabulary, the old pieces from which it starts.

  Attributes:
    old: for each new id, the old ids; the new piece starts with the mean of
      their embeddings.
    kept: number of pieces in both vocabularies, special pieces included.
    divided: number of new pieces that consist of old pieces.
    without: number of new pieces that the old tokenizer does not know; they
      start with its unknown piece. The three numbers add up to the number of
      new pieces.
  """

  old: tuple[tuple[int, ...], ...]
  kept: int
  divided: int
  without: int


def origins(
  old: tokenization.Tokenizer, new: tokenization.Tokenizer
) -> Origins:
  """Returns the old pieces from which each piece of a new vocabulary starts.

  A new piece starts from the old piece with the same letters at the same place
  of a word (at its beginning or inside); [CLS] and other special pieces start
  from the old special pieces. Any other new piece starts from the known pieces
  into which the old tokenizer divides its letters.

  Args:
    old, new: the two tokenizers.
  """
  pieces = {p: i for i, p in enumerate(old.pieces(range(old.vocab_size)))}
  by_letters = {
    (old.letters(i), old.begins(i)): i
    for i in reversed(range(old.vocab_size))  # the first of equal pieces wins
    if not old.special[i]
  }
  special = {getattr(new, n): getattr(old, n) for n in _SPECIAL}
  old_ids: list[tuple[int, ...]] = []
  kept = divided = without = 0
  for number, piece in enumerate(new.pieces(range(new.vocab_size))):
    place = (new.letters(number), new.begins(number))
    same = pieces.get(piece) if new.special[number] else by_letters.get(place)
    known = special.get(number, same)
    if known is not None:
      old_ids.append((known,))
      kept += 1
      continue
    inside = () if new.special[number] else old.inside(*place)
    parts = tuple(i for i in inside if i != old.unk_id)
    divided += bool(parts)
    without += not parts
    old_ids.append(parts or (old.unk_id,))
  return Origins(tuple(old_ids), kept, divided, without)


def moved(
  model: Any, config: configs.AlbertConfig, sources: Origins, labels: int
) -> Any:
  """Returns a model with the new vocabulary and otherwise the same weights.

  Args:
    model: a PretrainingModel or a Classifier.
    config: the config of the new model.
    sources: the old pieces from which each new piece starts.
    labels: number of a classifier's labels; 0 for a PretrainingModel.
  """
  new: Any = (
    classifier.Classifier(config, labels, seed=0)
    if labels
    else pretraining.PretrainingModel(config, 0)
  )
  rows = {id(model.encoder.embedding_table)}
  if not labels:
    rows.add(id(model.masked_lm.bias))
  for source, target in zip(model.variables, new.variables, strict=True):
    value = source.numpy()
    target.assign(means(value, sources) if id(source) in rows else value)
  return new


def means(rows: np.ndarray, sources: Origins) -> np.ndarray:
  """Returns, for each new piece, the mean of its old pieces' rows, in float32.

  Args:
    rows: [old pieces] or [old pieces, width].
    sources: the old pieces from which each new piece starts.
  """
  sizes = np.array([len(old) for old in sources.old])
  flat = np.concatenate([np.array(old) for old in sources.old])
  begins = np.cumsum(sizes) - sizes
  sums = np.add.reduceat(rows[flat].astype(np.float64), begins, axis=0)
  shape = (-1, *[1] * (rows.ndim - 1))
  return (sums / sizes.reshape(shape)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Context:
  """A sequence of words from held-out text, some of which are masked.

  Attributes:
    words: the words.
    masked: the indices of the masked words.
  """

  words: tuple[str, ...]
  masked: tuple[int, ...]


def contexts(
  lines: Sequence[str],
  tokenizers: Sequence[tokenization.Tokenizer],
  longest: int = _LENGTH,
) -> list[Context]:
  """Returns contexts in which the same words are masked for all tokenizers.

  At most 2,000 contexts are returned, from the beginning of the text. A context
  has up to 16 consecutive words of one line, fewer if `longest` is below 96.
  About 15 % of the words are masked, at least one; the choice is the same at
  each call. Words that a tokenizer does not know are not masked. Contexts that
  are too long for a tokenizer, or have no word that all tokenizers know, are
  skipped.

  Args:
    lines: lines of text.
    tokenizers: the tokenizers to compare.
    longest: largest number of pieces of a context, with [CLS] and [SEP]; 96 if
      it is above 96.

  Raises:
    options.InputError: when no word can be masked.
  """
  draw = np.random.default_rng(_SEED)
  guessed: list[Context] = []
  longest = min(longest, _LENGTH)
  size = max(1, min(_WORDS, longest // 6))  # words of six pieces still fit
  for line in lines:
    words = line.split()
    for begin in range(0, len(words), size):
      part = tuple(words[begin : begin + size])
      encoded = [t.encode(part) for t in tokenizers]
      if any(sum(map(len, ids)) > longest - 2 for ids in encoded):
        continue
      known = [
        place
        for place in range(len(part))
        if all(
          len(ids[place]) and t.unk_id not in ids[place]
          for t, ids in zip(tokenizers, encoded, strict=True)
        )
      ]
      if known:
        number = max(1, round(_MASKED * len(part)))
        chosen = draw.permutation(known)[:number]
        guessed.append(Context(part, tuple(sorted(map(int, chosen)))))
      if len(guessed) == _MOST_CONTEXTS:
        return guessed
  if not guessed:
    raise options.InputError(
      "held-out text that both tokenizers can read",
      "none",
      "give --held_out_file in the language of the model",
    )
  return guessed


def bits_per_character(
  model: Any, tokenizer: tokenization.Tokenizer, guessed: Sequence[Context]
) -> float:
  """Returns the masked-LM loss in bits per character of the masked words.

  The loss per piece cannot be compared between tokenizers: longer pieces are
  fewer, and harder to predict. The model sees one [MASK] for each piece of a
  masked word, and so knows the number of its pieces.

  Args:
    model: a PretrainingModel.
    tokenizer: the model's tokenizer.
    guessed: the contexts whose masked words the model predicts; at least one.
  """
  loss = 0.0
  for begin in range(0, len(guessed), _BATCH):
    loss += _loss(model, tokenizer, guessed[begin : begin + _BATCH])
  characters = sum(len(c.words[place]) for c in guessed for place in c.masked)
  return loss / math.log(2) / characters


def _loss(
  model: Any, tokenizer: tokenization.Tokenizer, batch: Sequence[Context]
) -> float:
  """Returns the summed cross-entropy of a batch's masked pieces, in nats."""
  ids = np.full((len(batch), _LENGTH), tokenizer.pad_id, np.int32)
  mask = np.zeros_like(ids)
  labels = np.full_like(ids, -1)
  for row, context in enumerate(batch):
    encoded = tokenizer.encode(context.words)
    whole = [tokenizer.cls_id, *np.concatenate(encoded), tokenizer.sep_id]
    ids[row, : len(whole)], mask[row, : len(whole)] = whole, 1
    ends = 1 + np.cumsum([len(part) for part in encoded])
    for place in context.masked:
      where = slice(ends[place] - len(encoded[place]), ends[place])
      labels[row, where] = encoded[place]
      ids[row, where] = tokenizer.mask_id
  width = int(mask.sum(1).max())
  ids, mask, labels = ids[:, :width], mask[:, :width], labels[:, :width]
  encoded_ = model.encoder(
    tf.constant(ids), tf.constant(mask), tf.zeros_like(ids)
  )
  every = np.tile(np.arange(width, dtype=np.int32), [len(batch), 1])
  logits = model.masked_lm(encoded_.sequence_output, tf.constant(every))
  guessed = labels >= 0
  return float(
    tf.reduce_sum(
      tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels[guessed], tf.boolean_mask(logits, guessed)
      )
    )
  )
