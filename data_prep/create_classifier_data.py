r"""Splits labelled rows into frozen train, dev and test files.

    python -m data_prep.create_classifier_data --input_file=rows.csv \
      --text_column=text --label_column=label --output_dir=rows
"""

from data_prep.base import options
from data_prep.classification import classifier_data, classifier_sets, tweets


def main(
  settings: classifier_sets.Options,
  columns: classifier_data.Columns,
  cleaning: tweets.Options,
) -> None:
  """Writes the set of rows; logs how many rows each part and label has."""
  classifier_sets.build(settings, columns, cleaning)


if __name__ == "__main__":
  options.run(
    main, classifier_sets.Options, classifier_data.Columns, tweets.Options
  )
