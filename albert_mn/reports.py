"""What a classifier did on held-out rows, as numbers, words and a picture."""

import collections
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np
from matplotlib import figure
from matplotlib.backends import backend_agg
from scipy import stats
from sklearn import metrics

from albert_mn import baseline
from data_prep import storage

# Two-sided 95 % of the normal distribution.
_Z = 1.959963984540054

_MORE_BUDGET = (
  "What would change it is budget, not patience with this run (a guess from"
  " published numbers): the published Mongolian transformers, a base-size"
  " model pretrained for days on an accelerator over hundreds of millions of"
  " words, about tie such a baseline on Eduge news (0.90 and 0.88 against"
  " 0.909). Pretrain at that scale and start from it with --init_checkpoint,"
  " or label more rows; until then the baseline is the better tool."
)


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
  """Returns the 95 % interval of a proportion (Wilson 1927).

  Unlike accuracy ± 2 standard errors it stays inside [0, 1] and does not
  shrink to nothing at 0 or 1: 10 of 10 gives 0.722 to 1.
  """
  share, z2 = correct / total, _Z * _Z
  middle = (share + z2 / (2 * total)) / (1 + z2 / total)
  spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
  half = _Z * spread / (1 + z2 / total)
  return max(0.0, middle - half), min(1.0, middle + half)


def accuracy(truth: Sequence[str], predicted: Sequence[str]) -> float:
  """Returns the share of labels that were met."""
  return float(metrics.accuracy_score(truth, predicted))


def positive_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
  """Returns F1 of the label "1", the measure of the tweet task."""
  return float(
    metrics.f1_score(truth, predicted, pos_label="1", zero_division=0.0)
  )


def write(
  path: str,
  truth: Sequence[str],
  predicted: Sequence[str],
  names: Sequence[str],
  rival: Sequence[str] | None,
) -> str:
  """Writes `report.txt` and returns its text.

  Args:
    path: the file.
    truth: the label of each held-out row.
    predicted: the model's.
    names: every label, in the order of the report.
    rival: the baseline's, or None where there were no rows to train it on.
  """
  parts = [_scores("This model", truth, predicted, names)]
  if rival is not None:
    parts += [
      _scores(f"Baseline: {baseline.NAME}, same rows", truth, rival, names),
      _verdict(truth, predicted, rival),
    ]
  parts += _warnings(truth, names)
  text = "\n".join(parts)
  with storage.writing(path) as file:
    file.write(text)
  return text


def _scores(
  title: str,
  truth: Sequence[str],
  predicted: Sequence[str],
  names: Sequence[str],
) -> str:
  """scikit-learn's classification report under a title and the interval."""
  table = metrics.classification_report(
    truth, predicted, labels=list(names), digits=3, zero_division=0.0
  )
  correct = _correct(truth, predicted)
  low, high = wilson_interval(correct, len(truth))
  return (
    f"{title}\n{table}\n"
    f"accuracy {correct / len(truth):.3f} ({correct} of {len(truth)}), "
    f"95 % interval {low:.3f} to {high:.3f} (Wilson)\n"
  )


def _correct(truth: Sequence[str], predicted: Sequence[str]) -> int:
  return sum(a == b for a, b in zip(truth, predicted, strict=True))


def _verdict(
  truth: Sequence[str], predicted: Sequence[str], rival: Sequence[str]
) -> str:
  """Says who wins, whether by more than chance, and what would change it."""
  rows = list(zip(truth, predicted, rival, strict=True))
  ours = sum(label == a != b for label, a, b in rows)
  theirs = sum(label == b != a for label, a, b in rows)
  if ours == theirs:
    return "This model and the baseline tie.\n"
  winner = "This model" if ours > theirs else "The baseline"
  chance = stats.binomtest(ours, ours + theirs).pvalue
  sure = "more than chance explains" if chance < 0.05 else "chance may do that"
  text = (
    f"{winner} wins by {abs(ours - theirs)} of {len(rows)} rows: where only "
    f"one of the two is right, it is the model on {ours} and the baseline on "
    f"{theirs} (sign test: p = {chance:.2g}, {sure})."
  )
  paragraphs = [text, _MORE_BUDGET] if theirs > ours else [text]
  return "".join(textwrap.fill(part, 80) + "\n" for part in paragraphs)


def _warnings(truth: Sequence[str], names: Sequence[str]) -> list[str]:
  """Names the labels too rare for their line in the table to mean much."""
  support = collections.Counter(truth)
  rare = [f"{name} ({support[name]})" for name in names if support[name] < 10]
  if not rare:
    return []
  line = f"Fewer than 10 rows to judge by: {', '.join(rare)}."
  return [textwrap.fill(line, 80) + "\n"]


def write_confusion_matrix(
  path: str,
  truth: Sequence[str],
  predicted: Sequence[str],
  names: Sequence[str],
) -> None:
  """Draws which label was taken for which, counts in the cells, as PNG."""
  counts = metrics.confusion_matrix(truth, predicted, labels=list(names))
  side = min(3.0 + 0.6 * len(names), 40.0)  # inches
  # Without pyplot: no window system, and no state shared between pictures.
  picture = figure.Figure(figsize=(side, side), layout="constrained")
  backend_agg.FigureCanvasAgg(picture)
  axes = picture.add_subplot()
  share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
  # A label is no formula, whatever dollar signs it holds.
  axes.set_xticks(
    range(len(names)), names, rotation=45, ha="right", parse_math=False
  )
  axes.set_yticks(range(len(names)), names, parse_math=False)
  axes.set(xlabel="predicted", ylabel="true")
  if len(names) <= 30:  # beyond, the numbers would not be legible
    for (row, column), count in np.ndenumerate(counts):
      color = "white" if share[row, column] > 0.5 else "black"
      axes.text(column, row, str(count), ha="center", va="center", color=color)
  with storage.writing(path, "wb") as file:
    picture.savefig(file, format="png", dpi=120)


def write_eval_results(path: str, results: Mapping[str, object]) -> None:
  """Writes `name = value` lines, sorted, as google-research/albert does."""
  with storage.writing(path) as file:
    for name, value in sorted(results.items()):
      file.write(f"{name} = {value}\n")


def write_predictions(
  path: str,
  lines: Sequence[int],
  texts: Sequence[str],
  names: Sequence[str],
  probabilities: np.ndarray,
) -> None:
  """Writes a TSV: line, label, the probability of each label, text.

  Args:
    path: the file.
    lines: where each text stands in the file it came from.
    texts: white space in them becomes one space, so that a row is a line.
    names: the labels, in the order of the columns.
    probabilities: [texts, labels].
  """
  with storage.writing(path) as file:
    _tab_separated(file, ["line", "label", *names, "text"])
    for line, text, row in zip(lines, texts, probabilities, strict=True):
      shares = [f"{share:.6f}" for share in row]
      label = names[int(np.argmax(row))]
      _tab_separated(file, [str(line), label, *shares, text])


def _tab_separated(file: IO[str], fields: Sequence[str]) -> None:
  file.write("\t".join(" ".join(field.split()) for field in fields) + "\n")
