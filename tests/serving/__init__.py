"""Exports of the models of both examples, asked in every way that a server is asked."""
