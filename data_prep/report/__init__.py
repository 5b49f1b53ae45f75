"""What a preparation tells of itself: ``report.json``, its text, and TensorBoard."""
