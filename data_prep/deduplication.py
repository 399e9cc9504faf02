"""Documents that were there before, word for word or nearly.

Duplicates make a model learn by heart, and evaluation documents known (Lee et
al. 2022, arXiv 2107.06499). The first copy stays, in the order of the input.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  import datasketch

# 128 permutations give the similarity to 0.09 (1/√128), datasketch's default.
_PERMUTATIONS = 128
_SCHEME = "affine32"  # hashes of 32 bits
_WORD = re.compile(r"\w+")
# Shorter sentences (Тийм. Баярлалаа.) are everybody's.
_FEWEST_WORDS = 4
_WORDS_A_SHINGLE = 5  # as Lee et al.


def _minhash(values: np.ndarray | None = None) -> "datasketch.MinHash":
  # Imported here, since it takes a second that most runs need not wait.
  import datasketch

  return datasketch.MinHash(
    _PERMUTATIONS, seed=1, scheme=_SCHEME, hashvalues=values
  )


def signature(sentences: Sequence[str]) -> np.ndarray:
  """Returns the MinHash of a document's runs of five words, uint64 [128].

  Broder 1997, "On the resemblance and containment of documents".
  """
  words = " ".join(sentences).lower().split()
  count = max(1, len(words) - _WORDS_A_SHINGLE + 1)
  shingles = {
    " ".join(words[i : i + _WORDS_A_SHINGLE]).encode() for i in range(count)
  }
  found = _minhash()
  found.update_batch(sorted(shingles))
  return np.array(found.hashvalues, np.uint64)


class Duplicates:
  """Remembers documents.

  Memory, measured on 40,000: 120 bytes a document for exact ones, 3.5 kB for
  near ones.

  Args:
    threshold: the Jaccard similarity of two documents' runs of words from
      which they are near duplicates; 0 for exact ones alone.
  """

  def __init__(self, threshold: float):
    self._seen: set[bytes] = set()
    self._near: Any = None
    if threshold:
      import datasketch

      self._near = datasketch.MinHashLSH(threshold, _PERMUTATIONS)

  def seen(
    self, sentences: Sequence[str], minhash: np.ndarray | None
  ) -> str | None:
    """Returns how a document was there before, or None, and remembers it.

    Args:
      sentences: the document.
      minhash: its signature; needed where there is a threshold.
    """
    digest = hashlib.sha256("\n".join(sentences).encode()).digest()[:16]
    if digest in self._seen:
      return "exact duplicate"
    self._seen.add(digest)
    if self._near is None:
      return None
    assert minhash is not None, "near duplicates are found by signature"
    found = _minhash(minhash)
    if self._near.query(found):
      return "near duplicate"
    self._near.insert(len(self._seen), found)
    return None


class Evaluation:
  """The texts of evaluation sets, which training must not see.

  A sentence is one of theirs when they share a run of eight words (the length
  that the PaLM report counts overlap in, arXiv 2204.02311, section 8), or all
  of its words where it has fewer. Case and punctuation do not count.

  Args:
    texts: of the sets.
  """

  _RUN = 8

  def __init__(self, texts: Iterable[str]):
    self._runs = {run for text in texts for run in self._runs_of(text)}

  def holds(self, sentence: str) -> bool:
    """Says whether a sentence overlaps with an evaluation text."""
    return not self._runs.isdisjoint(self._runs_of(sentence))

  def _runs_of(self, text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    count = len(words) - self._RUN + 1
    if count < 1:
      return [" ".join(words)] if len(words) >= _FEWEST_WORDS else []
    return [" ".join(words[i : i + self._RUN]) for i in range(count)]
