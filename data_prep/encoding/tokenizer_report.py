"""Measures tokenizers on text, and shows several of them in a table."""

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.encoding import tokenization
from data_prep.text import morphemes

_LISTED = 10  # how many of the longest and rarest pieces a report names
# Pieces that occur less often count as rare. Gowda and May, "Finding the
# Optimal Vocabulary Size for Neural Machine Translation" (2020): 95 % of the
# pieces should occur at least this often.
_SELDOM = 100
# Widths of embeddings, to compute their size: ALBERT's embedding_size, and
# BERT-base's hidden_size, since BERT does not factorise its embeddings.
_WIDTHS = {"albert_128": 128, "bert_768": 768}

# (name of a figure in the table, its key in the report, its format).
_ROWS = (
  ("pieces", "vocab_size", ",d"),
  ("pieces per word", "pieces_per_word", ".3f"),
  ("characters per piece", "characters_per_piece", ".3f"),
  ("unknown share", "unknown_share", ".4%"),
  ("unreachable pieces", "unreachable_pieces", ",d"),
  ("used share", "used_share", ".1%"),
  (f"pieces used less than {_SELDOM} times", "rare_pieces", ",d"),
  ("embedding, ALBERT's 128 wide", "embedding_parameters.albert_128", ",d"),
  ("embedding, BERT's 768 wide", "embedding_parameters.bert_768", ",d"),
  ("morphemes: precision", "morphemes.precision", ".3f"),
  ("  at random", "morphemes.at_random.precision", ".3f"),
  ("morphemes: recall", "morphemes.recall", ".3f"),
  ("  at random", "morphemes.at_random.recall", ".3f"),
  ("morphemes: F1", "morphemes.f1", ".3f"),
  ("  at random", "morphemes.at_random.f1", ".3f"),
  ("words cut there and only there", "morphemes.exact_share", ".1%"),
  ("  at random", "morphemes.at_random.exact_share", ".1%"),
)


def figures(
  tokenizer: tokenization.Tokenizer,
  texts: Mapping[str, int],
  gold: morphemes.Gold | None = None,
) -> dict[str, Any]:
  """Returns figures of a tokenizer, measured on text, by name.

  Args:
    tokenizer: the tokenizer to measure.
    texts: text → how often it occurs. The texts can be the words of sentences,
      since no piece holds a space: so each word is encoded once.
    gold: words divided into morphemes; None leaves them out.

  Returns:
    vocab_size, words, pieces_per_word, characters_per_piece, unknown_share (of
      the pieces), unreachable_pieces (which no normalised text can contain),
      used_share (of the ordinary pieces, on this text), rare_pieces (used less
      than 100 times), embedding_parameters by model, longest_pieces and
      rarest_pieces; with `gold`, morphemes (see `morphemes.agreement`).
  """
  words = characters = 0
  uses = np.zeros(tokenizer.vocab_size, np.int64)
  for batch in _batches(texts, 1000):
    times = [texts[text] for text in batch]
    for text, count in zip(batch, times, strict=True):
      words += count * len(text.split())
      characters += count * len(text.replace(" ", ""))
    encoded = tokenizer.encode(batch)
    ids = np.concatenate([*encoded, np.zeros(0, np.int32)])
    np.add.at(uses, ids, np.repeat(times, [*map(len, encoded)]))
  pieces = int(uses.sum())
  ordinary = np.nonzero(~tokenizer.special)[0]
  measured = {
    "vocab_size": tokenizer.vocab_size,
    "words": words,
    "pieces_per_word": round(pieces / max(words, 1), 4),
    "characters_per_piece": round(characters / max(pieces, 1), 4),
    "unknown_share": round(int(uses[tokenizer.unk_id]) / max(pieces, 1), 6),
    "unreachable_pieces": len(tokenizer.unreachable()),
    "used_share": round(float((uses[ordinary] > 0).mean()), 4),
    "rare_pieces": int((uses[ordinary] < _SELDOM).sum()),
    "embedding_parameters": {
      name: tokenizer.vocab_size * width for name, width in _WIDTHS.items()
    },
    **_extremes(tokenizer, uses),
  }
  if gold:
    whole = ["".join(parts) for parts in gold.words]
    measured["morphemes"] = morphemes.agreement(gold, tokenizer.segment(whole))
  return measured


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
  """Yields lists of at most `size` texts."""
  texts = iter(texts)
  while batch := list(itertools.islice(texts, size)):
    yield batch


def _extremes(
  tokenizer: tokenization.Tokenizer, uses: np.ndarray
) -> dict[str, Any]:
  """Returns the ten longest and the ten rarest ordinary pieces.

  The keys of the result are longest_pieces, a list of pieces, and
  rarest_pieces, pieces with their counts.

  Args:
    tokenizer: the tokenizer whose pieces are returned.
    uses: int[vocab_size], how often each piece is used.
  """
  ordinary = np.nonzero(~tokenizer.special)[0].tolist()
  # Sorted by the piece too, so that ties have a fixed order.
  names = dict(zip(ordinary, tokenizer.pieces(ordinary), strict=True))
  longest = sorted(names.values(), key=lambda p: (-len(p), p))[:_LISTED]
  rarest = sorted(names, key=lambda i: (uses[i], names[i]))[:_LISTED]
  return {
    "longest_pieces": longest,
    "rarest_pieces": {names[i]: int(uses[i]) for i in rarest},
  }


def lines(report: Mapping[str, Any]) -> list[str]:
  """Returns report.json as lines of text, for people.

  The first lines are a table with a column for each model. Two further lines
  list the longest and the rarest pieces.

  Args:
    report: the content of report.json; "compared" holds the figures of further
      models.
  """
  columns = [report, *report.get("compared", [])]
  columns.sort(key=operator.itemgetter("vocab_size"))
  longest = ", ".join(report["longest_pieces"])
  rarest = ", ".join(report["rarest_pieces"])
  return [*_table(columns), f"longest: {longest}", f"rarest: {rarest}"]


def _table(columns: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns the lines of a table: rows are figures, columns tokenizers.

  A figure that a tokenizer lacks is left out.
  """
  cells = [
    (name, [format(value, form) for value in values])
    for name, key, form in _ROWS
    if None not in (values := [_figure(column, key) for column in columns])
  ]
  left = max(len(name) for name, _ in cells)
  right = max(len(value) for _, values in cells for value in values)
  return [
    "  ".join([name.ljust(left), *(value.rjust(right) for value in values)])
    for name, values in cells
  ]


def _figure(report: Mapping[str, Any], key: str) -> Any:
  """Returns report["a"]["b"] for the key "a.b"; None if that is missing."""
  value: Any = report
  for part in key.split("."):
    value = value.get(part) if value else None
  return value
