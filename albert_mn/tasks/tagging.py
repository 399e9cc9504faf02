"""Named entities: conversion between character spans and tags of pieces.

Each piece of a text has a tag: B- begins an entity, I- continues it, O is
outside (Ramshaw and Marcus 1995). Every piece is tagged, not only the first
piece of a word, because a Mongolian entity often ends inside a word, before its
case ending:

    УИХ-ын  →  ▁УИХ B-ORG   - O   ын O
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from albert_mn.tasks import classifier, problems
from data_prep.base import options
from data_prep.classification import classifier_data
from data_prep.encoding import framing
from data_prep.text import alignment

KIND = "tagger"
_OUTSIDE = "O"
_UNREAD = -1  # the target of positions without a tag: special pieces, padding
_SURE = 30.0  # the logit of O for pieces that the model does not read

Span = tuple[int, int, str]


class Entity(NamedTuple):
  """An entity that the model found in a text.

  Attributes:
    start: offset of the first character.
    end: offset after the last character.
    type: the type of the entity, such as PER.
    probability: mean probability of the tags of the entity's pieces.
  """

  start: int
  end: int
  type: str
  probability: float


def places(
  text: str,
  surfaces: Sequence[str],
  is_blank: Callable[[str], bool] = alignment.is_invisible,
) -> list[tuple[int, int]]:
  """Returns (start, end) of each piece, as character offsets in a text.

  `end` is the offset after the last character. Blank characters at the ends of
  a piece are not counted. For a piece of only blank characters, both offsets
  are the end of the piece.

  Args:
    text: such as `Д.Цогтбаатар  ирлээ`.
    surfaces: result of `Tokenizer.segment`: the part of the text for each
      piece; concatenated, they are the text.
    is_blank: returns whether a character is blank; `Tokenizer.is_blank`
      includes the characters that the tokenizer drops.
  """
  ends = itertools.accumulate(map(len, surfaces), initial=0)
  return [
    alignment.trimmed(text, start, end, is_blank)
    for start, end in itertools.pairwise(ends)
  ]


def tags_of(
  entities: Sequence[Span], pieces: Sequence[tuple[int, int]]
) -> list[str]:
  """Returns the tag of each piece, such as B-PER, I-PER or O.

  A piece that is only partly inside an entity belongs to the entity too. A
  piece that touches two entities belongs to the first in the list; the tags of
  the second then begin with I-.

  Args:
    entities: (start, end, type) of the text's entities.
    pieces: (start, end) of each piece, as `places` returns them.
  """
  tags = [_OUTSIDE] * len(pieces)
  for start, end, kind in entities:
    inside = [
      number
      for number, (first, last) in enumerate(pieces)
      if first < end and (last > start if last > first else first > start)
    ]
    for number in inside:
      mark = "B" if number == inside[0] else "I"
      if tags[number] == _OUTSIDE:
        tags[number] = f"{mark}-{kind}"
  return tags


def stretches(tags: Sequence[str]) -> list[Span]:
  """Returns (first, last, type) of each entity in a sequence of tags.

  `first` and `last` are the indices of the entity's first and last piece. As in
  seqeval's get_entities, an I- tag begins an entity if the tag before is O or
  has another type.
  """
  spans: list[Span] = []
  before = _OUTSIDE
  for number, tag in enumerate(tags):
    mark, _, kind = tag.partition("-")
    if tag != _OUTSIDE:
      if mark == "I" and before.partition("-")[2] == kind:
        spans[-1] = (spans[-1][0], number, kind)
      else:
        spans.append((number, number, kind))
    before = tag
  return spans


class Tagger(classifier.Classifier):
  """The encoder, dropout, and one dense layer on every position."""

  def features(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
    dropout_seeds: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Returns the vector of each position, which the head reads.

    The result is [batch, length, hidden].
    """
    return self.hidden(input_ids, input_mask, segment_ids, dropout_seeds)


