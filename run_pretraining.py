"""Pretrains ALBERT on TFRecords and evaluates it on held-out ones.

    python run_pretraining.py --do_train --do_eval \\
      --input_file='records/train-*' --eval_input_file='records/eval-*' \\
      --albert_config_file=configs/albert_tiny.json --output_dir=run
"""

import os

# tf-models is written for Keras 2, and asks for it through this variable,
# which TensorFlow reads when it is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from albert_mn import optimization, training  # noqa: E402
from data_prep import options  # noqa: E402


def main(
  settings: training.Options, optimizer: optimization.OptimizerOptions
) -> None:
  """Trains, evaluates, writes."""
  training.run(settings, optimizer)


if __name__ == "__main__":
  options.run(main, training.Options, optimization.OptimizerOptions)
