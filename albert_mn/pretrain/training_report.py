"""The HTML report on a pretraining run: its curves and its settings.

The page is drawn from the run directory alone, so that it shows the whole
history of a run that was killed and restarted.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from albert_mn.pretrain import history
from albert_mn.runtime import runs
from data_prep.base import pages
from data_prep.files import storage

NAME = "training_report.html"

# The measures of both training and held-out evaluation, with their captions.
_MEASURES = {
  "loss": "Loss",
  "masked_lm_loss": "Masked-LM loss",
  "masked_lm_accuracy": "Masked-LM accuracy",
  "sentence_order_accuracy": "Sentence order accuracy",
  "sentence_order_loss": "Sentence order loss",
  "bits_per_character": "Bits per character",
}
_CURVES = (
  "loss",
  "masked_lm_accuracy",
  "sentence_order_accuracy",
  "bits_per_character",
)

_Curves = Mapping[str, history.Curve]


def write(output_dir: str) -> str:
  """Writes training_report.html from the run directory; returns its path."""
  training, held_out = (
    history.curves(os.path.join(output_dir, "events", name))
    for name in ("train", "eval")
  )
  path = os.path.join(output_dir, NAME)
  with storage.writing(path) as file:
    file.write(page(training, held_out, runs.read_settings(output_dir)))
  return path


def page(
  training: _Curves,
  held_out: _Curves,
  settings: Mapping[str, Any],
) -> str:
  """Returns the report of a training as an HTML page: curves and settings.

  Args:
    training, held_out: tag → curve, as `history.curves` returns them.
    settings: the content of run.json.
  """
  return pages.page(
    "Training report",
    "Сургалтын тайлан: загвар юу сурч, ямар хурдтай явж байна",
    [
      pages.section("Results", _results(training, held_out)),
      pages.section(
        "Learning",
        *(_compared_chart(training, held_out, name) for name in _CURVES),
        _probe(held_out),
      ),
      pages.section("Optimizer", *_optimizer(training)),
      pages.section("Speed", *_speed(training)),
      pages.section("Settings", *_settings(settings)),
    ],
  )


def _results(training: _Curves, held_out: _Curves) -> str:
  """Returns an HTML table of the newest and the best results.

  The columns are the newest results of training, the newest held-out results,
  and the held-out results at the lowest loss. The rows are the step and the
  measures. Unknown values are NaN.

  Args:
    training, held_out: tag → curve.
  """
  best = min(held_out.get("loss", []), key=lambda x: x[1], default=(None, 0.0))
  columns = {
    "training": _at(training, _newest(training)),
    "held out": _at(held_out, _newest(held_out)),
    "held out, best": _at(held_out, best[0]),
  }
  return pages.table(
    "Newest and best",
    ["", *columns],
    [
      [name, *(column[measure] for column in columns.values())]
      for measure, name in {"step": "Step", **_MEASURES}.items()
    ],
  )


def _newest(curves: _Curves) -> int | None:
  """Returns the last step whose loss is known; None if no loss is known.

  Args:
    curves: tag → curve.
  """
  loss = curves.get("loss")
  return loss[-1][0] if loss else None


def _at(curves: _Curves, step: int | None) -> dict[str, int | float | str]:
  """Returns {"step": step, name of each measure: value at this step}.

  Unknown values are NaN; if `step` is None, all values are NaN.

  Args:
    curves: tag → curve.
    step: the step, or None.
  """
  if step is None:
    return dict.fromkeys(["step", *_MEASURES], float("nan"))
  by_measure = {name: dict(curves.get(name, [])) for name in _MEASURES}
  known = {
    name: curve.get(step, float("nan")) for name, curve in by_measure.items()
  }
  return {"step": step, **known}


def _compared_chart(training: _Curves, held_out: _Curves, name: str) -> str:
  """Returns an HTML chart of one measure, for training and held-out records.

  Args:
    training, held_out: tag → curve.
    name: the tag of the measure.
  """
  lines = [
    pages.Line("training", training.get(name, [])),
    pages.Line("held out", held_out.get(name, []), "few"),
  ]
  if name == "sentence_order_accuracy":
    lines.append(_level("chance", lines, 0.5))
  return pages.chart(_MEASURES[name], lines)


def _level(name: str, lines: list[pages.Line], height: float) -> pages.Line:
  """Returns a horizontal line for a chart, such as the accuracy by chance.

  The line leads from the first to the last step of the chart's curves.

  Args:
    name: the name in the legend.
    lines: the chart's curves.
    height: the value of the line.
  """
  steps = [step for line in lines for step, _ in line.points]
  ends = sorted({min(steps), max(steps)}) if steps else []
  return pages.Line(name, [(step, height) for step in ends], "limit")


def _probe(held_out: _Curves) -> str:
  """Returns an HTML chart of the probe's accuracy over the steps.

  Args:
    held_out: tag → curve, of the evaluation's events.
  """
  spread = dict(held_out.get("probe_deviation", []))
  accuracy = held_out.get("probe_accuracy", [])
  return pages.chart(
    "Probe: accuracy of a linear classifier on frozen features",
    [
      pages.Line(
        "mean of the folds, ± deviation",
        accuracy,
        "few",
        [spread.get(step, 0.0) for step, _ in accuracy],
      ),
      pages.Line(
        "the commonest label", held_out.get("probe_majority", []), "limit"
      ),
    ],
  )


def _optimizer(training: _Curves) -> list[str]:
  return [
    _training_chart(
      training, "Learning rate", {"learning_rate": "at the step"}
    ),
    _training_chart(training, "Gradient norm", {"gradient_norm": "mean"}),
    _training_chart(
      training,
      "Trust ratios: a weight's norm over its update's",
      {f"trust_ratio_{x}": x for x in ("greatest", "median", "least")},
    ),
  ]


def _speed(training: _Curves) -> list[str]:
  return [
    _training_chart(
      training, "Tokens a second", {"tokens_per_second": "tokens"}
    ),
    _training_chart(training, "Share of the hardware's peak", {"mfu": "share"}),
    _training_chart(
      training,
      "Input pipeline: its time over the step's",
      {"input_share": "share"},
    ),
  ]


def _training_chart(
  training: _Curves, caption: str, names: Mapping[str, str]
) -> str:
  """Returns an HTML chart of some curves of the training.

  Args:
    training: tag → curve.
    caption: the caption of the chart.
    names: tag of each curve to draw → the curve's name in the legend.
  """
  return pages.chart(
    caption,
    [pages.Line(name, training.get(tag, [])) for tag, name in names.items()],
  )


def _settings(settings: Mapping[str, Any]) -> list[str]:
  flags, versions = settings.get("flags", {}), settings.get("versions", {})
  deciding = _flat(runs.deciding(settings))
  return [
    pages.table(caption, head, _values(values))
    for caption, head, values in (
      ("What decides the result", ["setting", "value"], deciding),
      ("All flags", ["flag", "value"], {f"--{n}": flags[n] for n in flags}),
      ("Versions", ["package", "version"], versions),
    )
  ]


def _flat(settings: Mapping[str, Any], within: str = "") -> dict[str, Any]:
  """Returns nested settings as a flat dictionary: optimizer.beta_1 → value.

  Args:
    settings: settings, some of which are dictionaries of settings.
    within: prefix of the names in the result, such as "optimizer.".
  """
  leaves: dict[str, Any] = {}
  for name, value in settings.items():
    if isinstance(value, dict):
      leaves |= _flat(value, f"{within}{name}.")
    else:
      leaves[within + name] = value
  return leaves


def _values(values: Mapping[str, Any]) -> list[list[pages.Cell]]:
  return [
    [name, value if isinstance(value, str) else json.dumps(value)]
    for name, value in values.items()
  ]
