"""Cleans a model's input texts as its training rows were cleaned."""

from collections.abc import Callable, Mapping
from typing import Any

from data_prep.classification import tweets
from data_prep.files import json_files, manifest_fields
from data_prep.text import alignment

# Cleans a text, and keeps where each letter came from.
Clean = Callable[[str], alignment.Traced]


def of_model(parameters: Mapping[str, Any]) -> Clean | None:
  """Returns the function that cleans a model's input texts, or None.

  The function returns the cleaned text, with the position in the given text
  from which each character comes. The result is None if the manifest states no
  cleaning. A text that starts with tweets.MARK and a space is not cleaned
  again.

  Args:
    parameters: the parameters in the manifest of a model directory.

  Raises:
    options.InputError: when the manifest's `cleaning` is damaged.
  """
  stated = manifest_fields.Parameters.of(parameters).cleaning
  if not stated:
    return None
  origin = "cleaning in a classifier's manifest"
  given = json_files.made(tweets.Options, stated, origin)

  def clean(text: str) -> alignment.Traced:
    if text.startswith(f"{tweets.MARK} "):  # cleaned already
      return alignment.Traced.of(text)
    return tweets.traced(text, given.latin_mongolian)

  return clean
