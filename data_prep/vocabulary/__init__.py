"""The SentencePiece vocabulary: the text it is trained on, the training, and how well it covers each language.

Shape letters of this package: ``N`` sentences, ``V`` vocabulary.
"""
