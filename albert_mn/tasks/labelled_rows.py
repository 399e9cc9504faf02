"""The labelled rows of a run, grouped by use."""

import dataclasses

from data_prep.classification import classifier_data

# The task whose scores have the names that google-research gives to them.
TWEETS = "tweetmn"


@dataclasses.dataclass(frozen=True)
class Rows:
  """The labelled rows of a run. A use for which no rows are given has [].

  Attributes:
    train: the rows to train on.
    validation: the rows that choose the weights to keep, and on which the
      temperature and the blend are fitted.
    held_out: the rows to evaluate on.
    copied: line numbers of held-out rows that are near copies of training rows;
      None if this was not checked.
    validation_from_train: whether the validation rows were taken from the training rows.
  """

  train: list[classifier_data.Row] = dataclasses.field(default_factory=list)
  validation: list[classifier_data.Row] = dataclasses.field(
    default_factory=list
  )
  held_out: list[classifier_data.Row] = dataclasses.field(default_factory=list)
  copied: set[int] | None = None
  validation_from_train: bool = False
