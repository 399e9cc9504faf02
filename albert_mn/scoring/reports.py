"""The report on a classifier as text, and the confusion matrix as a picture."""

import collections
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import figure
from matplotlib.backends import backend_agg

from albert_mn.scoring import calibration, judgements
from albert_mn.tasks import baseline
from data_prep.files import storage

# With more labels, a picture or a line of labels is not legible.
_MOST_LABELS = 30

_MORE_BUDGET = (
  "What would change it is budget, not patience with this run (a guess from"
  " published numbers): the published Mongolian transformers, a base-size"
  " model pretrained for days on an accelerator over hundreds of millions of"
  " words, about tie such a baseline on Eduge news (0.90 and 0.88 against"
  " 0.909). Pretrain at that scale and start from it with --init_checkpoint,"
  " or label more rows; until then the baseline is the better tool, and --blend=auto lets it answer"
  " beside the model."
)


class Voices(NamedTuple):
  """Judgements of up to three sets of answers to the same rows.

  Attributes:
    model: the answers of the model directory.
    rival: the answers of the baseline; None if it could not be trained.
    network: the answers of the network alone; None if the model directory has
      no blend, or answers with the network alone.
  """

  model: judgements.Judgement
  rival: judgements.Judgement | None = None
  network: judgements.Judgement | None = None

  def alone(self) -> dict[str, judgements.Judgement]:
    """Returns the judgements of the network alone and the baseline alone.

    They are under the keys "network" and "baseline". The result is {} if
    `network` or `rival` is None.
    """
    if self.network is None or self.rival is None:
      return {}
    return {"network": self.network, "baseline": self.rival}


def write(
  path: str,
  voices: Voices,
  rival_name: str = baseline.NAME,
  without_copies: np.ndarray | None = None,
  notes: Sequence[str] = (),
  faults: Sequence[str] = (),
) -> str:
  """Writes `report.txt`; returns its text.

  Args:
    path: path of the file.
    voices: the judgements of the model, the baseline and the network alone.
    rival_name: name of the baseline.
    without_copies: bool [rows], which rows are no near copies of training rows;
      None if this was not checked.
    notes: paragraphs at the end.
    faults: paragraphs at the beginning.
  """
  model, rival, _ = voices
  parts = [_paragraphs(*faults)] if faults else []
  parts.append(_scores("This model", model))
  if rival is not None:
    parts.append(_scores(f"Baseline: {rival_name}, same rows", rival))
  if voices.network is not None:
    parts.append(_side_by_side(voices, rival_name))
  if rival is not None:
    parts.append(_paragraphs(*verdict(voices)))
  if without_copies is not None:
    parts.append(_paragraphs(_of_the_rest(model, rival, without_copies)))
  parts += [
    _paragraphs(*rare_notes) for rare_notes in [rare(model)] if rare_notes
  ]
  parts += [_paragraphs(*notes)] if notes else []
  text = "\n".join(parts)
  with storage.writing(path) as file:
    file.write(text)
  return text


def _scores(title: str, judged: judgements.Judgement) -> str:
  """Returns a section of the text report: title, table of labels, main score.

  If probabilities are known, a line on the calibration follows.

  Args:
    title: the title of the section.
    judged: the judgement to show.
  """
  lines = [title, judged.table(), headline(judged)]
  if bins := judged.bins():
    error = calibration.expected_error(bins)
    sure = sum(interval.rows * interval.confidence for interval in bins)
    mean = sure / sum(interval.rows for interval in bins)
    lines.append(
      f"calibration: {mean:.3f} sure on average; expected calibration error "
      f"{error:.3f}"
    )
  return "\n".join(lines) + "\n"


def headline(judged: judgements.Judgement) -> str:
  """Returns the main score with its 95 % interval, as one line.

  The main score is the accuracy, or the share of rows with all labels or all
  entities right. For a regression the line is only the number of rows.
  """
  scores, total = judged.scores(), len(judged.truth)
  for name, words in {
    "accuracy": "accuracy",
    "exact_rows": "all right",
  }.items():
    if name in scores:
      return (
        f"{words} {scores[name]:.3f} ({round(scores[name] * total)} of {total}), "
        f"95 % interval {scores[name + '_low']:.3f} to "
        f"{scores[name + '_high']:.3f} (Wilson)"
      )
  return f"{total} rows"


