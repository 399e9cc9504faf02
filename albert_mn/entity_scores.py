"""Whole entities found or not: precision, recall and F1 as seqeval's.

An entity counts where its first and last character and its type are right
(CoNLL 2003's measure).
"""

import numpy as np

from albert_mn import judgements

_AVERAGES = ("micro", "macro", "weighted")


class Entities(judgements.Judgement):
  """Sets of (start, end, type) a text.

  Of a `Judgement`, `names` are the types, `truth` and `answers` arrays of
  frozensets.
  """

  MUCH = "wrong entities"

  def scores(self) -> dict[str, float]:
    found = {
      f"{kind}_{name}": value
      for kind in _AVERAGES
      for name, value in zip(
        ("precision", "recall", "f1"), self._average(kind), strict=True
      )
    }
    return {
      **found,
      **self.share_right("exact_rows"),
    }

  def right(self) -> np.ndarray:
    pairs = zip(self.truth, self.answers, strict=True)
    return np.array([truth == answer for truth, answer in pairs], bool)

  def mistakes(self, most: int) -> list[judgements.Mistake]:
    """Those that were missed, and those that are none, as TYPE start-end."""
    pairs = zip(self.truth, self.answers, strict=True)
    wrong = np.array([len(truth ^ answer) for truth, answer in pairs], int)
    worst = np.argsort(-wrong, kind="stable")[:most]
    return [
      judgements.Mistake(
        row,
        _listed(self.truth[row] - self.answers[row]),
        _listed(self.answers[row] - self.truth[row]),
        int(wrong[row]),
      )
      for row in worst.tolist()
      if wrong[row]
    ]

  def per_label(self) -> list[tuple[str, float, float, float, int]]:
    rows = []
    for name, (hits, told, support) in zip(
      self.names, self._counts(), strict=True
    ):
      rows.append((name, *_measures(hits, told, support), support))
    return rows

  def table(self) -> str:
    rows = self.per_label()
    total = sum(row[-1] for row in rows)
    rows += [(f"{kind} avg", *self._average(kind), total) for kind in _AVERAGES]
    width = max(12, *(len(row[0]) for row in rows))
    head = " ".join(
      f"{name:>9}" for name in ("precision", "recall", "f1-score", "support")
    )
    lines = [
      f"{name:>{width}} {p:9.3f} {r:9.3f} {f1:9.3f} {support:9}"
      for name, p, r, f1, support in rows
    ]
    lines.insert(len(lines) - len(_AVERAGES), "")
    return "\n".join([f"{'':>{width}} {head}", "", *lines, ""])

  def _counts(self) -> list[tuple[int, int, int]]:
    """Returns of each type how many were right, told and true."""
    found = {name: [0, 0, 0] for name in self.names}
    for truth, answer in zip(self.truth, self.answers, strict=True):
      for place, entities in enumerate((truth & answer, answer, truth)):
        for *_, kind in entities:
          found[kind][place] += 1
    return [(hits, told, true) for hits, told, true in found.values()]

  def _average(self, kind: str) -> tuple[float, float, float]:
    counts = np.array(self._counts())
    if kind == "micro":
      return _measures(*counts.sum(axis=0).tolist())
    # As seqeval, without types that neither side has.
    counts = counts[counts.any(axis=1)]
    if not len(counts):
      return 0.0, 0.0, 0.0
    each = np.array([_measures(*row) for row in counts.tolist()])
    weights = np.ones(len(counts)) if kind == "macro" else counts[:, 2]
    if not weights.sum():
      return 0.0, 0.0, 0.0
    p, r, f1 = np.average(each, axis=0, weights=weights).tolist()
    return p, r, f1


def _listed(entities: frozenset[tuple[int, int, str]]) -> str:
  return ", ".join(f"{kind} {s}-{e}" for s, e, kind in sorted(entities))


def _measures(hits: int, told: int, true: int) -> tuple[float, float, float]:
  """Returns precision, recall and F1, 0 where there is nothing."""
  precision = hits / told if told else 0.0
  recall = hits / true if true else 0.0
  f1 = 2 * hits / (told + true) if told + true else 0.0
  return precision, recall, f1
