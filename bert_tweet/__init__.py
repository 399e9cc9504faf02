"""The tweet-author task: predictions, a server and the attention page."""