def _side_by_side(voices: Voices, rival_name: str) -> str:
  """Returns a text table: the main score of model, network alone and baseline.

  Args:
    voices: the judgements.
    rival_name: name of the baseline.
  """
  named = {"This model": voices.model, "Its network alone": voices.network}
  named[f"{rival_name} alone"] = voices.rival
  width = max(map(len, named))
  lines = [
    f"{name:<{width}}  {headline(judged)}"
    for name, judged in named.items()
    if judged is not None
  ]
  return "\n".join(["Side by side, same rows", *lines]) + "\n"


_MODEL, _BASELINE, _NETWORK = "this model", "the baseline", "its network alone"


def verdict(voices: Voices) -> list[str]:
  """Returns paragraphs on which answers are better, with significance tests.

  With a blend, model, network and baseline are compared in pairs. Without a
  blend, model and baseline are compared; if the baseline beats a model of one
  label per row, a paragraph of advice follows.

  Args:
    voices: the judgements; `voices.rival` must not be None.
  """
  model, rival, network = voices
  assert rival is not None, "there is no verdict without it"
  paragraphs = [_verdict((_MODEL, model), (_BASELINE, rival))]
  if network is not None:
    paragraphs.append(_verdict((_MODEL, model), (_NETWORK, network)))
    paragraphs.append(_verdict((_NETWORK, network), (_BASELINE, rival)))
    return paragraphs
  ours, theirs, _ = judgements.sign_test(model.right(), rival.right())
  published = isinstance(model, judgements.OneLabel)
  return (
    [*paragraphs, _MORE_BUDGET] if theirs > ours and published else paragraphs
  )


_Named = tuple[str, judgements.Judgement]


def _verdict(first: _Named, second: _Named) -> str:
  """Returns a sentence: which of two judgements is better, with a p-value.

  The better judgement is right on more of those rows on which only one of the
  two is right; for a regression, it is closer on more rows. The sentence may
  also state a tie. The p-value is that of the sign test.

  Args:
    first, second: (name, judgement) of the same rows.
  """
  (name, model), (other_name, rival) = first, second
  ours, theirs, chance = judgements.sign_test(model.right(), rival.right())
  if ours == theirs:
    both = f"{name} and {other_name} tie."
    return both[0].upper() + both[1:]
  winner = name if ours > theirs else other_name
  sure = "more than chance explains" if chance < 0.05 else "chance may do that"
  value = f"= {chance:.2g}" if chance else "< 1e-300"
  closer = model.right().dtype.kind == "f"
  return (
    f"{winner[0].upper()}{winner[1:]} wins by {abs(ours - theirs)} of "
    f"{len(model.truth)} rows: where only one of the two is "
    f"{'closer' if closer else 'right'}, it is {name} on {ours} and "
    f"{other_name} on {theirs} (sign test: p {value}, {sure})."
  )


def _of_the_rest(
  model: judgements.Judgement,
  rival: judgements.Judgement | None,
  rows: np.ndarray,
) -> str:
  """Returns a sentence with the score on rows that are no near copies.

  Args:
    model: the judgement of the model, on all rows.
    rival: the judgement of the baseline, on all rows; None without a baseline.
    rows: bool [rows], which rows are no near copies of training rows.
  """
  copies, total = int((~rows).sum()), len(rows)
  if not copies or copies == total:
    return f"{copies} of {total} rows have a near copy in the training rows."
  scores = [f"this model {headline(model.part(rows))}"]
  if rival is not None:
    scores.append(f"the baseline {headline(rival.part(rows))}")
  return (
    f"{copies} of {total} rows have a near copy in the training rows. Without "
    f"them: {'; '.join(scores)}."
  )


def _paragraphs(*texts: str) -> str:
  return "".join(textwrap.fill(text, 80) + "\n" for text in texts)


