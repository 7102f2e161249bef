"""How fast and how small the launcher is, beside what it replaces: `make bench`."""
