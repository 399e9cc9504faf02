"""The labelled rows of a run, grouped by use."""

import dataclasses

from data_prep.classification import classifier_data

# The task whose scores have the names that google-research gives to them.
TWEETS = "tweetmn"


@dataclasses.dataclass(frozen=True)
class Rows:
  """The labelled rows of a run, in one list for each use.

  Attributes:
    train: the rows to train on; [] if there are none.
    validation: the rows that choose the weights to keep, and on which the
      temperature and the blend are fitted; [] if there are none.
    held_out: the rows to evaluate on; [] if there are none.
    copied: line numbers of held-out rows that are near copies of training rows;
      None if this was not checked.
    validation_from_train: whether the validation rows were taken from the
      training rows.
  """

  train: list[classifier_data.Row] = dataclasses.field(default_factory=list)
  validation: list[classifier_data.Row] = dataclasses.field(
    default_factory=list
  )
  held_out: list[classifier_data.Row] = dataclasses.field(default_factory=list)
  copied: set[int] | None = None
  validation_from_train: bool = False
