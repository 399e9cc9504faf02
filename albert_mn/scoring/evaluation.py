"""The evaluation of a classifier on held-out rows, and its result files."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from albert_mn.scoring import (
  degenerate_runs,
  entity_scores,
  judgements,
  report_page,
  reports,
)
from albert_mn.tasks import (
  baseline,
  blend,
  classifier,
  ensembles,
  labelled_rows,
  problems,
  tagging,
)
from data_prep.classification import classifier_data
from data_prep.files import manifest_fields, storage

# Reports on more labels are not repeated in the log.
_LOGGED_LABELS = 40


def evaluate(
  output_dir: str,
  task_name: str,
  predictor: classifier.Predictor,
  rows: labelled_rows.Rows,
  batch_size: int,
  reseeded: Sequence[classifier.Predictor] = (),
  from_nothing: classifier.Predictor | None = None,
) -> dict[str, Any]:
  """Evaluates a model; writes eval_results.txt and the report's files.

  The report is report.txt, report.html and report.json; a model of one label a
  row also gets confusion_matrix.png.

  Args:
    output_dir: folder for the files.
    task_name: name of the task; it decides the keys of eval_results.txt.
    predictor: the model to evaluate.
    rows: the model is evaluated on `rows.held_out`. If it has no blend, a
      baseline for comparison is trained on `rows.train`, if there are any.
    batch_size: texts a batch, at most.
    reseeded: models from the same training with other seeds, if any.
    from_nothing: a model from the same training without pretrained weights, or
      None.

  Returns:
    the content of eval_results.txt.

  Raises:
    options.InputError: for a held-out row with a label that was not trained.
  """
  judged = judge(predictor, rows.held_out, batch_size)
  # Read now: the members of an ensemble will count the same texts again.
  cut = predictor.framer.counts.summary(predictor.max_seq_length)
  if predictor.blend:
    voices = judged.voices
  else:
    voices = reports.Voices(judged.voices.model, _rival(predictor, rows))
  every = [judged]
  every += [judge(another, rows.held_out, batch_size) for another in reseeded]
  seeds = [each.voices.model.scores() for each in every]
  results = _results(task_name, judged.loss, voices)
  counts = manifest_fields.Counts.of(predictor.manifest["counts"])
  results["global_step"] = counts.global_step or 0
  reports.write_eval_results(
    os.path.join(output_dir, "eval_results.txt"), results
  )
  fresh = _without_copies(rows)
  network_scores = _networks(predictor, rows.held_out, batch_size)
  notes = [f"{cut}."] if cut else []
  notes += _notes(predictor, voices.model, seeds, network_scores)
  if from_nothing:
    without = judge(from_nothing, rows.held_out, batch_size).voices
    notes.insert(0, _of_start(voices, without))
  faults = _faults([predictor, *reseeded])
  path = os.path.join(output_dir, "report.txt")
  text = reports.write(
    path, voices, rival_name(predictor), fresh, notes, faults
  )
  _write_json(output_dir, judged.loss, voices, fresh, seeds, notes, faults)
  if isinstance(voices.model, judgements.OneLabel):
    picture = os.path.join(output_dir, "confusion_matrix.png")
    reports.write_confusion_matrix(picture, voices.model)
  page = report_page.write(
    output_dir,
    report_page.Findings(
      rival_name(predictor),
      voices,
      rows.held_out,
      fresh,
      seeds,
      notes,
      faults,
      predictor.manifest["parameters"],
    ),
  )
  short = len(voices.model.names) <= _LOGGED_LABELS
  logging.info("%s and %s\n\n%s", path, page, text if short else "")
  return results


def rival_name(predictor: classifier.Predictor) -> str:
  """Returns the name of the baseline for the reports.

  The baseline is an SVM or a ridge regression on TF-IDF vectors; for a tagger,
  the entities of the training rows.

  Args:
    predictor: the model, which defines the kind of prediction.
  """
  if predictor.problem.TYPE == problems.ENTITIES:
    return "the training rows' entities, found again by their words"
  if predictor.problem.TYPE == problems.REGRESSION:
    return "TF-IDF + ridge regression"
  return baseline.NAME


class Judged(NamedTuple):
  """The judgements of a predictor's answers to rows, and their loss.

  Attributes:
    voices: the judgement of the predictor's answers; with a blend, also the
      judgements of the network alone and of the baseline alone.
    loss: mean loss over the rows, for a tagger over the pieces. Without a blend
      it is the loss of the network at temperature 1.
  """

  voices: reports.Voices
  loss: float


def judge(
  predictor: classifier.Predictor,
  rows: Sequence[classifier_data.Row],
  batch_size: int,
) -> Judged:
  """Predicts rows; compares the answers with the labels; returns both results.

  Args:
    predictor: the model.
    rows: rows with labels, at least one.
    batch_size: number of texts that the model reads at once.

  Raises:
    options.InputError: for a row with a label that was not trained.
  """
  parts, loss, counted = [], 0.0, 0
  step = problems.rows_at_once(len(predictor.names))
  for first in range(0, len(rows), step):
    block = rows[first : first + step]
    targets = predictor.targets(block)
    texts = [problems.text_of(row) for row in block]
    logits = predictor.logits(texts, batch_size)
    part = [_answers(predictor, block, targets, logits)]
    if tfidf_blend := predictor.blend:
      scores = tfidf_blend.scores(predictor.cleaned(texts))
      logits = tfidf_blend.factors.logits(logits, scores)
      part.insert(0, _judgement(predictor, targets, logits))
      # An SVM's distances are no probabilities, so their calibration is not
      # measured.
      rival = _judgement(predictor, targets, scores)
      part.append(dataclasses.replace(rival, sure=None))
    loss += predictor.problem.mean_loss(logits, targets) * len(targets)
    counted += len(targets)
    parts.append(part)
  model, *two = map(judgements.Judgement.of_parts, zip(*parts, strict=True))
  voices = reports.Voices(model)
  if two:
    alone = predictor.blend and predictor.blend.factors.answers == blend.NETWORK
    voices = reports.Voices(model, two[1], None if alone else two[0])
  return Judged(voices, loss / max(1, counted))


def _answers(
  predictor: classifier.Predictor,
  rows: Sequence[classifier_data.Row],
  targets: np.ndarray,
  logits: np.ndarray,
) -> judgements.Judgement:
  """Judges the answers that the network gives at its temperature.

  Args:
    predictor: the model.
    rows: the rows.
    targets: the targets of the rows.
    logits: the network's outputs for the rows.
  """
  if isinstance(predictor, tagging.TagPredictor):
    decoded = predictor.decoded([row.text for row in rows], logits)
    spans = [[entity[:3] for entity in entities] for entities in decoded]
    return _entities(predictor, rows, spans)
  return _judgement(predictor, targets, logits / predictor.temperature)


def _judgement(
  predictor: classifier.Predictor, targets: np.ndarray, logits: np.ndarray
) -> judgements.Judgement:
  """Judges the answers that logits give; not for a tagger.

  Args:
    predictor: the model.
    targets: the targets of the rows.
    logits: [rows, outputs].
  """
  shares = predictor.problem.probabilities(logits)
  return judgements.of(predictor.problem, targets, shares)


def _entities(
  predictor: classifier.Predictor,
  rows: Sequence[classifier_data.Row],
  spans: Sequence[Sequence[baseline.Span]],
) -> entity_scores.Entities:
  """Judges the entities that a tagger, or its baseline, predicts.

  Args:
    predictor: the tagger.
    rows: rows with the true entities.
    spans: the predicted (start, end, type) of each row.
  """
  assert isinstance(predictor.problem, tagging.Tagging)
  truth, answers = (np.empty(len(rows), object) for _ in range(2))
  for place, (row, row_spans) in enumerate(zip(rows, spans, strict=True)):
    truth[place], answers[place] = frozenset(row.entities), frozenset(row_spans)
  return entity_scores.Entities(predictor.problem.kinds, truth, answers)


def _results(
  task_name: str, loss: float, voices: reports.Voices
) -> dict[str, Any]:
  """Returns the content of eval_results.txt, with google-research's key names.

  Two keys have a changed meaning: in google-research, `loss` is the mean over
  batches and `eval_loss` the mean over rows; here both are the mean over rows.
  With a blend and one label per row, network_accuracy and baseline_accuracy are
  the accuracies of the network alone and of the baseline alone, because most
  exports contain only the network. For the task tweetmn the scores are a
  dictionary under the key tweetmn.
  """
  losses: dict[str, Any] = {"eval_loss": loss, "loss": loss}
  model, scores = voices.model, voices.model.scores()
  for name, voice in voices.alone().items():
    if isinstance(voice, judgements.OneLabel):
      losses[f"{name}_accuracy"] = voice.scores()["accuracy"]
  if task_name == labelled_rows.TWEETS:
    accuracy = scores["accuracy"]
    f1 = {name: row[2] for name, *row in model.per_label()}["1"]
    tweets = {"acc": accuracy, "f1": f1, "acc_and_f1": (accuracy + f1) / 2}
    return {**losses, "tweetmn": tweets}
  if isinstance(model, judgements.OneLabel):
    return {**losses, "eval_accuracy": scores["accuracy"]}
  return {**losses, **{f"eval_{n}": value for n, value in scores.items()}}


def _without_copies(rows: labelled_rows.Rows) -> np.ndarray | None:
  """Returns which held-out rows are no near copies of training rows.

  The result is bool [rows]; None if near copies were not searched for.

  Args:
    rows: the labelled rows of the run.
  """
  if rows.copied is None:
    return None
  return np.array([row.line not in rows.copied for row in rows.held_out])


def _notes(
  predictor: classifier.Predictor,
  model: judgements.Judgement,
  seeds: Sequence[Mapping[str, float]],
  networks: Sequence[Mapping[str, float]] = (),
) -> list[str]:
  """Returns the paragraphs of the report on scores, seeds and the blend.

  Args:
    predictor: the model.
    model: the judgement of the model's answers.
    seeds: name → score, for each trained seed.
    networks: name → score, for each network of an ensemble; otherwise empty.
  """
  notes: list[str] = []
  if predictor.temperature != 1 and not predictor.blend:
    notes.append(
      f"The logits are divided by {predictor.temperature:.3f}, as fitted on the "
      "validation rows."
    )
  notes += filter(None, [model.note()])
  notes += [_of_seeds(seeds)] if len(seeds) > 1 else []
  if networks:
    notes.append(
      f"An ensemble: the mean of {len(networks)} networks answers. "
      f"{_of_seeds(networks, 'networks alone')}"
    )
  if predictor.blend:  # last: the model that the user gets
    sentence = predictor.blend.factors.summary()
    notes.append(f"{sentence[0].upper()}{sentence[1:]}.")
  return notes


def _faults(predictors: Sequence[classifier.Predictor]) -> list[str]:
  """Returns a sentence with advice for each model that has learnt nothing.

  Args:
    predictors: the models of all seeds.
  """
  sentences = []
  for predictor in predictors:
    parameters = predictor.manifest["parameters"]
    if verdict := degenerate_runs.Verdict.of(parameters):
      seed = parameters.get("random_seed")
      sentences.append(
        f"The training with seed {seed} learnt nothing: {verdict.summary}"
      )
  return sentences


def _networks(
  predictor: classifier.Predictor,
  rows: Sequence[classifier_data.Row],
  batch_size: int,
) -> list[dict[str, float]]:
  """Evaluates each network of an ensemble alone; returns name → score for each.

  The result is [] for a model of one network.

  Args:
    predictor: the model.
    rows: rows with labels.
    batch_size: number of texts that the model reads at once.
  """
  networks = ensembles.members(predictor.model)
  if len(networks) == 1:
    return []
  alone = (
    type(predictor)(
      network, predictor.framer, predictor.problem, predictor.manifest
    )
    for network in networks
  )
  return [judge(each, rows, batch_size).voices.model.scores() for each in alone]


def _of_seeds(seeds: Sequence[Mapping[str, float]], what: str = "seeds") -> str:
  """Returns a sentence with mean ± sample deviation of each score.

  The bounds of intervals, such as accuracy_low, are left out.

  Args:
    seeds: name → score, of each seed or network; at least two.
    what: the noun for the seeds or networks in the sentence.
  """
  scores = []
  for name in seeds[0]:
    values = [seed[name] for seed in seeds]
    if not name.endswith(("_low", "_high")):
      scores.append(
        f"{name.replace('_', ' ')} {np.mean(values):.3f} ± "
        f"{np.std(values, ddof=1):.3f}"
      )
  return f"Mean ± deviation of {len(seeds)} {what}: {', '.join(scores)}."


def _of_start(voices: reports.Voices, without: reports.Voices) -> str:
  """Returns a sentence on how much the pretrained weights helped.

  The sentence compares the networks alone, without the baselines of their
  blends, by their first score, such as the accuracy.

  Args:
    voices: judgements of the model that began with pretrained weights.
    without: judgements of the model that began without pretrained weights.
  """
  ours, theirs = (voice.network or voice.model for voice in (voices, without))
  name, score = next(iter(ours.scores().items()))
  before = theirs.scores()[name]
  better, worse, chance = judgements.sign_test(ours.right(), theirs.right())
  return (
    f"The pretrained weights gave the network {score - before:+.3f}: "
    f"{name.replace('_', ' ')} {score:.3f} with them, {before:.3f} from nothing; "
    f"better on {better} rows, worse on {worse}, p = {chance:.3g} (sign test)."
  )


def _write_json(
  output_dir: str,
  loss: float,
  voices: reports.Voices,
  fresh: np.ndarray | None,
  seeds: Sequence[Mapping[str, float]],
  notes: Sequence[str],
  faults: Sequence[str],
) -> None:
  """Writes report.json: all numbers and notes of the report.

  Args:
    output_dir: folder of the file.
    loss: the model's mean loss.
    voices: the judgements of the model, the baseline and the network alone.
    fresh: bool [rows], which rows are no near copies of training rows; None if
      near copies were not searched for.
    seeds: name → score, for each trained seed.
    notes, faults: paragraphs of the report.
  """
  model = voices.model
  content: dict[str, Any] = {
    "rows": len(model.truth),
    "loss": loss,
    "model": _as_json(model.scores()),
    "labels": [
      dict(
        zip(("label", "precision", "recall", "f1", "support"), row, strict=True)
      )
      for row in model.per_label()
    ],
    "reliability": [interval._asdict() for interval in model.bins()],
    "seeds": list(map(_as_json, seeds)),
    "notes": list(notes),
    "faults": list(faults),
  }
  for name, rival, paired in (
    ("baseline", voices.rival, "paired"),
    ("network", voices.network, "paired_with_network"),
  ):
    if rival is not None:
      ours, theirs, chance = judgements.sign_test(model.right(), rival.right())
      content[name] = _as_json(rival.scores())
      content[paired] = {
        "model_only": ours,
        f"{name}_only": theirs,
        "p_value": chance,
      }
  if fresh is not None and fresh.any():
    content["near_copies"] = int((~fresh).sum())
    content["without_near_copies"] = _as_json(model.part(fresh).scores())
  with storage.writing(os.path.join(output_dir, "report.json")) as file:
    json.dump(content, file, ensure_ascii=False, indent=2, allow_nan=False)
    file.write("\n")


def _as_json(scores: Mapping[str, float]) -> dict[str, float | None]:
  """Returns name → score with None in place of NaN, because JSON has no NaN."""
  return {n: None if math.isnan(v) else v for n, v in scores.items()}


def _rival(
  predictor: classifier.Predictor, rows: labelled_rows.Rows
) -> judgements.Judgement | None:
  """Trains the baseline on the training rows; judges its held-out answers.

  The result is None without training rows, or with more than 16,384 labels.

  Args:
    predictor: the model, which defines the kind of prediction.
    rows: the labelled rows of the run.
  """
  if not rows.train:
    logging.warning("no training rows given: the report has no baseline")
    return None
  trained = predictor.manifest["inputs"].get("training_rows")
  if trained != classifier_data.fingerprint(rows.train):
    logging.warning(
      "the model was trained on other rows than those given: the baseline is "
      "not on the same footing, and evaluation rows may have been trained on"
    )
  problem = predictor.problem
  texts, new_texts = (
    [*map(baseline.text_of, part)] for part in (rows.train, rows.held_out)
  )
  if problem.TYPE == problems.ENTITIES:
    spans = [row.entities for row in rows.train]
    known = baseline.entities(texts, spans, new_texts)
    return _entities(predictor, rows.held_out, known)
  truth = problem.targets(rows.held_out)
  if problem.TYPE == problems.CLASS:
    # If the model was trained on other rows, these rows may have other labels.
    problem = problems.of_rows(problems.CLASS, rows.train)
  linear = baseline.fitted(problem, texts, problem.targets(rows.train))
  if not linear:
    return None
  shares = problem.probabilities(linear.scores(new_texts))
  judged = judgements.of(problem, truth, shares)
  if problem.TYPE == problems.CLASS:
    names = list(predictor.problem.names)
    number = {name: index for index, name in enumerate(names)}
    numbers = np.array([number.get(name, -1) for name in problem.names])
    judged = dataclasses.replace(
      judged, names=names, answers=numbers[judged.answers]
    )
  # An SVM's distances are no probabilities, so their calibration is not
  # measured.
  return dataclasses.replace(judged, sure=None)
