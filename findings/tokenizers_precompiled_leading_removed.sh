#!/usr/bin/env bash
# tokenizers 0.23.3 with a SentencePiece 0.2.1 rule: one removed first letter
# shifts the offsets of the whole text.
#
# A SentencePiece model may be trained with a rule that maps a letter to nothing.
# tokenizers reads the compiled rules with its normalizer Precompiled. Where the
# letter stands inside or at the end of a text, the offsets of the others stay
# right. Where it stands first, every later letter is reported one place too
# early; with two of them, two places. The normalizer Replace, with the same rule,
# has the right offsets. Here the removed letter is "ъ". Seen on 2026-11-30:
#
#   ъсайн    Precompiled: с (0, 1) … н (3, 4)    Replace: с (1, 2) … н (4, 5)
#   ъъсайн   Precompiled: с (0, 1) … н (3, 4)    Replace: с (2, 3) … н (5, 6)
#   саъйн    both: с (0, 1), а (1, 2), й (3, 4), н (4, 5)
#
# In the product: data_prep/text/alignment.py aligns pieces with what the user
# typed and does not use these offsets.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tokenizers==0.23.3 sentencepiece==0.2.1 protobuf==6.33.2
cd "$folder"
venv/bin/python - <<'PYTHON'
import io

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

with open("rules.tsv", "w") as file:
  file.write("44A\t\n")  # ъ becomes nothing.
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
  sentence_iterator=iter(["сайн байна уу", "Монгол улс"]),
  model_writer=model, vocab_size=25, model_type="char",
  normalization_rule_tsv="rules.tsv", minloglevel=2,
)
proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
rules = proto.normalizer_spec.precompiled_charsmap


def offsets(normalizer, text):
  tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
  tokenizer.normalizer = normalizer
  # A token for each letter, so that each has offsets of its own.
  tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
  return tokenizer.encode(text).offsets


for text in ("ъсайн", "ъъсайн", "саъйн", "сайнъ"):
  kept = [place for place, letter in enumerate(text) if letter != "ъ"]
  right = [(place, place + 1) for place in kept]
  leading = len(text) - len(text.lstrip("ъ"))
  shifted = [(begin - leading, end - leading) for begin, end in right]
  by_rules = offsets(normalizers.Precompiled(rules), text)
  by_replacing = offsets(normalizers.Replace("ъ", ""), text)
  print(text, "Precompiled:", by_rules, "Replace:", by_replacing)
  assert by_replacing == right, f"expected {right}"
  assert by_rules == shifted, f"expected {shifted}"
PYTHON
