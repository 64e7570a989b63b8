"""Hydra groups: one YAML for one choice."""
