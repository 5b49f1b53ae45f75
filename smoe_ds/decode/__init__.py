"""Decoding: beam search, forced-decoding scores, translation of text by a trained model.

Shape letters of this package: ``B`` sentences, ``S`` source positions, ``T`` target positions, ``K`` hypotheses kept
per sentence (the beam), ``W`` live hypotheses per sentence (1 in the first step, then K), ``R`` = B * W rows of the
model's batch, ``C`` candidates per sentence (2K), ``N`` next tokens looked at per row, or finished hypotheses,
``V`` vocabulary.
"""
