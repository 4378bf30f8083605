"""From summaries to what people read: `docs/results.md`, the README's table, and charts."""
