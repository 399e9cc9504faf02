"""Which documents are worth keeping, and why not.

Each rule takes a document's sentences and gives Keep or Drop with a reason;
the reasons are counted and stand in stats.json.
"""

import dataclasses
import hashlib
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Keep:
  """The document stays, with these sentences."""

  sentences: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Drop:
  """The document goes, for a reason that is counted; `example` is logged."""

  reason: str
  example: str = ""


class Cleaner:
  """Applies the rules to one document after another.

  Args:
    min_words: documents of fewer words are dropped.
  """

  def __init__(self, min_words: int):
    self._min_words = min_words
    self._seen: set[bytes] = set()

  def __call__(self, sentences: Sequence[str]) -> Keep | Drop:
    """Decides about one document."""
    lettered = tuple(s for s in sentences if any(map(str.isalpha, s)))
    if not lettered:
      return Drop("no letters")
    if sum(len(s.split()) for s in lettered) < self._min_words:
      return Drop("too short")
    # 16 bytes a document: the memory of a corpus of 10 million is 1 GB.
    digest = hashlib.sha256("\n".join(lettered).encode()).digest()[:16]
    if digest in self._seen:
      return Drop("exact duplicate")
    self._seen.add(digest)
    return Keep(lettered)
