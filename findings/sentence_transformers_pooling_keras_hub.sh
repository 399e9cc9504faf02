#!/usr/bin/env bash
# sentence-transformers 6.2.0 and keras-hub 0.32.0: a model with [CLS] pooling
# becomes one with mean pooling.
#
# sentence-transformers saves 1_Pooling/config.json with one key,
# "pooling_mode": "cls". keras-hub's converter for BERT reads the three
# Booleans that earlier versions wrote (pooling_mode_cls_token, …), and takes
# the mean where none is true. So a directory that sentence-transformers 6
# saved is pooled by the mean in keras_hub.models.BertTextEmbedder, without a
# message; one in the earlier form is pooled rightly. Seen on 2026-12-01:
#
#   saved by sentence-transformers 6.2.0    {"pooling_mode": "cls", …} → mean
#   the Booleans of earlier versions        → cls
#
# In the product: nothing reads these files yet; an export for
# sentence-transformers has to write both forms.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 sentence-transformers==6.2.0 keras-hub==0.32.0 keras==3.15.1
cd "$folder"
KERAS_BACKEND=torch venv/bin/python - <<'PYTHON'
import json
import pathlib

from keras_hub.src.utils.transformers import convert_bert
from sentence_transformers.sentence_transformer.modules import pooling

folder = pathlib.Path("1_Pooling")
folder.mkdir()
pathlib.Path("config.json").write_text('{"model_type": "bert"}')
pooling.Pooling(16, pooling_mode="cls").save(str(folder))
path = folder / "config.json"
print("saved:", json.loads(path.read_text()))
now = convert_bert.load_task_config(".", {})
path.write_text(json.dumps({"pooling_mode_cls_token": True}))
before = convert_bert.load_task_config(".", {})
print("keras-hub:", now, "and, from the earlier form,", before)
assert (now, before) == ({"pooling_mode": "mean"}, {"pooling_mode": "cls"})
PYTHON
