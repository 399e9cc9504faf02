"""Counts the distinct words of a corpus, from which a tokenizer is trained."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator

from data_prep.encoding import seed_pieces


@dataclasses.dataclass(frozen=True)
class Words:
  """The distinct words of sentences, with counts; spaces separate words.

  Attributes:
    counts: word → how often it occurs.
    last: word → how often it is the last word of a sentence.
  """

  counts: collections.Counter[str]
  last: collections.Counter[str]

  @classmethod
  def of(cls, sentences: Iterable[str]) -> "Words":
    """Returns the counts of the words of sentences.

    Args:
      sentences: without spaces at their ends.
    """
    counts: collections.Counter[str] = collections.Counter()
    last: collections.Counter[str] = collections.Counter()
    for sentence in sentences:
      words = sentence.split(" ")
      counts.update(words)
      last[words[-1]] += 1
    counts.pop("", None)  # between two spaces
    return cls(counts, last)

  def kept(self, path: str) -> "KeptCounts":
    """Writes the counts to a new file; returns them as this file keeps them."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
      for word, count in self.counts.items():
        file.write(f"{word}\t{count}\n")
    return KeptCounts(path)

  def normalized(
    self, normalize: Callable[[str], str]
  ) -> Iterator[seed_pieces.Word]:
    """Yields the distinct normalised words, with their counts.

    Args:
      normalize: function from a word to its normal form, which begins with "▁".
        A normal form may hold several words, each behind its "▁".
    """
    inside: collections.Counter[str] = collections.Counter()
    last: collections.Counter[str] = collections.Counter()
    for word, count in self.counts.items():
      *before, end = [f"▁{x}" for x in normalize(word).split("▁")[1:]] or ["▁"]
      for part in before:
        inside[part] += count
      at_end = self.last.get(word, 0)
      inside[end] += count - at_end
      if at_end:
        last[end] += at_end
    while inside:  # taken out, so that no word is held twice
      word, count = inside.popitem()
      if word != "▁":
        yield seed_pieces.Word(word, count, last.pop(word, 0))


@dataclasses.dataclass(frozen=True)
class KeptCounts:
  """The distinct words of sentences and their counts, in a file.

  So they take no memory while SentencePiece trains.

  Attributes:
    path: the path of the file.
  """

  path: str

  def lines(self) -> Iterator[str]:
    """Yields "word<TAB>count" for each word, for SentencePiece's input."""
    with open(self.path, encoding="utf-8", newline="\n") as file:
      for line in file:
        yield line.removesuffix("\n")

  def counts(self) -> dict[str, int]:
    """Returns word → how often it occurs."""
    pairs = (line.rpartition("\t") for line in self.lines())
    return {word: int(count) for word, _, count in pairs}
