"""A text taken away as a trace, a page, Markdown or a link, and traces and links opened again."""
