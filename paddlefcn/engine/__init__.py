"""Training and evaluation of built objects; knows no model, no config file and no component by name."""
