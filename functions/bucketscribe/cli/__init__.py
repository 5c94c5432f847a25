"""The command line on the Python client, and the starter of every process of ours."""
