"""What is known of a line of text: its characters, its keys, its markup.

Shape letters of this package: ``N`` sentences, ``C`` characters of all of them, line ends included.
"""
