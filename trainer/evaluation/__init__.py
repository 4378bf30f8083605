"""What a router is worth: every method measured on questions no router saw, and summarised."""
