"""Recipes: YAML to frozen, validated dataclasses. Imports no paddle and knows no component."""

from __future__ import annotations

from paddlefcn.arguments import Component
from paddlefcn.config.data_section import DataConfig
from paddlefcn.config.recipe import Config, TrainConfig, load_config, parse_config, read_tree

__all__ = ["Component", "Config", "DataConfig", "TrainConfig", "load_config", "parse_config", "read_tree"]
