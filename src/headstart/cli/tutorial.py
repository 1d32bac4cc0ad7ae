"""The tutorial's prompts: a long prefix that repeats, and questions behind it."""

from __future__ import annotations

INSTRUCTIONS = (
    "You are a highly knowledgeable assistant specialized in machine learning.\n"
    "Answer questions with detailed, structured explanations, including examples when relevant."
)
LONG_PREFIX = INSTRUCTIONS * 200
"""4,600 tokens of o200k_base: with the first question and the chat's own tokens the tutorial's 4,616."""

QUESTIONS = (
    "What is overfitting in machine learning?",
    "What's regularization?",
    "What is gradient descent?",
    "How does cross-validation work?",
    "What is the bias-variance trade-off?",
    "When is a random forest a good choice?",
)
"""The first two are the tutorial's."""
