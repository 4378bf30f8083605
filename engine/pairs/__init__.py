"""Which two models make a pair, where each comes from, and whether they can be had here: before anything is loaded."""
