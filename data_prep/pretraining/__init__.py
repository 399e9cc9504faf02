"""Turns a corpus into masked examples for pretraining, and into TFRecords."""
