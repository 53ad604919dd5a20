"""Damaged append-only files: how they are made, what is said of them, and what is concluded."""