class Tagging(problems.SingleLabel):
  """The problem of a tagger: one tag per piece; `names` are the tags, O first.

  In the loss, an input counts with the mean over its pieces, weighted by the
  number of its pieces.
  """

  TYPE, RANK, SCORE = problems.ENTITIES, 2, "entity F1"
  RIGHT, UNIT = "accuracy of the tags", "pieces"

  @classmethod
  def of(cls, rows: Sequence[classifier_data.Row]) -> "Tagging":
    kinds = sorted({kind for row in rows for _, _, kind in row.entities})
    if not kinds:
      raise options.InputError(
        "at least one entity in the training rows",
        "none",
        "check --label_column",
      )
    return cls((_OUTSIDE, *(f"{m}-{kind}" for kind in kinds for m in "BI")))

  @property
  def kinds(self) -> tuple[str, ...]:
    """The types of the entities, such as LOC and PER."""
    return tuple(name[2:] for name in self.names if name.startswith("B-"))

  def check(self, rows: Sequence[classifier_data.Row]) -> None:
    """Raises InputError for a row with an entity type that was not trained."""
    for row in rows:
      for _, _, kind in row.entities:
        if kind not in self.kinds:
          raise problems.untrained(self.kinds, kind, row.line, "type")

  def filled(
    self, targets: np.ndarray, rows: np.ndarray, shape: tuple[int, ...]
  ) -> np.ndarray:
    filled = np.full(shape, _UNREAD, np.int32)
    for place, row in enumerate(rows):
      tags = targets[row][: shape[1]]  # arbitrary for padding rows
      filled[place, : len(tags)] = tags
    return filled

  def weights(self, targets: np.ndarray) -> np.ndarray:
    return problems.Problem.weights(self, targets)  # raises

  def losses(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the losses of texts or of single pieces.

    Args:
      logits: [rows, length, tags] for texts, or [pieces, tags].
      targets: tag numbers, [rows, length] or [pieces]; -1 marks a position
        without a tag.

    Returns:
      the mean loss of each text's pieces, [rows], or the loss of each piece,
        [pieces].
    """
    if len(targets.shape) == 1:
      return super().losses(logits, targets)
    read = tf.cast(targets != _UNREAD, logits.dtype)
    each = super().losses(logits, tf.maximum(targets, 0)) * read
    return tf.math.divide_no_nan(tf.reduce_sum(each, 1), tf.reduce_sum(read, 1))

  def examples(
    self, framer: framing.Framer, rows: Sequence[classifier_data.Row]
  ) -> tuple[framing.Framed, problems.Examples]:
    """Returns (framed inputs of training rows, Examples with the pieces' tags).

    The targets are the tag numbers of each input's pieces, -1 for [CLS] and
    [SEP]. A message logs how many entities begin or end inside a piece.
    """
    texts = [row.text for row in rows]
    framed, tags = framer.frame(texts), self.numbers(framer, rows)
    tokenizer = framer.tokenizer
    if stuck := unalignable(rows, tokenizer.segment, tokenizer.is_blank):
      logging.info(
        "%d of %d entities begin or end inside a piece: never found exactly",
        stuck,
        sum(len(row.entities) for row in rows),
      )
    targets = np.empty(len(framed.ids), object)
    for place, (ids, owner, start) in enumerate(
      zip(framed.ids, framed.owners, framed.starts, strict=True)
    ):
      inside = tags[owner][start : start + len(ids) - 2]
      targets[place] = np.array([_UNREAD, *inside, _UNREAD], np.int32)
    weights = np.array([max(len(ids) - 2, 0) for ids in framed.ids], np.float32)
    return framed, problems.Examples(
      framed.ids,
      framed.second_starts,
      targets,
      weights,
      framer.tokenizer.pad_id,
    )

  def numbers(
    self, framer: framing.Framer, rows: Sequence[classifier_data.Row]
  ) -> list[list[int]]:
    """Returns for each row the tag number of each piece: its index in `names`.

    Raises:
      KeyError: for an entity type that was not trained; `check` reports it
        first.
    """
    number = {name: index for index, name in enumerate(self.names)}
    surfaces = framer.tokenizer.segment([row.text for row in rows])
    is_blank = framer.tokenizer.is_blank
    return [
      [
        number[tag]
        for tag in tags_of(row.entities, places(row.text, pieces, is_blank))
      ]
      for row, pieces in zip(rows, surfaces, strict=True)
    ]


class TagPredictor(classifier.Predictor):
  """Finds the named entities of texts with a tagger's model directory.

  tagger = TagPredictor.load("runs/ner/model")
  tagger.entities(["Баянгол дүүрэг"])  # [[Entity(0, 14, "LOC", 0.97)]]
  """

  KIND = KIND
  MODEL = Tagger

  @staticmethod
  def read_problem(
    names: Sequence[str], parameters: Mapping[str, Any]
  ) -> problems.Problem:
    """Returns the tagging problem with the tags of a model directory.

    Args:
      names: the tags.
      parameters: the parameters in the manifest; not used.
    """
    del parameters  # a tagging problem has none
    return Tagging(tuple(names))

  def logits(
    self, texts: Sequence[classifier.Text], batch_size: int = 32
  ) -> np.ndarray:
    """Returns the logits of the pieces of all texts, float32 [pieces, tags].

    The texts are not cleaned. The pieces of each text follow those of the text
    before. The logits of a piece in several windows are the mean over these
    windows. A piece that the model does not read, because the text is too long,
    gets the logit 30 for the tag O and 0 for all other tags.
    """
    framed = self.framer.frame(texts)
    first = np.concatenate(([0], np.cumsum(framed.sizes)))
    sums = np.zeros([first[-1], len(self.names)], np.float32)
    times = np.zeros(first[-1], np.float32)
    for batch, scores in classifier.outputs(
      self._forward, self.framer, framed, batch_size
    ):
      for place, row in enumerate(batch.rows):
        size = len(framed.ids[row]) - 2
        start = first[framed.owners[row]] + framed.starts[row]
        sums[start : start + size] += scores[place, 1 : size + 1]
        times[start : start + size] += 1
    sums[times == 0, 0] = _SURE
    return sums / np.maximum(times, 1)[:, None]

  def targets(self, rows: Sequence[classifier_data.Row]) -> np.ndarray:
    """Returns the true tag numbers of the pieces of all rows, int32 [pieces].

    Raises:
      options.InputError: for an entity type that was not trained.
    """
    assert isinstance(self.problem, Tagging)
    self.problem.check(rows)
    numbers = [
      n for row in self.problem.numbers(self.framer, rows) for n in row
    ]
    return np.array(numbers, np.int32)

  def score(
    self, logits: np.ndarray, rows: Sequence[classifier_data.Row]
  ) -> float:
    """Returns the micro F1 of whole entities; 1 if there are no entities.

    An entity counts as found if start, end and type are all equal.

    Args:
      logits: the result of `logits` for the texts of the rows.
      rows: the rows with their entities.
    """
    decoded = self.decoded([row.text for row in rows], logits)
    right = sum(
      len({entity[:3] for entity in entities} & set(row.entities))
      for entities, row in zip(decoded, rows, strict=True)
    )
    both = sum(map(len, decoded)) + sum(len(row.entities) for row in rows)
    return 2 * right / both if both else 1.0

  def entities(
    self, texts: Sequence[str], batch_size: int = 32
  ) -> list[list[Entity]]:
    """Returns the entities of each text, from left to right.

    Entities do not overlap. Offsets are those in the given text, which is not
    cleaned.

    Args:
      texts: the texts.
      batch_size: inputs a batch, at most.
    """
    return self.decoded(texts, self.logits(texts, batch_size))

  def decoded(
    self, texts: Sequence[str], logits: np.ndarray
  ) -> list[list[Entity]]:
    """Returns the entities of each text, from logits that were computed before.

    Args:
      texts: the texts.
      logits: the result of `logits` for these texts.
    """
    shares = self.problem.probabilities(logits / self.temperature)
    best, by_text, first = shares.argmax(axis=1), [], 0
    surfaces = self.tokenizer.segment(texts)
    for text, pieces in zip(texts, surfaces, strict=True):
      last = first + len(pieces)
      by_text.append(
        list(
          self._of_text(
            places(text, pieces, self.tokenizer.is_blank),
            best[first:last],
            shares[first:last].max(axis=1),
          )
        )
      )
      first = last
    return by_text

  def _of_text(
    self, pieces: Sequence[tuple[int, int]], best: np.ndarray, sure: np.ndarray
  ) -> Iterator[Entity]:
    """Yields the entities of one text, from the tags of its pieces.

    An entity of only blank characters is left out.

    Args:
      pieces: (start, end) of each piece.
      best: the number of each piece's most probable tag.
      sure: the probability of that tag.
    """
    for first, last, kind in stretches([self.names[tag] for tag in best]):
      start, end = pieces[first][0], pieces[last][1]
      if end > start:
        yield Entity(start, end, kind, float(sure[first : last + 1].mean()))


def check(long_text: str) -> None:
  """Raises InputError for --long_text=head_tail, which a tagger cannot have.

  head_tail leaves out the middle of a text.

  Args:
    long_text: the value of --long_text.
  """
  if long_text == framing.HEAD_TAIL:
    raise options.InputError(
      f"--long_text={framing.HEAD} or {framing.WINDOWS} for entities",
      long_text,
      "give windows: each piece is read, and has a tag",
    )


def unalignable(
  rows: Sequence[classifier_data.Row],
  segment: Callable[[Sequence[str]], list[list[str]]],
  is_blank: Callable[[str], bool] = alignment.is_invisible,
) -> int:
  """Returns the number of entities that begin or end inside a piece.

  The model can never find such an entity with exactly its start and end.

  Args:
    rows: rows with their entities.
    segment: Tokenizer.segment of the model's tokenizer.
    is_blank: returns whether a character is blank.
  """
  texts, count = [row.text for row in rows], 0
  for row, surfaces in zip(rows, segment(texts), strict=True):
    pieces = places(row.text, surfaces, is_blank)
    starts, ends = {s for s, _ in pieces}, {e for _, e in pieces}
    count += sum(s not in starts or e not in ends for s, e, _ in row.entities)
  return count
