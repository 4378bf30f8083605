"""The method told with the figures of one text: what "How it works" says of it."""
