"""Tasks on top of an encoder: kinds of labels, classifier, tagger, baseline."""
