"""What was measured, made readable."""
