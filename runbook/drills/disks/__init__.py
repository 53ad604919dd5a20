"""Disks that fail their server: what was seen and kept meanwhile, and what an operator does about it."""
