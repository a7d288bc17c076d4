"""The Faust side: the app, its agents, and a consumer that delivers whole fetches and never commits offsets."""
