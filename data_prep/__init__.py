"""Turns raw text into TFRecords for pretraining and rows for classification."""
