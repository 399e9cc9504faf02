"""Makes a file of Eduge's exact shape from sentences in the sample."""

import csv
import gzip
import pathlib
import random

from data_prep.classification import classifier_splits, eduge
from tests import running

_SENTENCES = running.ROOT / "sample/pretrain/wiki_articles.txt"


def labels(count: int) -> list[str]:
  """Returns the class of each of `count` rows.

  For 75,661 rows, the test part has the published number of rows of each class.
  """
  chance = random.Random(0)
  shares = list(eduge.SUPPORTS.values())
  classes = chance.choices(list(eduge.SUPPORTS), shares, k=count)
  if count == eduge.ROWS:
    names = [name for name, n in eduge.SUPPORTS.items() for _ in range(n)]
    chance.shuffle(names)
    _, test = classifier_splits.predecessor(count)
    for position, name in zip(test.tolist(), names, strict=True):
      classes[position] = name
  return classes


def write(path: pathlib.Path, count: int, classes: list[str]) -> None:
  """Writes news of a few sentences, in the columns `news` and ` label`.

  In each hundred rows, one row repeats the row before exactly, and one nearly.

  Args:
    path: a path that ends in .csv or .csv.gz.
    count: number of rows.
    classes: the class of each row.
  """
  chance = random.Random(1)
  lines = _SENTENCES.read_text(encoding="utf-8").splitlines()
  sentences = [line for line in lines if len(line.split()) > 4]
  opened = gzip.open if path.suffix == ".gz" else open
  with opened(path, "wt", encoding="utf-8", newline="") as file:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["news", " label"])
    news = ""
    for number in range(count):
      if number % 100 == 99:
        news = f"{news} Эх сурвалж: МОНЦАМЭ."
      elif number % 100 != 98:
        news = " ".join(chance.choices(sentences, k=chance.randint(2, 6)))
      table.writerow([news, classes[number]])
