"""What ties evidence together: to one request, to one key, and item to item."""
