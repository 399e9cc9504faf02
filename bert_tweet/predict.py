"""Predicts the labels of texts, and prints one JSON object for each text.

  python -m bert_tweet.predict --model_dir=run/model --input_file=tweets.txt

A line of the output:

  {"line": 1, "text": "…", "label": "sports", "probabilities": {"sports": …}}
"""

import os
import sys

from absl import logging

from albert_mn.tasks import classifier
from bert_tweet import batching, predictions
from data_prep.base import options
from data_prep.files import text_lines


def main(settings: predictions.Options) -> None:
  """Loads the model; prints a JSON line for each line of the input, in order.

  For a line that cannot be read, the JSON line states the reason. The numbers
  of lines are logged.
  """
  predictor = classifier.Predictor.load(settings.model_dir)
  predictions.require_single_texts(predictor)
  most = settings.predict_batch_size
  predict = batching.of_like_length(predictor.probabilities, most)
  if not (settings.input_text or settings.input_file) and sys.stdin.isatty():
    logging.info("type one text in each line; Ctrl-D ends the program")
  good = bad = 0
  try:
    for batch in text_lines.gathered(settings.lines(), most):
      for answer in predictions.answers(batch, predictor.problem, predict):
        sys.stdout.write(answer + "\n")
      sys.stdout.flush()
      failed = sum(bool(line.error) for line in batch)
      bad, good = bad + failed, good + len(batch) - failed
  except BrokenPipeError:  # `| head` has read enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  logging.info("%d texts predicted, %d lines could not be read", good, bad)


if __name__ == "__main__":
  options.run(main, predictions.Options)
