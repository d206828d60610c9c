"""The laws of every loss and metric, each tried on all of them."""
