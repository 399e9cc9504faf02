"""Tests that every option refuses wrong values, whoever makes an instance.

The class of fault was found in this project's own review: flags let nan and
infinity by, and bounds held for flags alone.
"""

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from absl import flags

from data_prep.base import options
from data_prep.pretraining import examples
from tests import option_classes

CLASSES = option_classes.every()
# In no option's choices.
NO_CHOICE = "no such choice"


def _fields(cls: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], type]]:
  kinds = typing.get_type_hints(cls)
  for field in filter(options.is_option, dataclasses.fields(cls)):
    yield field, kinds[field.name]


per_class = pytest.mark.parametrize(
  "cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}"
)


def _outside(field: dataclasses.Field[Any], kind: type) -> list[Any]:
  """Returns numbers just outside the bounds of a number."""
  limits, step = field.metadata, 1 if kind is int else 1e-9
  return [
    *([limits["minimum"] - step] if limits["minimum"] is not None else []),
    *([limits["maximum"] + step] if limits["maximum"] is not None else []),
    *([limits["above"]] if limits["above"] is not None else []),
    *([limits["under"]] if limits["under"] is not None else []),
  ]


def _wrong(field: dataclasses.Field[Any], kind: type) -> list[Any]:
  """Returns values that an option must refuse."""
  none_of_any = [None, [], {}, b"1", object()]
  if kind in (int, float):
    never = [math.nan, math.inf, -math.inf, 10**400, -(10**400), "1", True, 1j]
    whole = [1.5, 1.0] if kind is int else []
    return [*none_of_any, *never, *whole, *_outside(field, kind)]
  if kind is bool:
    return [*none_of_any, 0, 1, 1.0, "true", ""]
  chosen = [NO_CHOICE, ""] if field.metadata["choices"] else []
  return [*none_of_any, 1, 1.5, True, *chosen]


def _wrong_texts(field: dataclasses.Field[Any], kind: type) -> list[str]:
  """Returns the texts of a flag that the flag must refuse."""
  if kind in (int, float):
    never = ["nan", "NaN", "-nan", "inf", "-inf", "infinity", "1e999", "", "x"]
    outside = [str(value) for value in _outside(field, kind)]
    return never + outside + ["9" * 5000]
  if kind is bool:
    return ["maybe", "2", "nan"]
  return [NO_CHOICE, ""] if field.metadata["choices"] else []


def test_every_class_with_options_is_found() -> None:
  names = {f"{cls.__module__}.{cls.__name__}" for cls in CLASSES}
  assert {
    "albert_mn.pretrain.run_options.Options",
    "albert_mn.finetune.fine_tuning.Recipe",
    "data_prep.classification.classifier_data.Columns",
    "data_prep.pretraining.examples.Recipe",
    "bert_tweet.server.Options",
  } <= names
  assert sum(len(list(_fields(cls))) for cls in CLASSES) > 250


@per_class
def test_every_class_of_options_checks_itself(cls: type[Any]) -> None:
  assert issubclass(cls, options.Group), f"derive {cls} from options.Group"
  assert "__post_init__" not in vars(cls), "override check instead"


@per_class
def test_an_option_refuses_what_it_cannot_mean(cls: type[Any]) -> None:
  for field, kind in _fields(cls):
    for value in _wrong(field, kind):
      with pytest.raises(options.InputError) as refused:
        cls(**{field.name: value})
      flag = options.flag_name(field)
      assert refused.value.expected.startswith(f"--{flag} to be "), value


@per_class
def test_a_flag_refuses_what_it_cannot_mean(cls: type[Any]) -> None:
  own = flags.FlagValues()
  options.define(cls, into=own)
  for field, kind in _fields(cls):
    for text in _wrong_texts(field, kind):
      with pytest.raises(flags.IllegalFlagValueError, match="expected "):
        own(["program", f"--{options.flag_name(field)}={text}"])


@per_class
def test_an_option_takes_its_default_its_bounds_and_its_choices(
  cls: type[Any],
) -> None:
  for field, kind in _fields(cls):
    limits = field.metadata
    ends = [limits["minimum"], limits["maximum"]]
    values = [field.default, *(end for end in ends if end is not None)]
    if kind is float:
      values += [int(value) for value in values if value == int(value)]
    for value in [*values, *limits["choices"]]:
      try:
        cls(**{field.name: value})
      except options.InputError as error:  # options that do not go together
        flag = options.flag_name(field)
        assert not error.expected.startswith(f"--{flag} to be "), value


@per_class
def test_every_number_has_a_lower_bound(cls: type[Any]) -> None:
  for field, kind in _fields(cls):
    if kind in (int, float):
      limits = field.metadata
      stated = limits["minimum"] is not None or limits["above"] is not None
      assert stated, field.name


def test_a_copy_with_another_value_is_checked_too() -> None:
  recipe = examples.Recipe()
  with pytest.raises(options.InputError, match="masked_lm_prob to be a finite"):
    dataclasses.replace(recipe, masked_lm_prob=7.0)
  with pytest.raises(options.InputError, match="short_seq_prob to be a finite"):
    examples.Recipe.of({"short_seq_prob": 7.0})


def test_a_class_that_inherits_options_checks_those_it_inherits() -> None:
  @dataclasses.dataclass(frozen=True)
  class Base(options.Group):
    share: float = options.option(0.5, "A share.", minimum=0, under=1)

  @dataclasses.dataclass(frozen=True)
  class Derived(Base):
    count: int = options.option(1, "A count.", minimum=1)

    def check(self) -> None:
      assert 0 <= self.share < 1, "the types and bounds are checked first"

  for given in ({"share": math.nan}, {"share": 1.0}, {"count": 0}):
    with pytest.raises(options.InputError):
      Derived(**given)
  assert Derived(share=0, count=2).share == 0
