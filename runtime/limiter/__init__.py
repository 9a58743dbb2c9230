"""Limits: pure meters (how much is free, and when), one arbiter a set (who is given it), owners (who gives it back)."""
