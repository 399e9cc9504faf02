"""A model moved to another tokenizer, and what that does to its loss.

A piece that both have keeps its row of the embeddings; a new one begins as the
mean of the pieces into which the old tokenizer divides it (as in Gee et al.
2022, Fast Vocabulary Transfer); so does the bias of its output. All other
weights stay.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from albert_mn import classifier, configs, pretraining
from data_prep import options, tokenization

_SPECIAL = ("pad_id", "unk_id", "cls_id", "sep_id", "mask_id")
# Of held-out text: words that share a context, of which so many are masked.
_WORDS, _MASKED = 16, 0.15
_MOST_CONTEXTS = 2000
_LENGTH, _BATCH = 96, 32  # pieces of a context at most, contexts at a time
_SEED = 12345


@dataclasses.dataclass(frozen=True)
class Origins:
  """Where each new piece comes from.

  Attributes:
    old: for each new id the old ids whose mean it begins as.
    kept, divided, without: how many pieces both have, how many are of several
      old ones, and how many the old tokenizer does not know: those begin as its
      unknown piece.
  """

  old: tuple[tuple[int, ...], ...]
  kept: int
  divided: int
  without: int


def origins(
  old: tokenization.Tokenizer, new: tokenization.Tokenizer
) -> Origins:
  """Looks every new piece up in the old tokenizer."""
  pieces = {p: i for i, p in enumerate(old.pieces(range(old.vocab_size)))}
  by_letters = {
    (old.letters(i), old.begins(i)): i
    for i in reversed(range(old.vocab_size))  # the first of equals stays
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
  """Makes the same model of the new pieces.

  Args:
    model: PretrainingModel or Classifier.
    config: of the new one.
    sources: where its pieces come from.
    labels: a classifier's; 0 for the other.
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
  """Returns for each new piece the mean of its old pieces' rows, float32."""
  sizes = np.array([len(old) for old in sources.old])
  flat = np.concatenate([np.array(old) for old in sources.old])
  begins = np.cumsum(sizes) - sizes
  sums = np.add.reduceat(rows[flat].astype(np.float64), begins, axis=0)
  shape = (-1, *[1] * (rows.ndim - 1))
  return (sums / sizes.reshape(shape)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Context:
  """Words, and which of them are to be guessed."""

  words: tuple[str, ...]
  masked: tuple[int, ...]


def contexts(
  lines: Sequence[str],
  tokenizers: Sequence[tokenization.Tokenizer],
  longest: int = _LENGTH,
) -> list[Context]:
  """Returns what is guessed under each of the tokenizers, the same words.

  Words that one of them does not know are not guessed; contexts that are too
  long for one are left out.

  Args:
    lines: of text.
    tokenizers: under which the contexts are to be read.
    longest: pieces that the model reads.

  Raises:
    options.InputError: when there is nothing to guess.
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
  """Returns what the masked words cost, in bits for each of their characters.

  The loss by piece says nothing across tokenizers: one of longer pieces has
  fewer and harder ones. The number of a word's pieces is seen by the model.
  """
  loss = 0.0
  for begin in range(0, len(guessed), _BATCH):
    loss += _loss(model, tokenizer, guessed[begin : begin + _BATCH])
  characters = sum(len(c.words[place]) for c in guessed for place in c.masked)
  return loss / math.log(2) / characters


def _loss(
  model: Any, tokenizer: tokenization.Tokenizer, batch: Sequence[Context]
) -> float:
  """Returns the summed cross-entropy of a batch's masked pieces."""
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
