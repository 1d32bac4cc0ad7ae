"""The tutorial's prompts: a long prefix that repeats, and questions behind it."""

from __future__ import annotations

INSTRUCTIONS = (
    "\nYou are a highly knowledgeable assistant specialized in machine learning.\n"
    "Answer questions with detailed, structured explanations, including examples when relevant.\n"
)
LONG_PREFIX = INSTRUCTIONS * 200
"""4.6 k tokens of o200k_base: beyond the 1,024 from which prefixes are cached."""

QUESTIONS = (
    "What is overfitting in machine learning?",
    "What's regularization?",
    "What is gradient descent?",
    "How does cross-validation work?",
    "What is the bias-variance trade-off?",
    "When is a random forest a good choice?",
)
"""The first two are the tutorial's."""
