"""The parameters and counts of manifests that programs read back.

A manifest may have further parameters and counts: they tell people how an
artefact was made, or belong to a class of options that reads them itself.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

_NULL = {"null": True}  # the metadata of a field that may be null in a file


@dataclasses.dataclass(frozen=True)
class _Fields:
  """The base class of `Parameters` and `Counts`.

  A field is a named value in a manifest; None if the manifest lacks the value.
  """

  @classmethod
  def of(cls, values: Mapping[str, Any]) -> Self:
    """Returns an instance with a manifest's parameters or counts.

    Names that are not fields of the class are ignored; fields without a value
    are None.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    return cls(**{name: values[name] for name in names if name in values})

  def stated(self) -> dict[str, Any]:
    """Returns name → value of the fields that are not None, in their order."""
    values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return {name: value for name, value in values.items() if value is not None}

  @classmethod
  def types(cls) -> dict[str, Any]:
    """Returns name of a field → type of its value in a file.

    The type includes None only for fields that may be null in a file.
    """
    hints = typing.get_type_hints(cls)
    return {
      field.name: hints[field.name]
      if field.metadata.get("null")
      else _without_none(hints[field.name])
      for field in dataclasses.fields(cls)
    }


def _without_none(hint: Any) -> Any:
  """Returns a type without None: `int` for `int | None`."""
  (kind,) = (arg for arg in typing.get_args(hint) if arg is not types.NoneType)
  return kind


@dataclasses.dataclass(frozen=True)
class Parameters(_Fields):
  """Parameters of a model directory, a set of rows, or records.

  Attributes:
    cleaning: the options with which a model's texts are cleaned; {} or None if
      they are not cleaned.
    text_pair: whether an input of a model is a pair of texts.
    long_text: which part of a too long text a model reads, an option of
      framing.Framer.
    label_type: the kind of a model's labels, the TYPE of a problems.Problem.
    max_seq_length: the largest number of ids of an input.
    standardised_by: "mean" and "deviation" of the numbers of a regression,
      which the model learns as (number − mean) / deviation.
    temperature: the divisor of a classifier's logits.
    pooling: what the head of a classifier reads, one of pooling.KINDS: cls,
      mean or max.
    blended: the factors of a network's logits and of the TF-IDF baseline's
      scores, of which blend.Blend takes the sum.
    columns: the names of the columns of a set of rows.
    vocab_size: the number of pieces of the tokenizer of records.
  """

  cleaning: dict | None = dataclasses.field(default=None, metadata=_NULL)  # type: ignore[type-arg]
  text_pair: bool | None = None
  long_text: str | None = None
  label_type: str | None = None
  max_seq_length: int | None = None
  standardised_by: dict | None = None  # type: ignore[type-arg]
  temperature: float | None = None
  pooling: str | None = None
  blended: dict | None = None  # type: ignore[type-arg]
  columns: dict | None = None  # type: ignore[type-arg]
  vocab_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Counts(_Fields):
  """Counts and the loss of a model directory, or counts of records.

  Attributes:
    global_step: the number of training steps of a model.
    loss: the held-out loss of a model.
    eval_examples, train_examples: numbers of examples in records.
    train_positions, train_padding: numbers of ids in the training records, and
      of the padding among them.
  """

  global_step: int | None = None
  loss: float | None = None
  eval_examples: int | None = None
  train_examples: int | None = None
  train_positions: int | None = None
  train_padding: int | None = None
