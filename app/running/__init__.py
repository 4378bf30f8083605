"""The models behind the page: who holds them, what is being written, and for which browser window."""
