"""ALBERT and BERT for Mongolian: models, training, classification."""

import os

# TensorFlow reads these variables when it is imported, so they are set before
# any module here imports it. tf-models is written for Keras 2, and needs this
# one.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Errors arrive as Python exceptions. Below level 3, TensorFlow also warns on
# standard error, in every program, that a machine has no GPU.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
