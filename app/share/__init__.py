"""A text taken away as a trace, a page, a picture or a link; and traces and links opened again."""
