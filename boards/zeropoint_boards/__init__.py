"""Platforms, clocks and pins of boards that carry an accelerator; there are none yet."""
