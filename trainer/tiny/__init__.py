"""The tiny pair: worked arithmetic, and two small models that are trained on it."""