def rare(judged: judgements.Judgement) -> list[str]:
  """Returns a paragraph that names the labels with fewer than 10 rows.

  It names at most 30 of these labels, with their numbers of rows. The result is
  a list of one string; [] if there are no such labels.
  """
  rows = [(name, row[-1]) for name, *row in judged.per_label() if row[-1] < 10]
  if not rows:
    return []
  shown = ", ".join(f"{name} ({count})" for name, count in rows[:_MOST_LABELS])
  more = f" and {len(rows) - _MOST_LABELS} labels more"
  ending = more if len(rows) > _MOST_LABELS else ""
  return [f"Fewer than 10 rows to judge by: {shown}{ending}."]


def confusions(
  model: judgements.OneLabel,
) -> list[tuple[tuple[int, int], int]]:
  """Returns ((true, answered), rows) of wrong answers, most frequent first.

  `true` and `answered` are label numbers. Equally frequent pairs are in the
  order in which they first occur.
  """
  wrong = ~model.right()
  pairs = zip(
    model.truth[wrong].tolist(), model.answers[wrong].tolist(), strict=True
  )
  return collections.Counter(pairs).most_common()


def write_confusion_matrix(path: str, model: judgements.OneLabel) -> None:
  """Draws the confusion matrix as PNG, with the row counts in the cells.

  Of more than 30 labels, it draws the 30 that are confused most.
  """
  shown = _most_confused(model)
  place = {label: number for number, label in enumerate(shown)}
  counts = np.zeros([len(shown), len(shown)], np.int64)
  for true, answer in zip(
    model.truth.tolist(), model.answers.tolist(), strict=True
  ):
    if true in place and answer in place:
      counts[place[true], place[answer]] += 1
  support = np.bincount(model.truth, minlength=len(model.names))[shown]
  side = 3.0 + 0.6 * len(shown)  # inches
  # pyplot is not used: it needs a window system, and shares state between
  # pictures.
  picture = figure.Figure(figsize=(side, side), layout="constrained")
  backend_agg.FigureCanvasAgg(picture)
  axes = picture.add_subplot()
  share = counts / np.maximum(support, 1)[:, None]
  axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
  names = [textwrap.shorten(model.names[label], 40) for label in shown]
  # Dollar signs in a label do not make it a formula.
  axes.set_xticks(
    range(len(names)), names, rotation=45, ha="right", parse_math=False
  )
  axes.set_yticks(range(len(names)), names, parse_math=False)
  axes.set(xlabel="predicted", ylabel="true")
  if len(shown) < len(model.names):
    axes.set_title(
      f"the {len(shown)} of {len(model.names)} labels that are confused most"
    )
  for (row, column), count in np.ndenumerate(counts):
    color = "white" if share[row, column] > 0.5 else "black"
    axes.text(column, row, str(count), ha="center", va="center", color=color)
  with storage.writing(path, "wb") as file, warnings.catch_warnings():
    # The font draws an emoji in a name as a box, with a warning.
    warnings.filterwarnings("ignore", "Glyph", UserWarning)
    picture.savefig(file, format="png", dpi=120)


def _most_confused(model: judgements.OneLabel) -> list[int]:
  """Returns the numbers of the labels to draw, in ascending order.

  If there are at most 30 labels, all are drawn. Otherwise the 30 labels of the
  most frequent confusions are drawn; if fewer labels are confused, the labels
  with the most rows follow.
  """
  count = len(model.names)
  if count <= _MOST_LABELS:
    return list(range(count))
  chosen: dict[int, None] = {}
  for pair, _ in confusions(model):
    for label in pair:
      if len(chosen) < _MOST_LABELS:
        chosen[label] = None
  for label in np.argsort(-np.bincount(model.truth, minlength=count)).tolist():
    if len(chosen) < _MOST_LABELS:
      chosen[label] = None
  return sorted(chosen)


def write_eval_results(path: str, results: Mapping[str, object]) -> None:
  """Writes sorted `name = value` lines, as google-research/albert does."""
  with storage.writing(path) as file:
    for name, value in sorted(results.items()):
      file.write(f"{name} = {value}\n")
