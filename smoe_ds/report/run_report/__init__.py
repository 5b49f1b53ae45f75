"""What ``smoe-ds report`` writes: everything that is known of some runs, side by side, as one HTML file."""
