"""What trained experts do."""
