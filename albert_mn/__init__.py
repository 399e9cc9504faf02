"""ALBERT and BERT for Mongolian: models, training, classification."""

import os

# TensorFlow reads these when it is imported, so they are set before any module
# here can do that. tf-models is written for Keras 2, and asks for it this way.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# What goes wrong arrives as a Python exception. Below this level a machine
# without a GPU is told so on standard error, by every program.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
