"""The labelled rows of a run, by their use."""

import dataclasses

from data_prep.classification import classifier_data

# The task whose scores have the names that google-research gives to them.
TWEETS = "tweetmn"


@dataclasses.dataclass(frozen=True)
class Rows:
  """The labelled rows of a run; only `held_out` may be given.

  Attributes:
    copied: line numbers of held-out rows that are near copies of training rows;
      None if this was not checked.
    spared: whether the validation rows were taken from the training rows.
  """

  train: list[classifier_data.Row] = dataclasses.field(default_factory=list)
  validation: list[classifier_data.Row] = dataclasses.field(
    default_factory=list
  )
  held_out: list[classifier_data.Row] = dataclasses.field(default_factory=list)
  copied: set[int] | None = None
  spared: bool = False
