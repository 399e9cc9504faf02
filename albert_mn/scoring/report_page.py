"""The HTML report on a classifier: scores, calibration and mistakes."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from albert_mn.scoring import judgements, reports
from data_prep.base import pages
from data_prep.classification import classifier_data
from data_prep.files import storage

NAME = "report.html"
_PAIRS, _MISTAKES = 30, 25
_SHOWN = 400  # characters of a text


@dataclasses.dataclass(frozen=True)
class Findings:
  """The content of the report page.

  Attributes:
    rival_name: name of the baseline.
    voices: the judgements of the model, the baseline and the network alone.
    rows: the held-out rows.
    without_copies: bool [rows], which rows are no near copies of training rows;
      None if near copies were not searched for.
    seeds: name → score, for each trained seed; at least one.
    notes: paragraphs below the scores.
    faults: paragraphs at the top of the page.
    settings: the parameters in the model's manifest.
  """

  rival_name: str
  voices: reports.Voices
  rows: Sequence[classifier_data.Row]
  without_copies: np.ndarray | None
  seeds: Sequence[Mapping[str, float]]
  notes: Sequence[str]
  faults: Sequence[str]
  settings: Mapping[str, Any]

  @property
  def model(self) -> judgements.Judgement:
    """The judgement of the model directory's answers."""
    return self.voices.model


def write(output_dir: str, findings: Findings) -> str:
  """Writes report.html into `output_dir`; returns the file's path."""
  path = os.path.join(output_dir, NAME)
  with storage.writing(path) as file:
    file.write(page(findings))
  return path


def page(findings: Findings) -> str:
  """Returns the report on a classifier as an HTML page.

  Sections without content are left out.
  """
  sure = findings.model.MUCH == "probability"
  worst = "Most confident" if sure else "Worst"
  sections = {
    "Runs that learnt nothing": "".join(map(pages.paragraph, findings.faults)),
    "Scores": _scores(findings),
    "Labels": _labels(findings.model),
    "Calibration": _calibration(findings.model),
    "Confusions": _confusions(findings.model),
    f"{worst} mistakes": _mistakes(findings),
    "Settings": pages.table(
      "What the model was trained with",
      ["", "value"],
      [[name, str(value)] for name, value in findings.settings.items()],
    ),
  }
  return pages.page(
    "Classification report",
    "Ангиллын тайлан: загвар хэр зөв, хаана алддаг вэ",
    [pages.section(name, part) for name, part in sections.items() if part],
  )


def _scores(findings: Findings) -> str:
  columns = {"this model": findings.model.scores()}
  if findings.voices.network is not None:
    columns["its network alone"] = findings.voices.network.scores()
  if findings.voices.rival is not None:
    columns[findings.rival_name] = findings.voices.rival.scores()
  kept = findings.without_copies
  if kept is not None and kept.any() and not kept.all():
    columns["without near copies"] = findings.model.part(kept).scores()
  if len(findings.seeds) > 1:
    for name, function in (("mean", np.mean), ("deviation", _deviation)):
      columns[f"{name} of {len(findings.seeds)} seeds"] = {
        score: float(function([seed[score] for seed in findings.seeds]))
        for score in findings.seeds[0]
      }
  missing = float("nan")
  table = pages.table(
    f"Held out: {len(findings.rows):,} rows",
    ["", *columns],
    [
      [
        name.replace("_", " "),
        *(of.get(name, missing) for of in columns.values()),
      ]
      for name in columns["this model"]
    ],
  )
  paragraphs = [reports.headline(findings.model), *findings.notes]
  if findings.voices.rival is not None:
    paragraphs += reports.verdict(findings.voices)
  return table + "".join(map(pages.paragraph, paragraphs))


def _deviation(values: Sequence[float]) -> float:
  return float(np.std(values, ddof=1))


def _labels(model: judgements.Judgement) -> str:
  rows = model.per_label()
  if not rows:
    return ""
  return pages.table(
    "Precision, recall, F1 and support",
    ["label", "precision", "recall", "F1", "support", "F1 drawn"],
    [
      [
        name,
        precision,
        recall,
        f1,
        int(support),
        pages.Bar(round(100 * f1), 100),
      ]
      for name, precision, recall, f1, support in rows
    ],
  )


def _calibration(model: judgements.Judgement) -> str:
  bins = model.bins()
  if not bins:
    return ""
  return pages.table(
    "Of the answers with such a probability, this share is right",
    ["probability", "answers", "mean probability", "right", "right, drawn"],
    [
      [
        f"{interval.low:.2f} to {interval.high:.2f}",
        interval.rows,
        interval.confidence,
        interval.accuracy,
        pages.Bar(round(1000 * interval.accuracy), 1000),
      ]
      for interval in bins
    ],
  )


def _confusions(model: judgements.Judgement) -> str:
  if not isinstance(model, judgements.OneLabel):
    return ""
  return pages.table(
    "True label, and what it was taken for; confusion_matrix.png draws them",
    ["true", "predicted", "rows"],
    [
      [model.names[true], model.names[answer], count]
      for (true, answer), count in reports.confusions(model)[:_PAIRS]
    ],
  )


def _mistakes(findings: Findings) -> str:
  worst = findings.model.mistakes(_MISTAKES)
  if not worst:
    return ""
  return pages.table(
    "Wrong, the worst first: often the label is at fault",
    ["line", "true", "predicted", findings.model.MUCH, "text"],
    [
      [
        str(findings.rows[mistake.row].line),
        mistake.true,
        mistake.answered,
        mistake.much,
        _shortened(findings.rows[mistake.row]),
      ]
      for mistake in worst
    ],
  )


def _shortened(row: classifier_data.Row) -> str:
  """Returns a row's text or texts, cut to 400 characters in all.

  A vertical bar separates the texts of a pair; " …" marks a cut.
  """
  text = " | ".join(filter(None, (row.text, row.text_pair)))
  return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"
