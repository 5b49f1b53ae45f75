"""Real bitext from packages of Debian and from Unicode's CLDR, for the quick start."""
