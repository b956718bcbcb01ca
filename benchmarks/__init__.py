"""Measurements, never tests: speed against peers, quality against peers."""
