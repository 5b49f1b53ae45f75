"""A study as text, Markdown, LaTeX and one HTML page, made of its rows alone."""
