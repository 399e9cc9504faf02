r"""Fine-tunes ALBERT or BERT on labelled texts, evaluates, and predicts.

    python run_classifier.py --do_train --do_eval --data_dir=sample/sib200 \
      --label_column=category --init_checkpoint=run/model --output_dir=topics
"""

from albert_mn.finetune import adaptation, classification, fine_tuning
from data_prep.base import options


def main(
  settings: classification.Options,
  recipe: fine_tuning.Recipe,
  adapting: adaptation.Options,
) -> None:
  """Trains, evaluates and predicts: --do_train, --do_eval, --do_predict."""
  classification.run(settings, recipe, adapting)


if __name__ == "__main__":
  options.run(
    main, classification.Options, fine_tuning.Recipe, adaptation.Options
  )
