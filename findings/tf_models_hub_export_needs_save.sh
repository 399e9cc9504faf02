#!/usr/bin/env bash
# tf-models-official 2.20.0: the TF Hub export refuses checkpoints of Checkpoint.write()
#
# With masked LM, the export reads checkpoints of Checkpoint.save() alone.
# Both methods write the same weights of the same model. save() adds a variable,
# save_counter, to what is written. export_tfhub_lib.export_model(with_mlm=True)
# restores with a Checkpoint that has made its own save_counter and asserts that
# every one of its objects was in the file, so that a checkpoint without the
# counter, which tf.train.Checkpoint's documentation allows, ends the export with an
# AssertionError. Seen on 2026-11-30 with tensorflow 2.20.0:
#
#   write()   AssertionError: Found 1 Python objects that were not bound … save_counter
#   save()    exported
#
# In the product: albert_mn/formats/tf_models_checkpoints.py reads both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# Without dependencies: the export needs few of those that the package names.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
  tf-models-official==2.20.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow-cpu==2.20.0 tf-keras==2.20.1 tensorflow-hub==0.16.1 \
  tensorflow-text==2.20.1 gin-config==0.5.0 PyYAML==6.0.3 psutil==7.1.3 \
  sentencepiece==0.2.3 scipy==1.17.1
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tensorflow as tf
import tf_keras
from official.nlp.configs import encoders
from official.nlp.modeling import models
from official.nlp.tools import export_tfhub_lib

pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"абвгдеёжзийклмн"]
with open("vocab.txt", "w") as file:
  file.write("\n".join(pieces))
config = encoders.EncoderConfig(type="bert")
config.bert = encoders.BertEncoderConfig(
  vocab_size=len(pieces), hidden_size=8, num_layers=1, num_attention_heads=2,
  intermediate_size=8, max_position_embeddings=16,
)
model = models.BertPretrainerV2(
  encoder_network=encoders.build_encoder(config),
  mlm_activation=tf_keras.activations.get("gelu"), mlm_initializer="zeros",
)
model(model.inputs)


def export(method):
  # A new object: one that has saved before writes its counter too.
  checkpoint = tf.train.Checkpoint(**model.checkpoint_items)
  path = getattr(checkpoint, method)(f"{method}_checkpoint/weights")
  export_tfhub_lib.export_model(
    f"{method}_module", encoder_config=config, model_checkpoint_path=path,
    with_mlm=True, vocab_file="vocab.txt", do_lower_case=False,
  )


export("save")
print("save(): exported")
try:
  export("write")
except AssertionError as error:
  print("write(): AssertionError:", error)
  assert "save_counter" in str(error)
else:
  raise SystemExit("write(): exported; expected an AssertionError")
PYTHON
