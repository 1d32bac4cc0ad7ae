"""What a log of requests says of caching: what was read, what could have been, and what to change. From a log's lines
to a report: `logs` -> `bodies` -> `replay` -> `findings` and `edits` -> `audit`."""
