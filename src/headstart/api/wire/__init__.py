"""The bodies that clients send, as msgspec types: nothing outside `api` sees them."""
