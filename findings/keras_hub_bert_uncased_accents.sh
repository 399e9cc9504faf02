#!/usr/bin/env bash
# keras-hub 0.32.0: the tokenizer of an uncased BERT keeps й and ё, which the
# model's own tokenizer turned into и and е.
#
# A directory with vocab.txt and do_lower_case: true is an uncased BERT, such as
# google's multilingual one. Its pieces were made from text without accents
# (google-research's tokenization.py, transformers, tokenizers' BertNormalizer):
# сайн is the piece саин. keras_hub.tokenizers.BertTokenizer.from_preset sets
# lowercase and leaves strip_accents off, so that the words are others, mostly
# [UNK], without a message. strip_accents=True, set by hand, agrees. Seen on
# 2026-12-01:
#
#   Сайн хоёр.   tokenizers: саин хоер .   keras-hub: [UNK] [UNK] .
#
# In the product: a table in docs/migration.md.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  keras-hub==0.32.0 keras==3.15.1 tensorflow==2.20.0 tensorflow-text==2.20.1 \
  tokenizers==0.23.3 safetensors==0.8.0
cd "$folder"
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import json
import pathlib

import keras_hub
import tokenizers

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] саин хоер .".split()
pathlib.Path("vocab.txt").write_text("\n".join(PIECES) + "\n")
pathlib.Path("config.json").write_text(
    json.dumps({"model_type": "bert", "vocab_size": len(PIECES)}))
pathlib.Path("tokenizer_config.json").write_text(
    json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"}))

own = tokenizers.Tokenizer(tokenizers.models.WordPiece(
    {piece: number for number, piece in enumerate(PIECES)},
    unk_token="[UNK]"))
own.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
own.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
preset = keras_hub.tokenizers.BertTokenizer.from_preset(".")
stripped = keras_hub.tokenizers.BertTokenizer(
    vocabulary=PIECES, lowercase=True, strip_accents=True)

text = "Сайн хоёр."
print("tokenizers:", own.encode(text).tokens)
for name, tokenizer, expected in [
  ("keras-hub from_preset", preset, ["[UNK]", "[UNK]", "."]),
  ("keras-hub strip_accents=True", stripped, ["саин", "хоер", "."]),
]:
  pieces = [PIECES[int(number)] for number in tokenizer(text)]
  print(f"{name}:", pieces)
  assert pieces == expected
assert own.encode(text).tokens == ["саин", "хоер", "."]
PYTHON
