"""What every request to a server of this project passes first, and the server that it runs in."""
