"""The stages of a preparation, a file each: hash, read, encode, write; ``*_piece`` is what one worker does."""
