"""The laptop: `bucketscribe up` starts embedded servers and everything of ours in one terminal."""
