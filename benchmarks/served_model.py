"""Makes a classifier with random weights, texts for it, and runs a server."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator

from albert_mn.models import configs, model_directory
from albert_mn.tasks import classifier
from data_prep.encoding import tokenizer_training

_PIECES = 4000
_WORDS = 8


def texts(sample: str, count: int) -> list[str]:
  """Returns the first eight words of each of `count` texts of SIB-200.

  If the sample has fewer texts, they are repeated.

  Args:
    sample: the folder of the sample.
    count: number of texts.
  """
  rows = pathlib.Path(sample, "sib200/train.tsv").read_text("utf-8")
  lines = [row.split("\t")[2] for row in rows.splitlines()[1:]]
  starts = [" ".join(line.split()[:_WORDS]) for line in lines]
  return list(itertools.islice(itertools.cycle(starts), count))


def train_tokenizer(sample: str, folder: str) -> str:
  """Trains a tokenizer of 4,000 pieces; returns the path of its file.

  Args:
    sample: the folder of the sample.
    folder: the folder in which the tokenizer's folder is made.
  """
  target = os.path.join(folder, "tokenizer")
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=os.path.join(sample, "pretrain/*.txt"),
      output_dir=target,
      vocab_size=_PIECES,
    )
  )
  return os.path.join(target, model_directory.TOKENIZER)


def save(config_file: str, tokenizer: str, folder: str) -> None:
  """Writes the model directory of a classifier with random weights.

  Args:
    config_file: JSON with the shape of the model.
    tokenizer: the file that `train_tokenizer` wrote.
    folder: the model directory.
  """
  config = dataclasses.replace(
    configs.AlbertConfig.from_file(config_file), vocab_size=_PIECES
  )
  names = ["Болд", "Дулмаа"]
  model = classifier.Classifier(config, len(names), seed=0)
  model_directory.save(
    folder,
    classifier.KIND,
    config=config,
    parts=model.parts(),
    tokenizer_file=tokenizer,
    parameters={"do_lower_case": False, "max_seq_length": 64},
    counts={},
    inputs={},
    labels=names,
  )


@contextlib.contextmanager
def served(model: str, *flags: str) -> Iterator[tuple[str, int]]:
  """Starts a server; yields host:port and its process id; ends the server.

  Args:
    model: the model directory.
    *flags: further flags of the server.

  Raises:
    AssertionError: when the server ends before it serves.
  """
  with subprocess.Popen(
    [
      sys.executable,
      "-m",
      "bert_tweet.serve",
      f"--model_dir={model}",
      "--port=0",
      *flags,
    ],
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stderr
    try:
      for line in process.stderr:
        if address := re.search(r" at (http://\S+)", line):
          break
      else:
        raise AssertionError("it ended before it served")
      # The log must be read to its end; the server would block at a full pipe.
      threading.Thread(target=process.stderr.read, daemon=True).start()
      time.sleep(5)  # meanwhile the server traces its first explanation
      yield urllib.parse.urlsplit(address[1]).netloc, process.pid
    finally:
      process.terminate()
