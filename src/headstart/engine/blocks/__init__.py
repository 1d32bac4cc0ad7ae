"""Where blocks of state are kept outside the context: main memory and disk."""
