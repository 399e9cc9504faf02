"""Scores of whole entities: precision, recall and F1 as in seqeval.

A predicted entity is correct if its start, end and type are correct (CoNLL
2003).
"""

import numpy as np

from albert_mn.scoring import judgements


class Entities(judgements.Judgement):
  """The judgement of a tagger: each text has a set of (start, end, type).

  `names` are the entity types; `truth` and `answers` are arrays of frozensets,
  one set for each text.
  """

  MUCH = "wrong entities"
  AVERAGES = ("micro", "macro", "weighted")

  def scores(self) -> dict[str, float]:
    """Returns score name → value: averages, and the share of right texts.

    The averages are precision, recall and F1, with names such as
    micro_precision and macro_f1. exact_rows is the share of texts whose
    entities are all right; exact_rows_low and exact_rows_high are its 95 %
    interval.
    """
    return {**self._averages(), **self.share_right("exact_rows")}

  def right(self) -> np.ndarray:
    """Returns bool [texts]: whether all entities of a text are right."""
    pairs = zip(self.truth, self.answers, strict=True)
    return np.array([truth == answer for truth, answer in pairs], bool)

  def mistakes(self, most: int) -> list[judgements.Mistake]:
    """Returns at most `most` texts with the most missed and wrong entities.

    In a Mistake, `true` lists the missed entities and `answered` the wrongly
    predicted entities, as "TYPE start-end"; `much` is the number of all these.
    """
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

  def table(self) -> str:
    """Returns a text table of each type's scores and the averages.

    The format is that of seqeval.
    """
    rows = self.per_label()
    total = sum(row[-1] for row in rows)
    rows += [
      (f"{kind} avg", *self.average(kind), total) for kind in self.AVERAGES
    ]
    width = max(12, *(len(row[0]) for row in rows))
    head = " ".join(
      f"{name:>9}" for name in ("precision", "recall", "f1-score", "support")
    )
    lines = [
      f"{name:>{width}} {p:9.3f} {r:9.3f} {f1:9.3f} {support:9}"
      for name, p, r, f1, support in rows
    ]
    lines.insert(len(lines) - len(self.AVERAGES), "")
    return "\n".join([f"{'':>{width}} {head}", "", *lines, ""])

  def counts(self) -> np.ndarray:
    """Returns the numbers of correct, predicted and true entities of each type.

    The result is int [types, 3].
    """
    counts = {name: [0, 0, 0] for name in self.names}
    for truth, answer in zip(self.truth, self.answers, strict=True):
      for place, entities in enumerate((truth & answer, answer, truth)):
        for *_, kind in entities:
          counts[kind][place] += 1
    return np.array(list(counts.values()), int).reshape(-1, 3)

  def average(self, kind: str) -> tuple[float, float, float]:
    """Returns (precision, recall, F1), averaged over types as seqeval does.

    A type that has neither a true nor a predicted entity is left out. If no
    text has a true entity, the micro average is returned for each kind.

    Args:
      kind: "micro" counts the entities of all types together; "macro" is the
        mean over types; "weighted" is the mean weighted by the number of true
        entities.
    """
    counts = self.counts()
    present = counts[counts.any(axis=1)]
    if kind == "micro" or not present[:, 2].any():
      return judgements.averaged(counts.sum(axis=0, keepdims=True))
    return judgements.averaged(
      present, present[:, 2] if kind == "weighted" else None
    )

  def per_label(self) -> list[tuple[str, float, float, float, int]]:
    """Returns (type, precision, recall, F1, support) of each entity type.

    The support is the number of true entities. A type that has neither a true
    nor a predicted entity gets scores of 0.
    """
    return [
      row if counts.any() else (row[0], 0.0, 0.0, 0.0, 0)
      for row, counts in zip(super().per_label(), self.counts(), strict=True)
    ]

  def note(self) -> str:
    """Returns a sentence on types that do not occur; "" if all occur.

    A type occurs if at least one entity of it is true or predicted.
    """
    if self.counts().any(axis=1).all():
      return ""
    return (
      "A type that no text has and that was found in none stands with scores of "
      "0; the averages leave it out, as seqeval does, and are 1 where no text "
      "has an entity and none was found."
    )


def _listed(entities: frozenset[tuple[int, int, str]]) -> str:
  """Returns the entities as text, such as "LOC 0-14, PER 20-25"."""
  return ", ".join(f"{kind} {s}-{e}" for s, e, kind in sorted(entities))
