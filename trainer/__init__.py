"""Offline building of routers: the tiny pair, preference labels, router training and evaluation."""
