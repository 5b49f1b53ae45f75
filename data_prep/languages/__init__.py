"""Language codes and the scripts that languages are written in."""
