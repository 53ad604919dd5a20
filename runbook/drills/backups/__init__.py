"""Backups: how they are taken and spoiled, and what a fresh server makes of them."""
