#!/usr/bin/env bash
# sentencepiece 0.2.3: training does not see a user-defined symbol with capitals
#
# With normalization_rule_name=nmt_nfkc_cf, which lower-cases, encoding leaves a
# user-defined symbol such as [URL] as it is. Training lower-cases it first, so
# that it reads [url]: the symbol is never matched, and its letters become pieces
# that real text does not need. Seen on 2026-12-01, 400 Mongolian sentences with
# [URL] in the middle, 150 pieces asked for:
#
#   nmt_nfkc       pieces of Latin letters and brackets: none
#   nmt_nfkc_cf    pieces of Latin letters and brackets: [ ] l r u
#
# In both, "хаяг [URL]" is encoded with the symbol.
#
# In the product: train_tokenizer --do_lower_case trains on text without the symbols
# of --user_defined_symbols that lower-casing changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  sentencepiece==0.2.3
"$folder/venv/bin/python" - <<'PYTHON'
import io

import sentencepiece as spm

WORDS = "нэг хоёр гурав дөрөв тав зургаа долоо найм ес арав".split()
LINES = [f"Энэ мэдээг [URL] хаягаас уншина уу {word}" for word in WORDS] * 40
for rule, expected in [("nmt_nfkc", ""), ("nmt_nfkc_cf", "[]lru")]:
  model = io.BytesIO()
  spm.SentencePieceTrainer.train(
      sentence_iterator=iter(LINES), model_writer=model, vocab_size=150,
      hard_vocab_limit=False, normalization_rule_name=rule, num_threads=1,
      user_defined_symbols=["[URL]"], minloglevel=2)
  processor = spm.SentencePieceProcessor(model_proto=model.getvalue())
  pieces = map(processor.id_to_piece, range(processor.get_piece_size()))
  learnt = "".join(sorted(
      p for p in pieces if p not in ("<unk>", "[URL]") and set("[]url") & set(p)))
  print(rule, "pieces of the symbol's letters:", learnt or "none")
  assert learnt == expected
  assert processor.encode("хаяг [URL]", out_type=str)[-1] == "[URL]"
PYTHON
