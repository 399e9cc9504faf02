"""Tests that the shipped configs can be read and have the published sizes."""

import math
import pathlib
from typing import Any

import pytest

from albert_mn.models import configs, encoders
from data_prep.base import options

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
# Millions of parameters: ALBERT (arXiv 1909.11942, table 1), BERT (1810.04805,
# section 3); of the encoder with its pooler.
PUBLISHED = {
  "albert_base": 12,
  "albert_large": 18,
  "albert_xlarge": 60,
  "albert_xxlarge": 235,
  "bert_base": 110,
  "bert_large": 340,
}
# They are rounded; what ALBERT-xxlarge's 235 counts, the paper does not say,
# and nobody who loads the published weights counts more than 223.
ROUNDING = {"albert_xxlarge": 0.06}


def _read(name: str) -> configs.AlbertConfig:
  bert = name.startswith("bert")
  family = configs.BertConfig if bert else configs.AlbertConfig
  return family.from_file(str(CONFIGS / f"{name}.json"))


def _parameters(config: configs.AlbertConfig) -> int:
  """Returns a model's number of parameters by the papers' formulas.

  The largest models would take minutes to build.
  """
  e, h, f = config.embedding_size, config.hidden_size, config.intermediate_size
  tables = config.vocab_size + config.max_position_embeddings
  block = 4 * (h * h + h) + (h * f + f) + (f * h + h) + 2 * 2 * h
  return (
    (tables + config.type_vocab_size) * e
    + 2 * e
    + (e * h + h) * (e != h)
    + block * config.num_hidden_groups * config.inner_group_num
    + h * h
    + h
  )


def test_the_formula_counts_what_an_encoder_has() -> None:
  albert = configs.AlbertConfig(
    60,
    embedding_size=8,
    hidden_size=16,
    num_hidden_layers=4,
    num_hidden_groups=2,
    inner_group_num=3,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=12,
  )
  bert = configs.BertConfig(
    60,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=12,
  )
  for config in (albert, bert):
    assert encoders.AlbertEncoder(config, 0).count_params() == _parameters(
      config
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_has_as_many_parameters_as_were_published(name: str) -> None:
  millions = _parameters(_read(name)) / 1e6
  assert millions == pytest.approx(
    PUBLISHED[name], rel=ROUNDING.get(name, 0.03)
  )


def test_every_config_is_read_and_its_heads_are_of_one_width() -> None:
  """Both papers have heads of width 64; the tiny config has heads of 32."""
  names = [path.stem for path in CONFIGS.glob("*.json")]
  assert set(PUBLISHED) < set(names)
  widths = {
    name: _read(name).hidden_size / _read(name).num_attention_heads
    for name in names
  }
  assert {name: width for name, width in widths.items() if width != 64} == {
    "albert_tiny": 32
  }


@pytest.mark.parametrize(
  "wrong",
  [
    {"hidden_size": 0},
    {"hidden_size": 2**63},
    {"vocab_size": 10**30},
    {"num_hidden_layers": 1.5},
    {"num_attention_heads": True},
    {"hidden_dropout_prob": math.nan},
    {"initializer_range": math.inf},
    {"layer_norm_eps": -1e-12},
    {"max_position_embeddings": "512"},
    {"hidden_act": "swish"},
  ],
  ids=str,
)
@pytest.mark.parametrize("family", configs.FAMILIES)
def test_a_config_refuses_wrong_values_whoever_makes_it(
  family: type[configs.AlbertConfig], wrong: dict[str, Any]
) -> None:
  values = {"vocab_size": 60} | wrong
  with pytest.raises(options.InputError, match=next(iter(wrong))):
    family(**values)
  with pytest.raises(options.InputError, match=next(iter(wrong))):
    family.from_dict(values, "a test")
