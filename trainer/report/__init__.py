"""What the measured rows say: one small JSON file, the tables of the documents, and two charts."""
