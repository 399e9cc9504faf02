"""The models: their shapes, their layers, and the folder that holds a model."""
