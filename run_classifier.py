"""Fine-tunes ALBERT on labelled texts, evaluates it, predicts with it.

    python run_classifier.py --do_train --do_eval --data_dir=sample/sib200 \\
      --label_column=category --init_checkpoint=run/model --output_dir=topics
"""

import os

# tf-models is written for Keras 2, and asks for it through this variable,
# which TensorFlow reads when it is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from albert_mn import classification, fine_tuning  # noqa: E402
from data_prep import options  # noqa: E402


def main(settings: classification.Options, recipe: fine_tuning.Recipe) -> None:
  """Trains, evaluates, predicts."""
  classification.run(settings, recipe)


if __name__ == "__main__":
  options.run(main, classification.Options, fine_tuning.Recipe)
