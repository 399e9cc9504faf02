"""Who would have tweeted this? The tweet-author task."""
