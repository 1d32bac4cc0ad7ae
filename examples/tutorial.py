"""The tutorial's experiment, as its reader types it: the same long prefix twice, each call timed.

    headstart serve                                          # in another terminal
    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none python examples/tutorial.py

Without OPENAI_BASE_URL, and with a key of yours, it asks OpenAI itself.
"""

import time

from openai import OpenAI

client = OpenAI()

long_prefix = (
    "You are a highly knowledgeable assistant specialized in machine learning.\n"
    "Answer questions with detailed, structured explanations, including examples when relevant."
) * 200

for question in ("What is overfitting in machine learning?", "What's regularization?"):
    start = time.time()
    response = client.responses.create(model="gpt-4.1-mini", input=long_prefix + question)
    print(f"{question}  {time.time() - start:.2f} s")
    usage = response.usage
    if usage is not None:
        print(f"  {usage.input_tokens} input tokens, {usage.input_tokens_details.cached_tokens} of them cached")
