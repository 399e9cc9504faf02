"""Measures how well an encoder classifies, beside the baseline, on four sets.

    ALBERT_MN_SHARED=../shared python -m benchmarks.classifier_sets --sets=sib

The sets lie in $ALBERT_MN_SHARED: the topics of SIB-200 in five stratified
folds (seed 0); the word senses of wsd_mlub, in folds of whole passages; two
authors, a novel and essays; the entities of NER_v1.0. For each fold,
run_classifier is run with the given flags on the training rows of the fold, and
evaluated on the other rows. The last lines of a set have the mean and the
deviation over all runs.
"""

import collections
import csv
import dataclasses
import gzip
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn import model_selection

from albert_mn.finetune import adaptation, classification, fine_tuning
from data_prep.base import options

FOLDS = 5
_VOICES = ("model", "network", "baseline")
# Rows to train on and to judge by, of sets with more.
_MOST_TRAINED, _MOST_JUDGED = 2400, 750
# Senses with fewer rows are left out.
_FEWEST_OF_A_SENSE = 40
_LONGEST_TWEET, _FEWEST_WORDS = 140, 4

Row = dict[str, Any]
Fold = tuple[Sequence[Row], Sequence[Row]]


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Which encoder, and which sets."""

  init_checkpoint: str = options.option(
    "",
    "Model to start from, as run_classifier takes models; none begins from the "
    "texts of each fold. By default the model of this repository.",
  )
  sets: str = options.option(
    "sib,wsd,authors,ner",
    "Names of the sets to measure, separated by commas: sib, wsd, authors, ner.",
  )
  folds: int = options.option(
    FOLDS,
    "Number of folds to run of each set, the first ones of five.",
    minimum=1,
    maximum=FOLDS,
  )
  seeds: int = options.option(1, "Number of seeds of each fold.", minimum=1)
  ensemble: int = options.option(
    1, "Number of networks of each run; entities have one.", minimum=1
  )

  def check(self) -> None:
    unknown = sorted(set(self.sets.split(",")) - _SETS.keys())
    if unknown:
      raise options.InputError(
        f"--sets of {', '.join(_SETS)}", unknown[0], "mend the flag"
      )
    if "ALBERT_MN_SHARED" not in os.environ:
      raise options.InputError(
        "the shared folder in $ALBERT_MN_SHARED", "none", "set the variable"
      )


def main(
  settings: Options,
  recipe: fine_tuning.Recipe,
  adapting: adaptation.Options,
) -> None:
  """Trains on all folds of the sets; prints scores, means and deviations."""
  data = pathlib.Path(os.environ["ALBERT_MN_SHARED"]) / "data"
  print(f"{'set':8} {'fold':>4} {'seed':>4}  " + "  ".join(_VOICES))
  for name in settings.sets.split(","):
    every = []
    for number, fold in enumerate(_SETS[name](data)):
      for seed in range(settings.seeds if number < settings.folds else 0):
        again = dataclasses.replace(recipe, random_seed=seed)
        scores = _run(name, fold, settings, again, adapting)
        every.append(scores)
        print(f"{name:8} {number:>4} {seed:>4}  {_shown(scores)}", flush=True)
    means, spread = np.mean(every, axis=0), np.std(every, axis=0)
    print(f"{name:8} mean       {_shown(means)}")
    print(f"{name:8} deviation  {_shown(spread)}", flush=True)


def _shown(scores: Sequence[float] | np.ndarray) -> str:
  """Returns scores, in the order of _VOICES, as text columns of a line."""
  return "  ".join(
    f"{score:>{len(voice)}.3f}"
    for voice, score in zip(_VOICES, scores, strict=True)
  )


def _run(
  name: str,
  fold: Fold,
  settings: Options,
  recipe: fine_tuning.Recipe,
  adapting: adaptation.Options,
) -> list[float]:
  """Trains a classifier on the training rows of a fold, and evaluates it.

  Args:
    name: the name of the set, for messages and files.
    fold: (training rows, rows to evaluate).
    settings: the encoder.
    recipe: the options of fine-tuning.
    adapting: the options of adapting the encoder to the texts first.

  Returns:
    the scores of the whole model, of its network and of its TF-IDF baseline, in
    the order of _VOICES.
  """
  entities = name == "ner"
  with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, f"{part}.jsonl") for part in ("train", "dev")]
    for path, rows in zip(paths, fold, strict=True):
      with open(path, "w", encoding="utf-8") as file:
        file.writelines(
          json.dumps(row, ensure_ascii=False) + "\n" for row in rows
        )
    output = os.path.join(folder, "run")
    classification.run(
      classification.Options(
        do_train=True,
        do_eval=True,
        label_type="entities" if entities else "class",
        data_dir=folder,
        init_checkpoint=settings.init_checkpoint,
        ensemble=1 if entities else settings.ensemble,
        output_dir=output,
      ),
      dataclasses.replace(recipe, pooling="cls") if entities else recipe,
      adapting,
    )
    report = json.loads(
      pathlib.Path(output, "report.json").read_text(encoding="utf-8")
    )
  # Of entities, and of a model whose network answers alone, the answers of model
  # and network are the same.
  report.setdefault("network", report["model"])
  score = "micro_f1" if entities else "accuracy"
  return [report[voice][score] for voice in _VOICES]


def _topics(data: pathlib.Path) -> Iterator[Fold]:
  """Yields stratified folds, (training rows, rows to evaluate), of SIB-200.

  The rows are the train and dev rows of its Mongolian part; the labels, topics.
  """
  rows = []
  for part in ("train", "dev"):
    with (data / f"sib200_mn/{part}.tsv").open(encoding="utf-8") as file:
      table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
      rows += [_row(line["text"], line["category"]) for line in table]
  yield from _stratified(rows)


def _senses(data: pathlib.Path) -> Iterator[Fold]:
  """Yields folds, (training rows, rows to evaluate), of frequent word senses.

  No passage is in both parts of a fold.
  """
  with (data / "wsd_mlub/train.csv").open(encoding="utf-8") as file:
    rows = [_row(r["text"], r["synset_id"]) for r in csv.DictReader(file)]
  count = collections.Counter(row["label"] for row in rows)
  rows = [row for row in rows if count[row["label"]] >= _FEWEST_OF_A_SENSE]
  # Rows of a passage differ in the place of the mark, as in сарын#0000000001.
  passages = [re.sub(r"#\d+", "", row["text"]) for row in rows]
  folds = model_selection.GroupKFold(FOLDS, shuffle=True, random_state=0)
  for number, parts in enumerate(folds.split(rows, groups=passages)):
    train, judged = (
      _drawn([rows[index] for index in part], most, number)
      for part, most in zip(parts, (_MOST_TRAINED, _MOST_JUDGED), strict=True)
    )
    known = {row["label"] for row in train}
    yield train, [row for row in judged if row["label"] in known]


def _authors(data: pathlib.Path) -> Iterator[Fold]:
  """Yields stratified folds, (training rows, rows to evaluate), of two authors.

  The rows are equally many sentences of a novel and of essays; the label is the
  name of the work. Sentences are cut to 140 characters, and sentences of fewer
  than four words are left out.
  """
  works = []
  for name in ("verne_20k", "batireedui"):
    text = (data / f"pretrain/{name}.txt").read_text(encoding="utf-8")
    lines = (line[:_LONGEST_TWEET] for line in text.splitlines())
    works.append(
      [_row(line, name) for line in lines if len(line.split()) >= _FEWEST_WORDS]
    )
  size = min(map(len, works))
  rows = [row for work in works for row in _drawn(work, size, 0)]
  for train, judged in _stratified(rows):
    yield _drawn(train, _MOST_TRAINED, 0), _drawn(judged, _MOST_JUDGED, 0)


def _entities(data: pathlib.Path) -> Iterator[Fold]:
  """Yields five folds, (training rows, rows to evaluate), of NER_v1.0.

  The rows to evaluate are another tenth of all rows in each fold, drawn with a
  fixed seed; the rest are the training rows. So half of the rows are in no
  evaluation.
  """
  path = data / "ner_mn/NER_v1.0.json.gz"
  with gzip.open(path, "rt", encoding="utf-8") as file:
    read = map(json.loads, file)
    rows = [{"text": row["text"], "label": row["labels"]} for row in read]
  order = np.random.default_rng(0).permutation(len(rows))
  parts = np.array_split(order, 2 * FOLDS)
  for number in range(FOLDS):
    judged = set(parts[number].tolist())
    yield (
      [row for index, row in enumerate(rows) if index not in judged],
      [row for index, row in enumerate(rows) if index in judged],
    )


def _row(text: str, label: str) -> Row:
  """Returns a row of a text, with single spaces, and its label."""
  return {"text": " ".join(text.split()), "label": label}


def _drawn(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
  """Returns at most `most` rows, drawn at random, in their given order."""
  order = np.random.default_rng(seed).permutation(len(rows))[:most]
  return [rows[index] for index in sorted(order.tolist())]


def _stratified(rows: Sequence[Row]) -> Iterator[Fold]:
  """Yields five stratified folds, (training rows, rows to evaluate).

  The rows to evaluate have nearly the same share of each label in all folds.
  """
  folds = model_selection.StratifiedKFold(FOLDS, shuffle=True, random_state=0)
  for train, judged in folds.split(rows, [row["label"] for row in rows]):
    yield [rows[index] for index in train], [rows[index] for index in judged]


_SETS = {
  "sib": _topics,
  "wsd": _senses,
  "authors": _authors,
  "ner": _entities,
}


if __name__ == "__main__":
  options.run(main, Options, fine_tuning.Recipe, adaptation.Options)
