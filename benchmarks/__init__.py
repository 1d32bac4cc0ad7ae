"""Measurements behind docs/performance.md; see README.md here."""
