"""A cache on paper: what caches of other sizes, policies and lives would have made of a recorded trace."""
