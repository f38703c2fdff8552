"""What `Store` and `Collection` are made of: everything that means the same on every backend."""
