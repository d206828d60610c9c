"""Ranking metrics: one value per list.

Every function takes ``labels``, ``scores`` (B, L) and an optional boolean ``mask`` (B, L), some also item ``weights``
(B, L), and returns (B,). Items of equal score stand in random order: the value is its expectation, exactly (McSherry
and Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores", ECIR
2008). So it neither depends on the order of the input nor rewards a constant score. A list without a relevant item
scores 0; a list with a NaN among the scores of its items, NaN.
"""
