"""Turns documents into serialised examples: the first stage of the records.

Each example has a bucket, which is a file of the data set, and a sort key. Both
follow from the range of documents and the options (the recipe). A file holds
the examples of its bucket in the order of their sort keys. So its bytes depend
neither on the number of workers nor on the runner.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_prep.base import options, randomness
from data_prep.encoding import framing, tokenization
from data_prep.files import documents, json_files, records
from data_prep.pretraining import (
  held_out,
  instances,
  masking,
  packing,
  random_segments,
  segment_borders,
)

Counts = collections.Counter[str]

# Stage one makes a range's examples in blocks of about this many pieces if they are
# packed, and else of this many examples. Larger blocks have more padding; in smaller
# ones the calls of numpy take most of the time.
_PIECES_A_BLOCK, _ROWS_A_BLOCK = 1 << 19, 1024


@dataclasses.dataclass(frozen=True)
class TextPreparation(options.Group):
  """Preparation of the text before the tokenizer.

  For checkpoints from elsewhere. The SentencePiece models of train_tokenizer
  prepare the text themselves.
  """

  do_lower_case: bool = options.option(
    False,
    "Lower-case text before the tokenizer, for a SentencePiece model that "
    "does not lower-case (google-research/albert: true).",
  )
  strip_accents: bool = options.option(
    False,
    "Remove the marks of letters (й becomes и) before the tokenizer, for "
    "a checkpoint that was trained on text without marks.",
  )
  replace_quotes: bool = options.option(
    False,
    "Turn two backticks or two apostrophes into a quotation mark before "
    "the tokenizer, for a checkpoint that was trained on such text.",
  )
  split_digit_commas: bool = options.option(
    False,
    "Separate the comma from pieces that end in a digit and a comma, for "
    "a checkpoint that was trained on such pieces.",
  )


@dataclasses.dataclass(frozen=True)
class Recipe(TextPreparation):
  """Length, masks and sentence pairs of the examples.

  The names are those of google-research/albert. Unlike there, the largest
  number of masked pieces follows from the length: the default there, 20, masks
  only 3.9 % of 512 pieces.
  """

  max_seq_length: int = options.option(
    512,
    "Number of pieces in an example.",
    minimum=8,
    maximum=framing.LONGEST,
  )
  max_predictions_per_seq: int = options.option(
    0,
    "Largest number of masked pieces in an example. 0 takes "
    "--max_seq_length times --masked_lm_prob, rounded up "
    "(google-research/albert: 20, which is 3.9 % of 512 pieces).",
    minimum=0,
  )
  masked_lm_prob: float = options.option(
    0.15,
    "Share of the pieces that are masked.",
    minimum=0.0,
    maximum=1.0,
  )
  short_seq_prob: float = options.option(
    0.1,
    "Share of the examples that are shorter, to a length drawn at random.",
    minimum=0.0,
    maximum=1.0,
  )
  dupe_factor: int = options.option(
    10,
    "Number of times that each document is used, every time with other "
    "masks (google-research/albert: 40).",
    minimum=1,
  )
  random_seed: int = options.option(
    12345,
    "Seed of the random cuts of documents and of the random masks.",
    minimum=0,
    maximum=options.SEEDS - 1,
  )
  do_whole_word_mask: bool = options.option(
    True,
    "Mask all pieces of a word together, in Cyrillic text too.",
  )
  ngram: int = options.option(
    3,
    "Largest number of neighbouring words that are masked together.",
    minimum=1,
    maximum=10,
  )
  favor_shorter_ngram: bool = options.option(
    True,
    "Mask short runs of words more often than long runs.",
  )
  do_permutation: bool = options.option(
    False,
    "Shuffle as many further words as are masked among each other; the model "
    "must predict these words too. The masked_lm_* features are then twice "
    "as long.",
  )
  random_next_sentence: bool = options.option(
    False,
    "Make examples for BERT's task, whether segment B follows segment A "
    "or comes from another document, of a pool of an eighth of the text. By "
    "default the examples are for ALBERT's task, whether segments A and B "
    "are in the right order.",
  )
  sentence_pairs_only: bool = options.option(
    False,
    "Leave out examples without a sentence pair (label -1), which "
    "google-research's readers do not know.",
  )
  pack_sequences: bool = options.option(
    False,
    "Put several short examples into one training record with little "
    "padding, for run_pretraining.py only. Examples in one record do not "
    "attend to each other.",
  )
  masking: str = options.option(
    "static",
    "When pieces are masked. static: when the records are written, "
    "differently in each duplicate. dynamic: during training, anew at "
    "each step; evaluation records are static in any case.",
    choices=("static", "dynamic"),
  )

  def check(self) -> None:
    if self.pack_sequences and self.do_permutation:
      raise options.InputError(
        "--pack_sequences or --do_permutation",
        "both",
        "leave one out: pieces would move into another example",
      )

  @classmethod
  def of(cls, parameters: Mapping[str, Any]) -> "Recipe":
    """Returns the recipe in the parameters of a manifest.

    A parameter that is missing has its default; other names are ignored.

    Raises:
      options.InputError: when a parameter has a wrong value.
    """
    kept = json_files.known(Recipe, parameters)
    return json_files.made(cls, kept, "the parameters of the records' manifest")

  def predictions(self) -> int:
    """Returns the largest number of masked pieces in a row of the records.

    A row holds one example, or several with pack_sequences.
    """
    return self.max_predictions_per_seq or math.ceil(
      self.max_seq_length * self.masked_lm_prob
    )

  def slots(self) -> int:
    """Returns the number of values of each masked_lm_* feature of a row.

    The number is `predictions`, or twice `predictions` with do_permutation, as
    in google-research/albert.
    """
    return self.predictions() * (2 if self.do_permutation else 1)

  def seed(self, is_held_out: bool) -> int:
    """Returns the random seed of training or of held-out examples.

    The seed of held-out examples is a constant, so that another --random_seed
    does not change them.
    """
    return held_out.SALT if is_held_out else self.random_seed


def masks(recipe: Recipe, is_held_out: bool) -> masking.Settings:
  """Returns the settings of masking.

  Held-out examples are masked without n-grams and permutation.

  Args:
    recipe: the options.
    is_held_out: whether the examples are held out.
  """
  return masking.Settings(
    masked_lm_prob=recipe.masked_lm_prob,
    max_predictions=recipe.predictions(),
    whole_words=recipe.do_whole_word_mask,
    ngram=1 if is_held_out else recipe.ngram,
    favor_shorter_ngram=recipe.favor_shorter_ngram,
    seed=recipe.seed(is_held_out),
    slots=recipe.slots(),
    permutation=recipe.do_permutation and not is_held_out,
  )


@dataclasses.dataclass(frozen=True)
class Text:
  """A document of which examples are made.

  Attributes:
    id: the number from which the random keys of the document are made.
    uses: how many times the document is cut into examples.
    sentences: the sentences of the document; no sentence is empty.
    isolated: whether the lines are unrelated, and so make no sentence pairs.
  """

  id: int
  uses: int
  sentences: tuple[str, ...]
  isolated: bool = False


@dataclasses.dataclass(frozen=True)
class Range:
  """The documents of one task: either held-out or training documents.

  Attributes:
    held_out: whether the documents are held out.
    texts: the documents.
  """

  held_out: bool
  texts: tuple[Text, ...]

  @property
  def role(self) -> str:
    """The prefix of file names and counts: "eval" or "train"."""
    return "eval" if self.held_out else "train"

  def letters(self) -> int:
    """Returns the number of letters, each document times its number of uses."""
    return sum(sum(map(len, text.sentences)) * text.uses for text in self.texts)


def texts(
  portion: held_out.Portion, recipe: Recipe
) -> Iterator[tuple[bool, documents.Document, Text]]:
  """Yields (whether held out, document, text) in the order of the corpus.

  The text is the same document as a Text. A held-out document is used once, a
  training document about dupe_factor × weight times.

  Args:
    portion: a portion of the corpus.
    recipe: the options, for the dupe_factor.
  """
  # Not .tolist(), which takes ten times the memory.
  for document, number, is_held_out in zip(
    portion.documents(),
    map(int, portion.ids),
    map(bool, portion.held_out),
    strict=True,
  ):
    uses = 1 if is_held_out else _uses(number, document.weight, recipe)
    yield (
      is_held_out,
      document,
      Text(number, uses, document.sentences, document.isolated),
    )


def _uses(number: int, weight: float, recipe: Recipe) -> int:
  """Returns how many times a training document is used: dupe_factor × weight.

  A fraction is rounded up or down at random, so that the mean over documents is
  dupe_factor × weight. The id of the document and the seed are the random key.

  Args:
    number: the id of the document.
    weight: the weight of the document's file.
    recipe: the options.
  """
  whole, fraction = divmod(recipe.dupe_factor * weight, 1)
  if not fraction:
    return int(whole)
  key = np.array([number], np.uint64)
  chance = randomness.uniform(
    randomness.Purpose.WEIGHT, recipe.random_seed, key
  )
  return int(whole) + bool(chance[0] < fraction)


@dataclasses.dataclass
class Made:
  """The examples of a range, and their counts.

  Attributes:
    counts: name → count; each name begins with `train_` or `eval_`.
    buckets: bucket → (sort key, serialised example) of each of its examples.
  """

  counts: Counts
  buckets: dict[int, list[tuple[int, bytes]]]


def of_range(
  task: Range,
  buckets: int,
  recipe: Recipe,
  spm_model_file: str,
  pool: random_segments.Pool | None = None,
) -> Made:
  """Returns the examples of a range of documents, and their counts.

  With recipe.pack_sequences, training examples are packed: each serialised
  example of the result is then a row of one or several examples.

  Args:
    task: the documents.
    buckets: the number of buckets; a hash assigns each example to a bucket.
    recipe: how examples are made.
    spm_model_file: the path of the tokenizer.
    pool: the text of random second segments, for recipe.random_next_sentence.
      With that option and without a pool, no example has a second segment.
  """
  tokenizer = _tokenizer(spm_model_file, tokenization.Settings.of(vars(recipe)))
  encoded = tokenizer.encode([s for text in task.texts for s in text.sentences])
  own = np.concatenate([np.zeros(0, np.int32), *encoded])
  spans, pairs = _instances(
    task, encoded, tokenizer.begins_words(own), recipe, pool
  )
  if recipe.sentence_pairs_only:
    pairs = _rows(pairs, np.nonzero(pairs.labels != instances.NO_PAIR)[0])
  result = Made(
    _counted_text(task, spans, pairs), collections.defaultdict(list)
  )
  # Padding indexes the stream too, so the stream needs at least one piece.
  behind = np.zeros(1, np.int32) if pool is None else pool.pieces
  stream = np.concatenate([own, behind])
  packs = recipe.pack_sequences and not task.held_out
  for part, width in _blocks(pairs, recipe.max_seq_length, packs):
    rows = instances.assemble(
      part,
      stream,
      max_seq_length=width,
      pad_id=tokenizer.pad_id,
      cls_id=tokenizer.cls_id,
      sep_id=tokenizer.sep_id,
    )
    order = randomness.bits(
      randomness.Purpose.SHUFFLE, recipe.seed(task.held_out), *part.keys.T
    )
    laid = _Laid(rows, part.keys, order, part.labels)
    if packs:
      laid = _packed(laid, recipe.max_seq_length, tokenizer.pad_id)
    starts = tokenizer.begins_words(laid.rows.ids)
    batch = _masked(laid, starts, tokenizer, recipe, task.held_out)
    counts = _counted(part, laid.rows, starts, batch, recipe.max_seq_length)
    result.counts.update({f"{task.role}_{k}": n for k, n in counts.items()})
    for key, place, example in zip(
      laid.order.tolist(),
      (laid.order % np.uint64(buckets)).tolist(),
      records.serialize(batch, recipe.max_seq_length, tokenizer.pad_id),
      strict=True,
    ):
      result.buckets[place].append((key, example))
  return result


@functools.cache
def _tokenizer(
  model_file: str, settings: tokenization.Settings
) -> tokenization.Tokenizer:
  """Returns the tokenizer of a model file; each process loads it once."""
  return tokenization.Tokenizer.with_settings(model_file, settings)


def _rows(
  pairs: instances.Instances, chosen: slice | np.ndarray
) -> instances.Instances:
  """Returns the instances in the chosen rows: a slice, or int [chosen]."""
  return instances.Instances(
    pairs.keys[chosen],
    pairs.starts[chosen],
    pairs.lengths[chosen],
    pairs.labels[chosen],
  )


def _instances(
  task: Range,
  encoded: Sequence[np.ndarray],
  begins: np.ndarray,
  recipe: Recipe,
  pool: random_segments.Pool | None,
) -> tuple[list[instances.Span], instances.Instances]:
  """Cuts every document of a range into examples, once for each use.

  Args:
    task: the range of documents.
    encoded: int32 ids of the pieces of each sentence, of all documents in
      order; together they are the stream of pieces.
    begins: bool [pieces], whether a piece of the stream begins a word.
    recipe: how examples are made.
    pool: the text of random second segments; None for none.

  Returns:
    the spans of the documents in the stream, and the examples as spans of their
    segments in the stream.
  """
  ends = np.cumsum(list(map(len, encoded)), dtype=np.int64)
  last = np.cumsum([len(text.sentences) for text in task.texts]) - 1
  spans = [
    instances.Span(text.id, end, text.uses, text.isolated)
    for text, end in zip(task.texts, ends[last].tolist(), strict=True)
  ]
  return spans, instances.create(
    spans,
    segment_borders.find(ends, begins, recipe.max_seq_length - 3),
    max_seq_length=recipe.max_seq_length,
    short_seq_prob=0.0 if task.held_out else recipe.short_seq_prob,
    random_next_sentence=recipe.random_next_sentence,
    pool=pool,
    seed=recipe.seed(task.held_out),
  )


def _blocks(
  pairs: instances.Instances, longest: int, packs: bool
) -> Iterator[tuple[instances.Instances, int]]:
  """Yields (examples, positions of a row) for blocks of the examples.

  A block has examples of similar length, and rows that are as long as the longest
  of them: work on padding would take most of the time. Blocks that will be packed
  have the examples in their order and rows of the whole length instead, because
  examples of one block share a row.

  Args:
    pairs: the examples.
    longest: positions of a row in the records.
    packs: whether the examples will be packed.
  """
  sizes = pairs.lengths.sum(1) + 2 + (pairs.labels != instances.NO_PAIR)
  if packs:
    order, step = np.arange(len(sizes)), _PIECES_A_BLOCK // longest
  else:
    order, step = np.argsort(sizes, kind="stable"), _ROWS_A_BLOCK
  for start in range(0, len(order), max(1, step)):
    block = order[start : start + max(1, step)]
    yield _rows(pairs, block), longest if packs else int(sizes[block[-1]])


class _Laid(NamedTuple):
  """Examples laid out in rows of equal length.

  Attributes:
    rows: the ids, masks and segments, [rows, length] each.
    keys: uint64 [rows, 3], the random key of each row.
    order: uint64 [rows], the sort key of each row in the file.
    labels: int64 [rows]; in packed rows [rows, labels].
    firsts: int64 [rows, labels], the first position of each packed example;
      None if rows are not packed.
  """

  rows: instances.Sequences
  keys: np.ndarray
  order: np.ndarray
  labels: np.ndarray
  firsts: np.ndarray | None = None


def _packed(laid: _Laid, max_seq_length: int, pad_id: int) -> _Laid:
  """Packs examples, so that a row of the result holds one or several examples.

  A row gets the random key and the sort key of its first example.

  Args:
    laid: the examples, one in each row.
    max_seq_length: positions of a row.
    pad_id: the id of padding.
  """
  sequences, mask = laid.rows, laid.rows.mask
  where = packing.places(mask.sum(1), laid.order, max_seq_length)
  rows = instances.Sequences(
    where.lay(sequences.ids, mask, pad_id),
    where.numbers(mask),
    where.lay(sequences.segments, mask, 0),
    where.lay(sequences.text, mask, False),
  )
  first = where.first()
  return _Laid(
    rows,
    laid.keys[first],
    laid.order[first],
    where.one_each(laid.labels, instances.NO_PAIR),
    where.one_each(where.start, 0),
  )


def _masked(
  laid: _Laid,
  starts: np.ndarray,
  tokenizer: tokenization.Tokenizer,
  recipe: Recipe,
  is_held_out: bool,
) -> records.PretrainingBatch:
  """Returns the features to write, with masks unless training makes the masks.

  Held-out examples always get masks.

  Args:
    laid: the examples in rows.
    starts: bool [rows, length], whether a piece begins a word.
    tokenizer: the tokenizer of the examples.
    recipe: how examples are made and masked.
    is_held_out: whether the examples are held out.
  """
  rows = laid.rows
  batch = records.PretrainingBatch(
    input_ids=rows.ids,
    input_mask=rows.mask,
    segment_ids=rows.segments,
    token_boundary=(rows.mask > 0) & (~rows.text | starts),
    next_sentence_labels=laid.labels,
    next_sentence_positions=laid.firsts,
  )
  if recipe.masking == "dynamic" and not is_held_out:
    return batch
  masked = masking.mask(
    rows.ids,
    rows.text,
    masking.segments(rows.mask, rows.segments),
    starts,
    laid.keys,
    masks(recipe, is_held_out),
    mask_id=tokenizer.mask_id,
    ordinary_ids=np.nonzero(~tokenizer.special)[0],
  )
  return dataclasses.replace(
    batch,
    input_ids=masked.ids,
    masked_lm_positions=masked.positions,
    masked_lm_ids=masked.targets,
    masked_lm_weights=masked.weights,
  )


def _counted_text(
  task: Range, spans: Sequence[instances.Span], pairs: instances.Instances
) -> Counts:
  """Returns name → number, for counts of the text of a range.

  Each name begins with "train_" or "eval_". Then follows `documents`,
  `letters`, `text_pieces`, or `cut` (the pieces that are in no example). Letters
  and pieces count once for each use of a document. Random second segments do
  not count.

  Args:
    task: the range of documents.
    spans: the spans of the documents in the stream of pieces.
    pairs: the examples as spans of their segments in the stream.
  """
  begins = [0, *(span.end for span in spans)]
  text = sum(
    span.uses * (span.end - begin)
    for span, begin in zip(spans, begins, strict=False)
  )
  shown = int(pairs.lengths[pairs.starts < begins[-1]].sum())
  return collections.Counter(
    {
      f"{task.role}_documents": len(task.texts),
      f"{task.role}_letters": task.letters(),
      f"{task.role}_text_pieces": text,
      f"{task.role}_cut": text - shown,
    }
  )


def _counted(
  pairs: instances.Instances,
  rows: instances.Sequences,
  starts: np.ndarray,
  batch: records.PretrainingBatch,
  max_seq_length: int,
) -> dict[str, int]:
  """Returns name → number, for counts of a batch of examples.

  Counted are rows (`examples`), their positions (`positions`), the pieces of
  segments without [CLS] and [SEP] (`pieces`), padded positions (`padding`), pairs
  of segments (`pairs`), and examples by label (`label_0` in order, `label_1`
  swapped or random, `label_none` without a pair); in packed rows the examples
  (`packed`); and, if there are masks, masked pieces (`masked`), words with a
  masked piece (`masked_words`) and wholly masked words (`whole_words`).

  Args:
    pairs: the examples as spans of their segments in the stream.
    rows: the laid-out examples.
    starts: bool [rows, length], whether a piece begins a word.
    batch: the features.
    max_seq_length: positions of a row in the records, which may have more of them
      than `rows`.
  """
  positions = len(rows.mask) * max_seq_length
  counts = {
    "examples": len(rows.mask),
    "positions": positions,
    "pieces": int(pairs.lengths.sum()),
    "padding": positions - int(np.count_nonzero(rows.mask)),
    "pairs": int((pairs.labels != instances.NO_PAIR).sum()),
    "label_0": int((pairs.labels == instances.IN_ORDER).sum()),
    "label_1": int((pairs.labels == instances.SWAPPED).sum()),
    "label_none": int((pairs.labels == instances.NO_PAIR).sum()),
  }
  if batch.next_sentence_positions is not None:
    counts["packed"] = len(pairs.labels)
  if batch.masked_lm_weights is not None:
    assert batch.masked_lm_positions is not None
    row, slot = np.nonzero(batch.masked_lm_weights)
    column = batch.masked_lm_positions[row, slot]
    begins = masking.word_begins(rows.text, starts)
    word = np.cumsum(begins.ravel()).reshape(begins.shape)
    size = np.bincount(word[rows.text])
    masked = np.bincount(word[row, column], minlength=len(size))
    counts["masked"] = len(row)
    counts["masked_words"] = int((masked > 0).sum())
    counts["whole_words"] = int(((masked > 0) & (masked == size)).sum())
  return counts
