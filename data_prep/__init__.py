"""Text in, TFRecords out: what happens before a model sees anything."""
