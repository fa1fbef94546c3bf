"""Our models timed against same-shaped peers, on this machine. See README.md here; nothing imports this package."""
